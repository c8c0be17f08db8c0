"""Where jobs run, one a file."""
