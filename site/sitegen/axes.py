"""The ε axis of each threat of a board: its range, the positions of the slider, the marked budgets.

Where the dataset's card publishes budgets an axis depends on these only, never on the models: so a model's page does
not change when another model joins the board, and two boards of one dataset can be laid over each other. Where it
publishes none, round values of what the attacks have found take their place.

Where distances are counts every position is a whole number: between two of them nothing can change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from benchmark.curve import Floats
from benchmark.threat.budget import limit
from sitegen.threats import UNION, goal_of, is_count, norm_of, ordered, symbol, unit

_POSITIONS: Final = 400
_BEYOND: Final = 1.5
"""How far the axis reaches, in multiples of the largest published budget."""

_FEW: Final = 4.0
"""Changes up to which the largest number found is itself the last budget."""


@dataclass(frozen=True, eq=False)
class Axis:
    """The ε axis of a threat.

    Attributes:
        threat: The threat's key, or ``union``.
        published: Marked budgets, rising, at least one; the first is the reference.
        maximum: Where the axis ends.
        grid: Positions of the slider, shape (g,): 0, then equal steps, and the marked budgets in between; whole numbers
            where distances are counts.
        reference: For the union: the budget of each threat that ε = 1 stands for.
        stated: Whether the budgets are published ones; otherwise they are round values of the data.
    """

    threat: str
    published: tuple[float, ...]
    maximum: float
    grid: Floats
    reference: Mapping[str, float]
    stated: bool = True

    @property
    def symbol(self) -> str:
        """The threat as the literature writes it."""
        return symbol(self.threat)

    @property
    def whole(self) -> bool:
        """Whether distances are counts, so that a curve falls at whole numbers only."""
        return is_count(self.threat)

    @property
    def label(self) -> str:
        """What is on the axis."""
        if self.whole:
            return f"number of {unit(self.threat)} changed, ε in {self.symbol}"
        if self.threat != UNION:
            return f"perturbation budget ε in {self.symbol}"
        budgets = ", ".join(f"{symbol(threat)} {eps:g}" for threat, eps in self.reference.items())
        return f"multiple of the reference budgets ({budgets})"

    def place(self, eps: float) -> str:
        """A budget in words: ``ℓ∞ ≤ 0.1``, ``1 × the reference budgets``."""
        return f"{eps:g} × the reference budgets" if self.threat == UNION else f"{self.symbol} ≤ {eps:g}"

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values for labels: four to eight of them."""
        step = nice(self.maximum / 6, whole=self.whole)
        return tuple(round(k * step, 10) for k in range(int(self.maximum / step + 1e-9) + 1))

    @cached_property
    def ranked(self) -> Floats:
        """Where intervals of ranks are computed, shape (r,): 0, the marked budgets and equal steps between."""
        between = np.linspace(0, self.maximum, 19)
        return np.unique(np.concatenate(([0.0], self.published, np.round(between) if self.whole else between)))

    @cached_property
    def limits(self) -> Floats:
        """The largest distance that is within each position's budget (`benchmark.threat.budget`), shape (g,)."""
        return limit(self.grid)

    @cached_property
    def reference_limit(self) -> float:
        """The largest distance within the reference budget."""
        return limit(self.published[0])

    @cached_property
    def at_published(self) -> tuple[int, ...]:
        """Positions of the marked budgets in the grid."""
        return tuple(int(i) for i in np.searchsorted(self.grid, self.published))


def axes(card: Mapping[str, Any], threats: Sequence[str], largest: Mapping[str, float]) -> dict[str, Axis]:
    """The axes of a board: one for each threat, in the order of the registry, then the union's if there are several.

    Args:
        card: The dataset's card; ``card["eps"][threat or norm]`` are the published budgets.
        threats: Keys of the board's threats.
        largest: Threat -> the largest finite distance found, for those without published budgets.
    """
    found = {}
    for threat in ordered(threats):
        budgets = published(card, threat)
        stated = bool(budgets)
        found[threat] = _axis(threat, budgets or _round_budgets(threat, largest.get(threat, 0.0)), {}, stated=stated)
    untargeted = {threat: axis.published[0] for threat, axis in found.items() if not goal_of(threat)}
    if len(untargeted) > 1:
        found[UNION] = _axis(UNION, (1.0, 2.0), untargeted)
    return found


def published(card: Mapping[str, Any], threat: str) -> tuple[float, ...]:
    """The budgets that a dataset's card publishes for a threat (or else for its norm), rising; empty if none.

    Of a count only the whole ones: 2.5 changes are 2.
    """
    known = card.get("eps")
    if not isinstance(known, Mapping):
        return ()
    given = known.get(threat) or known.get(norm_of(threat)) or ()
    budgets = {float(eps) for eps in given if 0 < float(eps) < math.inf}
    return tuple(sorted({float(math.floor(eps)) for eps in budgets} - {0.0} if is_count(threat) else budgets))


def _round_budgets(threat: str, largest: float) -> tuple[float, ...]:
    """A quarter, a half and all of a round value near two thirds of the largest distance; whole where it is a count.

    A count of a few is a budget itself: of 2 changes two thirds are 1, and the axis would end before the second.
    """
    wanted = max(largest / _BEYOND, min(largest, _FEW)) if is_count(threat) else largest / _BEYOND
    top = nice(wanted) if largest > 0 else 1.0
    budgets = (top / 4, top / 2, top)
    return tuple(sorted({max(1.0, math.ceil(eps)) for eps in budgets})) if is_count(threat) else budgets


def _axis(threat: str, published: tuple[float, ...], reference: Mapping[str, float], *, stated: bool = True) -> Axis:
    wanted = _BEYOND * published[-1]
    step = nice(wanted / _POSITIONS, whole=is_count(threat))
    count = math.ceil(wanted / step - 1e-9)
    steps = np.array([float(f"{k * step:.10g}") for k in range(count + 1)])
    return Axis(threat, published, float(steps[-1]), np.unique(np.concatenate((steps, published))), reference, stated)


def nice(value: float, *, whole: bool = False) -> float:
    """The largest of 1, 2, 2.5, 5 × a power of ten that is not above ``value`` (> 0); if ``whole``, at least 1."""
    if whole and value < 5:
        return 2.0 if value >= 2 * (1 - 1e-9) else 1.0
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    factor = max(f for f in (1, 2, 2.5, 5) if f * power <= value * (1 + 1e-9))
    return float(f"{factor * power:.12g}")
