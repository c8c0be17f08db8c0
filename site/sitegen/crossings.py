"""Where two models change their order, as far as the samples can tell, to the resolution of the axis.

A lead, its support and a crossing are those of `benchmark.statistics.crossings`, but on the positions of the axis, and
with resamples that a script can draw as well: `crossings.js` finds the same for models that a reader chooses, number
for number, and both are tested on the same cases. Whatever is added up is added up in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmark.curve import Floats
from sitegen.axes import Axis
from sitegen.rows import BuiltRow
from sitegen.scripts_data import bins

RESAMPLES: Final = 300
SUPPORT: Final = 0.95
MOST_LEADS: Final = 128
"""Leads that are resampled; of more, the smallest are merged first."""


@dataclass(frozen=True)
class GridCrossing:
    """A crossing of two curves at a position of the axis.

    Attributes:
        position: From which position on.
        eps: The ε there.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
        support: Share of the resamples that have both leads.
        first: Whether the first of the two leads after it.
    """

    position: int
    eps: float
    low: float
    high: float
    support: float
    first: bool


@dataclass(frozen=True)
class CrossingLine:
    """One model overtakes another."""

    crossing: GridCrossing
    ahead: BuiltRow
    behind: BuiltRow

    @property
    def eps(self) -> float:
        """From which ε on."""
        return self.crossing.eps


def crossing_lines(rows: Sequence[BuiltRow], axis: Axis) -> list[CrossingLine]:
    """All crossings between these rows, by ε."""
    of_row = [bins(row.distances(axis.threat), axis) for row in rows]
    found = []
    for a, b in combinations(range(len(rows)), 2):
        for crossing in grid_crossings(of_row[a], of_row[b], axis.grid):
            ahead, behind = (a, b) if crossing.first else (b, a)
            found.append((crossing, a, b, CrossingLine(crossing, rows[ahead], rows[behind])))
    return [line for *_, line in sorted(found, key=lambda x: (x[0].position, x[1], x[2]))]


@dataclass
class _Lead:
    start: int
    end: int
    area: float
    sign: int


def grid_crossings(first: NDArray[np.int64], second: NDArray[np.int64], grid: Floats) -> list[GridCrossing]:
    """Where two curves cross.

    Args:
        first: The position at which each sample of the first model is broken, shape (n,); g where it never is.
        second: The same of the second.
        grid: The positions, shape (g,).
    """
    g, n = len(grid), len(first)
    low, high = np.minimum(np.minimum(first, second), g), np.minimum(np.maximum(first, second), g)
    sign = np.sign(first - second)
    apart = np.flatnonzero(low != high)
    low, high, sign = low[apart], high[apart], sign[apart]
    gap = np.cumsum(_changes(low, high, sign, g).sum(axis=0))[:g]
    leads = _leads(gap, np.diff(grid))
    while len(leads) > MOST_LEADS:
        _merge(leads, int(np.argmin([abs(lead.area) for lead in leads])))
    if len(leads) < 2:
        return []
    areas = _areas(resampling(n)[:, apart], low, high, sign, grid)
    while True:
        won = [(areas[:, lead.end] - areas[:, lead.start]) * lead.sign > 0 for lead in leads]
        supports = [int(w.sum()) / RESAMPLES for w in won]
        if len(leads) < 2 or min(supports) >= SUPPORT:
            break
        _merge(leads, int(np.argmin(supports)))
    return [
        _crossing(leads[k], leads[k + 1], int((won[k] & won[k + 1]).sum()) / RESAMPLES, areas, grid)
        for k in range(len(leads) - 1)
    ]


def _changes(low: NDArray[np.int64], high: NDArray[np.int64], sign: NDArray[np.int64], g: int) -> sparse.csr_array:
    """By how much each sample changes the gap between the curves, at each position: (samples, g + 1)."""
    rows = np.arange(len(low))
    values = np.concatenate((sign, -sign)).astype(np.int64)
    places = (np.concatenate((rows, rows)), np.concatenate((low, high)))
    return sparse.csr_array(sparse.coo_array((values, places), shape=(len(low), g + 1)))


def _areas(
    weights: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64], sign: NDArray[np.int64], grid: Floats
) -> Floats:
    """Area between the curves from 0 to each position, in each resample: (resamples, g)."""
    changes = _changes(low, high, sign, len(grid))
    gaps = np.cumsum((changes.T @ weights.T.astype(np.int64)).T, axis=1)  # whole numbers: exact
    steps = gaps[:, : len(grid) - 1] * np.diff(grid)
    return np.concatenate((np.zeros((len(weights), 1)), np.cumsum(steps, axis=1)), axis=1)


def _leads(gap: NDArray[np.int64], widths: Floats) -> list[_Lead]:
    leads: list[_Lead] = []
    for p, value in enumerate(gap[:-1].tolist()):
        if not value:
            continue
        sign, area = (1 if value > 0 else -1), value * float(widths[p])
        if leads and leads[-1].sign == sign:
            leads[-1].end = p + 1
            leads[-1].area += area
        else:
            leads.append(_Lead(p, p + 1, area, sign))
    return leads


def _merge(leads: list[_Lead], weak: int) -> None:
    """Give a lead up: its neighbours, which have the other sign, become one; at an end it is dropped."""
    if weak in (0, len(leads) - 1):
        del leads[weak]
        return
    before, lead, after = leads[weak - 1 : weak + 2]
    area = before.area + lead.area + after.area
    if area * before.area <= 0:
        area = before.area
    leads[weak - 1 : weak + 2] = [_Lead(before.start, after.end, area, before.sign)]


def _crossing(before: _Lead, after: _Lead, support: float, areas: Floats, grid: Floats) -> GridCrossing:
    """The crossing between two leads, placed in each resample where the area between the curves turns."""
    turned = np.argmax(areas[:, before.start : after.end + 1] * before.sign, axis=1) + before.start
    places = np.sort(grid[turned])
    tail = [places[max(int(np.ceil(q * RESAMPLES - 1e-9)), 1) - 1] for q in (0.025, 0.975)]
    at = float(grid[after.start])
    low, high = min(float(tail[0]), at), max(float(tail[1]), at)
    return GridCrossing(after.start, at, low, high, support, after.sign > 0)


@lru_cache(maxsize=2)
def resampling(n: int) -> NDArray[np.uint8]:
    """How often each sample is drawn in each resample, shape (resamples, n): mulberry32, as scripts draw it."""
    number = np.arange(1, RESAMPLES * n + 1, dtype=np.uint64)
    state = ((1 + number * 0x6D2B79F5) & 0xFFFFFFFF).astype(np.uint32)
    with np.errstate(over="ignore"):
        t = (state ^ (state >> np.uint32(15))) * (state | np.uint32(1))
        t ^= t + (t ^ (t >> np.uint32(7))) * (t | np.uint32(61))
    drawn = ((t ^ (t >> np.uint32(14))) / 4294967296 * n).astype(np.int64).reshape(RESAMPLES, n)
    counts = np.bincount((drawn + n * np.arange(RESAMPLES)[:, None]).ravel(), minlength=RESAMPLES * n)
    return counts.reshape(RESAMPLES, n).astype(np.uint8)
