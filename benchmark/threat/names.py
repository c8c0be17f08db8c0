"""The registry of norms. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from benchmark.errors import UnknownNameError
from benchmark.plugins import discover
from benchmark.threat.geometry import Geometry

Norm = str
"""The name of a registered norm."""


def _registered() -> Mapping[str, Geometry]:
    return cast("Mapping[str, Geometry]", discover("benchmark.threat.norms", "NORM"))


def norms() -> tuple[Geometry, ...]:
    """All registered norms, in the order in which they are listed."""
    return tuple(sorted(_registered().values(), key=lambda norm: (norm.order, norm.name)))


def norm_names() -> tuple[Norm, ...]:
    """Names of all registered norms, in the order in which they are listed."""
    return tuple(norm.name for norm in norms())


def get_norm(name: Norm) -> Geometry:
    """The norm called ``name``; raises `UnknownNameError` with the nearest names."""
    known = _registered()
    try:
        return known[name]
    except (KeyError, TypeError):
        raise UnknownNameError("norm", str(name), known) from None


def symbol(name: Norm) -> str:
    """How the norm is written for people, for instance ``"ℓ∞"``."""
    return get_norm(name).symbol


def dual(name: Norm) -> Norm:
    """Name of the dual norm: 1/p + 1/q = 1; raises `UnknownNameError` for a norm that has none."""
    other = get_norm(name).dual
    if other is None:
        raise UnknownNameError("dual norm of", name, [norm.name for norm in norms() if norm.dual])
    return other
