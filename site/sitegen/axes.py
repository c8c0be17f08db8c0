"""The ε axis of each norm: its range, the positions of the slider, the published budgets.

An axis depends on the dataset's published budgets only, never on the models: so a model's page does not change when
another model joins the board, and two boards of one dataset can be laid over each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from benchmark.curve import Floats

NORMS: Final = ("linf", "l2", "l1")
UNION: Final = "union"
"""All norms at once: a sample's distance is the smallest, over the norms, of its distance ÷ the reference budget."""

SYMBOLS: Final = {"linf": "ℓ∞", "l2": "ℓ₂", "l1": "ℓ₁", UNION: "union of norms"}

_POSITIONS: Final = 400
_BEYOND: Final = 1.5
"""How far the axis reaches, in multiples of the largest published budget."""
_FALLBACK: Final[Mapping[str, tuple[float, ...]]] = {
    "linf": (0.01, 0.03, 0.1),
    "l2": (0.25, 0.5, 1.0),
    "l1": (2.5, 5.0, 10.0),
}


@dataclass(frozen=True, eq=False)
class Axis:
    """The ε axis of a norm.

    Attributes:
        norm: ``linf``, ``l2``, ``l1`` or ``union``.
        published: Budgets in the literature, rising; the first is the reference.
        maximum: Where the axis ends.
        grid: Positions of the slider, shape (g,): 0, then equal steps, and the published budgets in between.
        reference: For the union: the budget of each norm that ε = 1 stands for.
    """

    norm: str
    published: tuple[float, ...]
    maximum: float
    grid: Floats
    reference: Mapping[str, float]

    @property
    def symbol(self) -> str:
        """The norm as the literature writes it."""
        return SYMBOLS[self.norm]

    @property
    def label(self) -> str:
        """What is on the axis."""
        if self.norm != UNION:
            return f"perturbation budget ε in {self.symbol}"
        budgets = ", ".join(f"{SYMBOLS[norm]} {eps:g}" for norm, eps in self.reference.items())
        return f"multiple of the reference budgets ({budgets})"

    @property
    def ticks(self) -> tuple[float, ...]:
        """Round values for labels: four to eight of them."""
        step = nice(self.maximum / 6)
        return tuple(round(k * step, 10) for k in range(int(self.maximum / step + 1e-9) + 1))

    @cached_property
    def ranked(self) -> Floats:
        """Where intervals of ranks are computed, shape (r,): 0, the published budgets and equal steps between."""
        return np.unique(np.concatenate(([0.0], self.published, np.linspace(0, self.maximum, 19))))


def axes(card: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes of a dataset's boards: one for each norm, then the union's.

    Args:
        card: The dataset's card; ``card["eps"][norm]`` are the published budgets.
    """
    published = {norm: _budgets(card, norm) for norm in NORMS}
    found = {norm: _axis(norm, eps, {}) for norm, eps in published.items()}
    found[UNION] = _axis(UNION, (1.0, 2.0), {norm: eps[0] for norm, eps in published.items()})
    return found


def _budgets(card: Mapping[str, Any], norm: str) -> tuple[float, ...]:
    given: Sequence[float] = (card.get("eps") or {}).get(norm) or ()
    kept = sorted({float(eps) for eps in given if 0 < float(eps) < math.inf})
    return tuple(kept) or _FALLBACK[norm]


def _axis(norm: str, published: tuple[float, ...], reference: Mapping[str, float]) -> Axis:
    wanted = _BEYOND * published[-1]
    step = nice(wanted / _POSITIONS)
    count = math.ceil(wanted / step - 1e-9)
    steps = np.round(np.arange(count + 1) * step, 10)
    return Axis(norm, published, float(steps[-1]), np.unique(np.concatenate((steps, published))), reference)


def nice(value: float) -> float:
    """The largest of 1, 2, 2.5, 5 × a power of ten that is not above ``value`` (> 0)."""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    factor = max(f for f in (1, 2, 2.5, 5) if f * power <= value * (1 + 1e-9))
    return float(f"{factor * power:.12g}")
