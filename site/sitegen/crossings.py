"""Where highlighted models change their order, as far as the samples can tell; kept between builds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from benchmark.curve import RobustnessCurve
from benchmark.statistics import crossings
from sitegen.axes import UNION
from sitegen.rows import BuiltRow

PREFIX: Final = "crossings-"
RESAMPLES: Final = 300


@dataclass(frozen=True)
class CrossingLine:
    """One model overtakes another.

    Attributes:
        eps: From which ε on.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
        support: Share of the resamples that have the flip.
        ahead: Who is better after it.
        behind: Who was better before.
        accuracy: Robust accuracy of the two there.
    """

    eps: float
    low: float
    high: float
    support: float
    ahead: BuiltRow
    behind: BuiltRow
    accuracy: float


def crossing_lines(rows: Sequence[BuiltRow], norm: str, *, maximum: float) -> list[CrossingLine]:
    """All crossings between these rows within the axis, by ε."""
    found = [line for a, b in combinations(rows, 2) for line in _pair(a, b, norm)]
    return sorted((x for x in found if x.eps <= maximum), key=lambda x: (x.eps, x.ahead.slug, x.behind.slug))


def _pair(a: BuiltRow, b: BuiltRow, norm: str) -> list[CrossingLine]:
    kept = a.folder.parent / f"{PREFIX}{a.folder.name}-{b.folder.name}-{norm}.json"
    if kept.is_file():
        values = json.loads(kept.read_text(encoding="utf-8"))
    else:
        values = _compute(a, b, norm)
        kept.write_text(json.dumps(values), encoding="utf-8")
    return [
        CrossingLine(eps, low, high, support, a if ahead else b, b if ahead else a, accuracy)
        for eps, low, high, support, ahead, accuracy in values
    ]


def _compute(a: BuiltRow, b: BuiltRow, norm: str) -> list[list[float]]:
    name = "linf" if norm == UNION else norm  # a curve wants a norm; it has no part in where it crosses another
    first, second = (RobustnessCurve(row.distances(norm), name) for row in (a, b))
    return [
        [x.eps, x.low, x.high, x.support, float(x.ahead == "first"), first.robust_accuracy(x.eps)]
        for x in crossings(first, second, resamples=RESAMPLES)
    ]
