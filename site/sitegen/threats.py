"""Threats as the site writes them: their order, their symbols. Which ones there are, the results say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from benchmark.errors import UnknownNameError
from benchmark.threat.geometry import Geometry
from benchmark.threat.names import get_norm, norm_names

if TYPE_CHECKING:
    from benchmark.results import Output

UNION: Final = "union"
"""All untargeted threats of a board at once: a sample's distance is the smallest of distance ÷ reference budget."""


def norm_of(threat: str) -> str:
    """The norm of a threat's key."""
    return threat.partition("-")[0]


def goal_of(threat: str) -> str:
    """The goal of a threat's key, in words; empty for the untargeted one."""
    return threat.partition("-")[2].replace("-", " ")


def is_count(threat: str) -> bool:
    """Whether distances under a threat are whole numbers of things changed; False for an unknown norm."""
    try:
        return get_norm(norm_of(threat)).counts
    except UnknownNameError:
        return False


def unit(threat: str) -> str:
    """What a threat whose distances are counts counts: ``pixels``, or ``values`` where its norm names nothing."""
    named = get_norm(norm_of(threat)).unit
    return "values" if named == Geometry.unit else named


def symbol(threat: str) -> str:
    """A threat as the literature writes it: ``ℓ∞``, ``ℓ₂ targeted next``; an unknown one keeps its key."""
    if threat == UNION:
        return "union of norms"
    norm = norm_of(threat)
    try:
        written = get_norm(norm).symbol
    except UnknownNameError:
        written = norm
    return f"{written} {goal_of(threat)}".strip()


def titled(output: Output) -> str:
    """An output's title with what it speaks of: ``Transfer success, ℓ∞ ≤ 0.1``."""
    if not output.threat:
        return output.title
    budget = "" if output.eps is None else f" ≤ {output.eps:.4g}"
    return f"{output.title}, {symbol(output.threat)}{budget}"


def ordered(threats: Iterable[str]) -> list[str]:
    """Threats in the order of the norms' registry, the untargeted one of a norm first; each once."""
    names = norm_names()
    place = {name: k for k, name in enumerate(names)}
    return sorted(set(threats), key=lambda t: (place.get(norm_of(t), len(names)), norm_of(t), goal_of(t)))
