"""Architectures, one a file: plain torch modules.

To add an architecture, add a file here that holds ``VERSION`` (an integer, raised whenever the same weights would give
other outputs) and ``build(**arguments) -> nn.Module``; the file's name is the architecture's name. A workspace's
``architectures/`` holds further ones; an installed package adds its own through an entry point of the group
``curveboard.architectures`` that names such a module.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any

from models_zoo.errors import CardError, UnknownEntryError, ZooError, shown
from models_zoo.own_code import import_file, workspace_folder, workspace_modules
from models_zoo.versions import literal_version

if TYPE_CHECKING:
    from torch import Tensor, nn


def architectures() -> Mapping[str, str]:
    """The modules that hold the architectures, by the architecture's name. None is imported."""
    found = dict(_installed())
    root = workspace_folder()
    if root is not None:
        for path, module in workspace_modules(root, "architectures"):
            if path.stem in found:
                raise ZooError(
                    f"The architecture {path.stem!r} is defined by {found[path.stem]} and by {path}; rename it."
                )
            found[path.stem] = module
    return dict(sorted(found.items()))


@cache
def _installed() -> Mapping[str, str]:
    """Those of this package and of others that are installed."""
    found = {m.name: f"{__name__}.{m.name}" for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")}
    for point in entry_points(group="curveboard.architectures"):
        if point.name in found:
            raise ZooError(
                f"The architecture {point.name!r} is defined by {found[point.name]} and by {point.value}; "
                "rename one, or uninstall its package."
            )
        found[point.name] = point.module
    return found


def _module_of(name: str) -> str:
    table = architectures()
    if name not in table:
        raise UnknownEntryError("architecture", name, table)
    return table[name]


def version_of(name: str) -> int:
    """The version of an architecture, read without importing it."""
    return literal_version(_module_of(name))


def import_architecture(name: str) -> ModuleType:
    """The module of an architecture.

    Raises:
        OwnCodeError: If it is a file of the workspace that cannot be imported.
    """
    module, root = _module_of(name), workspace_folder()
    for path, own in workspace_modules(root, "architectures") if root is not None else ():
        if own == module:
            return import_file(path, own)
    return importlib.import_module(module)


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An untrained network of the architecture called ``name``.

    Raises:
        UnknownEntryError: If there is none of that name; with the nearest names.
        CardError: If it cannot be built with these arguments.
    """
    module = import_architecture(name)
    try:
        network: nn.Module = module.build(**arguments)
    except ZooError:
        raise
    except Exception as error:  # arguments of a stranger's card can break any network anyhow
        given = str(dict(arguments))[:200]
        takes = ", ".join(inspect.signature(module.build).parameters)
        raise CardError(
            f"The architecture {name!r} cannot be built with {given}: {shown(error)}. It takes: {takes}."
        ) from error
    return network


def sized(name: str, arguments: Mapping[str, Any], *, shape: tuple[int, int, int], classes: int) -> dict[str, Any]:
    """The arguments, and those of the network's sizes that were not given and that the images fix.

    By name: ``inputs`` (c·h·w), ``shape`` (c, h, w), ``channels`` if it is one number, ``outputs`` and ``classes``.

    Args:
        name: The architecture's.
        arguments: What was given; never changed.
        shape: Of an image, (c, h, w).
        classes: Number of classes.
    """
    known = {"inputs": math.prod(shape), "shape": list(shape), "outputs": classes, "classes": classes}
    known |= {"channels": shape[0]}
    found = dict(arguments)
    for field in inspect.signature(import_architecture(name).build, eval_str=True).parameters.values():
        value = known.get(field.name)
        several = isinstance(value, int) and field.annotation is not int
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        if value is not None and field.name not in found and not several and value != default:
            found[field.name] = value
    return found


def starts_from_images(name: str) -> bool:
    """Whether the initial weights of an architecture are put by training images; see `initialise`."""
    return hasattr(import_architecture(name), "initialise")


def initialise(name: str, network: nn.Module, x: Tensor) -> None:
    """Let an architecture put its initial weights by training images, where its module has ``initialise(network, x)``.

    Args:
        name: The architecture's.
        network: Freshly built; changed in place.
        x: Some training images, shape (n, c, h, w).
    """
    module = import_architecture(name)
    if hasattr(module, "initialise"):
        module.initialise(network, x)
