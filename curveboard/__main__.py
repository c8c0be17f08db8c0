"""``python -m curveboard``: the command line."""

from curveboard import main

if __name__ == "__main__":
    main()
