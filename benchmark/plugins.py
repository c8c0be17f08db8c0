"""Plug-ins are files: every module of a package, and every entry point of a group, that holds a given constant."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

from benchmark.errors import BenchmarkError, UnknownNameError


class Named(Protocol):
    """Anything that can be registered."""

    @property
    def name(self) -> str:
        """The name it is looked up by."""


@cache
def discover(package: str, constant: str) -> Mapping[str, Any]:
    """All plug-ins of one kind, by name.

    Args:
        package: The package whose modules are searched, for instance ``"benchmark.attacks"``; installed
            packages add theirs through entry points of the group ``curveboard.<last part>``.
        constant: The module-level constant that holds the plug-in, for instance ``"ATTACK"``.

    Returns:
        The plug-ins by name, sorted.

    Raises:
        BenchmarkError: If two plug-ins claim one name, or an entry point cannot be loaded.
    """
    home = importlib.import_module(package)
    modules = [importlib.import_module(f"{package}.{m.name}") for m in pkgutil.iter_modules(home.__path__)]
    found: list[Named] = [getattr(m, constant) for m in modules if hasattr(m, constant)]
    for point in entry_points(group=f"curveboard.{package.rpartition('.')[2]}"):
        try:
            found.append(point.load())
        except Exception as error:
            raise BenchmarkError(
                f"The plug-in {point.name!r} ({point.value}) cannot be loaded: {error!r}. Repair or uninstall it."
            ) from error
    table: dict[str, Named] = {}
    for plugin in found:
        if plugin.name in table:
            raise BenchmarkError(f"Two plug-ins of {package} are called {plugin.name!r}; rename one.")
        table[plugin.name] = plugin
    return dict(sorted(table.items()))


def look_up(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The plug-in called ``name``, or an error with the nearest names."""
    try:
        return table[name]
    except KeyError:
        raise UnknownNameError(kind, name, table) from None
