"""Plug-ins are files: every module of a package, of the workspace's folder and every entry point of a kind.

What kinds there are is not known here. A kind is a package, for instance ``benchmark.attacks``; its last part names the
workspace's folder (``attacks/``) and the group of entry points (``curveboard.attacks``).

The workspace's files are its maintainer's own code (`models_zoo.own_code`, docs/submitting.md).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from benchmark.errors import BenchmarkError, UnknownNameError
from models_zoo.own_code import import_file, use, workspace_folder, workspace_modules

__all__ = ["Named", "discover", "look_up", "use", "workspace_folder"]


class Named(Protocol):
    """Anything that can be registered."""

    @property
    def name(self) -> str:
        """The name it is looked up by."""


def discover(package: str, constant: str) -> Mapping[str, Any]:
    """All plug-ins of one kind, by name.

    Args:
        package: The package whose modules are searched, for instance ``"benchmark.attacks"``.
        constant: The module-level constant that holds the plug-in, for instance ``"ATTACK"``.

    Returns:
        The plug-ins by name, sorted.

    Raises:
        BenchmarkError: If two plug-ins claim one name, or one cannot be loaded or is none.
        OwnCodeError: If a file of the workspace cannot be imported.
    """
    return _discovered(package, constant, workspace_folder())


@cache
def _discovered(package: str, constant: str, root: Path | None) -> Mapping[str, Any]:
    kind = package.rpartition(".")[2]
    home = importlib.import_module(package)
    modules = (importlib.import_module(f"{package}.{m.name}") for m in pkgutil.iter_modules(home.__path__))
    found = [(m.__name__, getattr(m, constant)) for m in modules if hasattr(m, constant)]
    found += [
        (f"entry point {p.name!r}", _of_entry_point(p, constant)) for p in entry_points(group=f"curveboard.{kind}")
    ]
    if root is not None:
        found += _of_workspace(root, kind, constant)
    table: dict[str, tuple[str, Named]] = {}
    for place, plugin in found:
        if plugin.name in table:
            raise BenchmarkError(
                f"Two of the {kind} are called {plugin.name!r}: {table[plugin.name][0]} and {place}. Rename one."
            )
        table[plugin.name] = (place, plugin)
    return {name: table[name][1] for name in sorted(table)}


def _of_entry_point(point: EntryPoint, constant: str) -> Named:
    """What an entry point names, if it is a plug-in."""
    subject = f"The plug-in {point.name!r} ({point.value})"
    try:
        plugin = point.load()
    except Exception as error:
        raise BenchmarkError(f"{subject} cannot be loaded: {error!r}. Repair or uninstall it.") from error
    if isinstance(plugin, ModuleType):
        raise BenchmarkError(
            f"{subject} is a module; its entry point must name the constant in it: "
            f'{point.name} = "{plugin.__name__}:{constant}".'
        )
    return _named(plugin, subject)


def _named(plugin: Any, subject: str) -> Named:
    if not isinstance(getattr(plugin, "name", None), str):
        raise BenchmarkError(f"{subject} is {plugin!r:.80}, without a name; see docs/adding.md for what it must be.")
    named: Named = plugin
    return named


def _of_workspace(root: Path, kind: str, constant: str) -> list[tuple[str, Named]]:
    """The plug-ins in a workspace's folder; every file there is one, unless its name begins with an underscore."""
    found = []
    for path, name in workspace_modules(root, kind):
        module = import_file(path, name)
        if not hasattr(module, constant):
            raise BenchmarkError(
                f"{path} holds no {constant}; every file of this folder is a plug-in. "
                f"If it is a helper of others, let its name begin with an underscore: _{path.name}."
            )
        found.append((str(path), _named(getattr(module, constant), f"The {constant} of {path}")))
    return found


def look_up(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The plug-in called ``name``, or an error with the nearest names."""
    try:
        return table[name]
    except KeyError:
        raise UnknownNameError(kind, name, table) from None
