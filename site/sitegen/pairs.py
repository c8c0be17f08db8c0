"""Every pair of some models: how much more robust one is than the other, and the samples on which they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from benchmark.differences import paired_difference
from sitegen.axes import Axis
from sitegen.rows import BuiltRow
from sitegen.words import percent

DIFFERING: Final = 12
"""Samples that are shown of a pair."""


@dataclass(frozen=True)
class Pair:
    """Two models under one threat.

    Attributes:
        first: The one.
        second: The other.
        differences: First minus second at each marked budget, in points, with its 95 % interval, in words.
        samples: (index, first's distance, second's distance) where they differ most.
    """

    first: BuiltRow
    second: BuiltRow
    differences: Sequence[str]
    samples: Sequence[tuple[int, float, float]]


def pairs(rows: Sequence[BuiltRow], axis: Axis) -> list[Pair]:
    """All pairs of these rows."""
    distances = [row.distances(axis.threat) for row in rows]
    found = []
    for i, j in combinations(range(len(rows)), 2):
        ends = paired_difference(distances[i], distances[j], np.array(axis.published))
        told = [difference(*values) for values in zip(*(part.tolist() for part in ends), strict=True)]
        found.append(Pair(rows[i], rows[j], told, differing(distances[i], distances[j], axis.maximum)))
    return found


def difference(gap: float, low: float, high: float) -> str:
    """A difference of two shares in points with its interval: ``+12.0 (+8.1 to +15.9)``."""
    return f"{signed(gap)} ({signed(low)} to {signed(high)})"


def signed(share: float) -> str:
    """A difference of shares in points, with its sign unless it is rounded to nothing."""
    size = percent(abs(share))
    return size if float(size) == 0 else f"{'+' if share > 0 else '−'}{size}"


def differing(a: Floats, b: Floats, maximum: float) -> list[tuple[int, float, float]]:
    """Samples whose distances differ most: (index, first's, second's)."""
    gap = np.abs(np.minimum(a, maximum) - np.minimum(b, maximum))
    order: NDArray[np.int64] = np.argsort(-gap, kind="stable")[:DIFFERING]
    return [(int(i), float(a[i]), float(b[i])) for i in order if gap[i] > 0]
