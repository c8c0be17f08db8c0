"""Curveboard, the library: ``import curveboard``; its names are those of `benchmark`.

The distribution's packages (``benchmark``, ``models_zoo``, ``db``, ``sitegen``) have everyday names, and a file
``benchmark.py`` or a folder ``db/`` beside a user's script would be found first. Once this package is imported, they
are looked for beside it and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from benchmark import *  # noqa: F403

_OURS: Final = frozenset({"benchmark", "models_zoo", "db", "sitegen"})
_HOME: Final = Path(__file__).resolve().parent.parent
_PLACES: Final = [str(_HOME), str(_HOME / "site")]
"""Where the packages lie: side by side when installed; the site generator in ``site/`` of the repository."""


class _BesideThis(MetaPathFinder):
    """Finds the distribution's packages beside this one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The distribution's package of that name; None for all other modules."""
        return PathFinder.find_spec(fullname, _PLACES) if fullname in _OURS else None


def _refuse_strangers() -> None:
    """Refuse to go on with modules of somebody else's under our packages' names."""
    for name in sorted(_OURS & set(sys.modules)):
        module = sys.modules[name]
        seen = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "?")
        if not any(Path(seen).resolve().is_relative_to(Path(place) / name) for place in _PLACES):
            raise ImportError(
                f"A module {name!r} is loaded from {seen}, but curveboard has a package of that name. "
                "Import curveboard first, or rename your module."
            )


_refuse_strangers()
if not any(isinstance(finder, _BesideThis) for finder in sys.meta_path):
    sys.meta_path.insert(0, _BesideThis())

import benchmark  # noqa: E402 - found only now

try:
    __version__ = version("curveboard")
except PackageNotFoundError:  # a bare checkout
    __version__ = "unknown"

__all__ = ["__version__", "main", *benchmark.__all__]  # noqa: PLE0604 - strings, all of them


def main() -> None:
    """The command line, ``curveboard``."""
    from benchmark.cli import main as run

    run()


def __getattr__(name: str) -> Any:
    if name in benchmark.__all__:
        return getattr(benchmark, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
