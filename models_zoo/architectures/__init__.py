"""Architectures, one a file: plain torch modules.

To add an architecture, add a file here that holds ``VERSION`` (an integer, raised whenever the same weights would give
other outputs) and ``build(**arguments) -> nn.Module``; the file's name is the architecture's name. An installed package
adds its own through an entry point of the group ``curveboard.architectures`` that names such a module.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from models_zoo.errors import CardError, UnknownEntryError, ZooError, shown
from models_zoo.versions import literal_version

if TYPE_CHECKING:
    from torch import Tensor, nn


@cache
def architectures() -> Mapping[str, str]:
    """The modules that hold the architectures, by the architecture's name. None is imported."""
    found = {m.name: f"{__name__}.{m.name}" for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")}
    for point in entry_points(group="curveboard.architectures"):
        if point.name in found:
            raise ZooError(
                f"The architecture {point.name!r} is defined by {found[point.name]} and by {point.value}; "
                "rename one, or uninstall its package."
            )
        found[point.name] = point.module
    return dict(sorted(found.items()))


def _module_of(name: str) -> str:
    table = architectures()
    if name not in table:
        raise UnknownEntryError("architecture", name, table)
    return table[name]


def version_of(name: str) -> int:
    """The version of an architecture, read without importing it."""
    return literal_version(_module_of(name))


def build(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """An untrained network of the architecture called ``name``.

    Raises:
        UnknownEntryError: If there is none of that name; with the nearest names.
        CardError: If it cannot be built with these arguments.
    """
    module = importlib.import_module(_module_of(name))
    try:
        network: nn.Module = module.build(**arguments)
    except ZooError:
        raise
    except Exception as error:  # arguments of a stranger's card can break any network anyhow
        given = str(dict(arguments))[:200]
        raise CardError(f"The architecture {name!r} cannot be built with {given}: {shown(error)}.") from error
    return network


def initialise(name: str, network: nn.Module, x: Tensor) -> None:
    """Let an architecture put its initial weights by training images, where its module has ``initialise(network, x)``.

    Args:
        name: The architecture's.
        network: Freshly built; changed in place.
        x: Some training images, shape (n, c, h, w).
    """
    module = importlib.import_module(_module_of(name))
    if hasattr(module, "initialise"):
        module.initialise(network, x)
