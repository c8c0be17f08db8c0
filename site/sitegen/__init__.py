"""The site generator: a static leaderboard from the database. Never imports torch.

::

    from sitegen import build
    build(database, Path("public"), artifacts=Path("artifacts"))
"""

from sitegen.build import BuildReport, build
from sitegen.links import BrokenLinkError

__all__ = ["BrokenLinkError", "BuildReport", "build"]
