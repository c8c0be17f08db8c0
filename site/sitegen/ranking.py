"""Who leads where on a board: ranges of ε on which the same models have the highest robust accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from benchmark.statistics import Ranks

SHORTEST: Final = 0.03
"""Shortest range of ε, as a share of the axis, that counts as a lead of its own."""
MOST: Final = 6
"""Changes of the lead that are told at most."""


@dataclass(frozen=True)
class LeadRange:
    """A range of ε on which the same models lead.

    Attributes:
        start: Where it begins.
        end: Where it ends: the next position of the axis belongs to others; of counts it is that position.
        leaders: Indices of the models that share the highest robust accuracy.
        accuracy: Their robust accuracy at ``start``.
    """

    start: float
    end: float
    leaders: tuple[int, ...]
    accuracy: float


def lead_ranges(counts: NDArray[Any], grid: Floats, n: int, *, whole: bool = False) -> list[LeadRange]:
    """Who leads where, at the positions of the axis.

    A tie goes on with whoever led before. Ranges shorter than `SHORTEST` of the axis, and the shortest beyond the
    `MOST` longest, go to the range before them (the first to the one after): two models that run close together for a
    while do not read as ten changes.

    Args:
        counts: Robust samples, shape (models, g).
        grid: The positions, shape (g,).
        n: Number of samples.
        whole: Whether distances are counts: what holds at a position holds up to the next.
    """
    if counts.size == 0 or not counts.max():
        return []
    top = counts.max(axis=0)
    found: list[tuple[int, tuple[int, ...]]] = []
    for i in range(len(grid)):
        if top[i] == 0:
            break
        best = tuple(int(m) for m in np.flatnonzero(counts[:, i] == top[i]))
        still = tuple(m for m in found[-1][1] if m in best) if found else ()
        if still:
            found[-1] = (found[-1][0], still)
        else:
            found.append((i, best))
    end = int(np.flatnonzero(top)[-1])
    if whole:
        end = min(end + 1, len(grid) - 1)
    found = _without_short(found, grid, float(grid[end]))
    ends = [start for start, _ in found[1:]] + [end]
    return [
        LeadRange(float(grid[start]), float(grid[stop]), leaders, float(counts[leaders[0], start]) / n)
        for (start, leaders), stop in zip(found, ends, strict=True)
    ]


def _without_short(
    found: list[tuple[int, tuple[int, ...]]], grid: Floats, end: float
) -> list[tuple[int, tuple[int, ...]]]:
    kept = list(found)
    while len(kept) > 1:
        starts = np.array([grid[start] for start, _ in kept])
        lengths = np.diff(np.append(starts, end))
        weak = int(np.argmin(lengths))
        if lengths[weak] >= SHORTEST * grid[-1] and len(kept) <= MOST:
            break
        if weak == 0:
            kept[1] = (kept[0][0], kept[1][1])
        del kept[weak]
        kept = [k for i, k in enumerate(kept) if i == 0 or not set(k[1]) & set(kept[i - 1][1])]
    return kept


@dataclass(frozen=True)
class Stretch:
    """A stretch of ε with one leader, and whether no other model shares the first rank in the 95 % interval."""

    start: float
    end: float
    leader: int
    clear: bool


def stretches(leads: Sequence[LeadRange], table: Ranks, ranked: Floats, *, whole: bool = False) -> list[Stretch]:
    """Who leads where, and where that is more than the sampling of images can explain.

    Intervals are known at the axis' ranked positions; in between the nearest one holds. Of counts, what holds at a
    whole number holds up to the next.

    Args:
        leads: The lead_ranges of a board.
        table: Its ranks with intervals, at ``ranked``.
        ranked: Positions, shape (r,).
        whole: Whether distances are counts.
    """
    middles = (ranked[1:] + ranked[:-1]) / 2
    if whole:
        middles = np.floor(middles) + 1
    found: list[Stretch] = []
    for lead in leads:
        leader = lead.leaders[0]
        edges = np.unique(np.clip(np.concatenate(([lead.start, lead.end], middles)), lead.start, lead.end))
        for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            nearest = int(np.argmin(np.abs(ranked - (start if whole else (start + end) / 2))))
            clear = int(table.high[leader, nearest]) == 1
            last = found[-1] if found else None
            if last is not None and last.end == start and (last.leader, last.clear) == (leader, clear):
                found[-1] = replace(last, end=end)
            else:
                found.append(Stretch(start, end, leader, clear))
    return found
