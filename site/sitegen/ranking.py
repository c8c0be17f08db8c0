"""Ranks of all models of a board at many ε, with paired-bootstrap intervals, in two steps.

`benchmark.statistics.rank_intervals` does the same in one step. Here each model's resampled counts are kept apart,
since they depend on that model alone: after a new model only its own are computed, and a board of 1,000 is ranked in
seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats

RESAMPLES: Final = 300
CONFIDENCE: Final = 0.95
SHORTEST: Final = 0.03
"""Shortest range of ε, as a share of the axis, that counts as a lead of its own."""
MOST: Final = 6
"""Changes of the lead that are told at most."""


@dataclass(frozen=True, eq=False)
class RankTable:
    """Ranks at each of some ε.

    Attributes:
        rank: 1 + the number of models with strictly higher robust accuracy, shape (models, g).
        low: Best rank of the 95 % interval, shape (models, g).
        high: Worst rank of it; models that tie may each be the last of them.
    """

    rank: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]


@lru_cache(maxsize=2)
def _weights(n: int) -> NDArray[np.float32]:
    """How often each sample is drawn in each resample, shape (n, resamples); the same for every model."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, n, size=(RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n).T.astype(np.float32)


def resampled_counts(distances: Floats, eps: Floats) -> NDArray[np.int32]:
    """Robust samples of one model in each resample.

    Args:
        distances: Shape (n,).
        eps: Shape (g,).

    Returns:
        Shape (g, resamples).
    """
    robust = (distances > eps[:, None]).astype(np.float32)
    return (robust @ _weights(len(distances))).astype(np.int32)  # exact: whole numbers below 2**24


def rank_table(counts: NDArray[Any], resampled: Sequence[NDArray[Any]]) -> RankTable:
    """Ranks of models from their counts of robust samples.

    Args:
        counts: Robust samples of each model, shape (models, g).
        resampled: For each of the g values of ε the resampled counts, shape (models, resamples).
    """
    rank = np.empty(counts.shape, dtype=np.int64)
    low, high = rank.copy(), rank.copy()
    tail = (1 - CONFIDENCE) / 2
    for i, drawn in enumerate(resampled):
        rank[:, i] = _ranks(counts[:, i : i + 1])[0][:, 0]
        best, worst = _ranks(drawn)
        low[:, i] = _quantile(best, tail)
        high[:, i] = _quantile(worst, 1 - tail)
    return RankTable(rank, np.minimum(low, rank), np.maximum(high, rank))


def _ranks(counts: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """First and last place of each model in each column, equals sharing them: (models, columns) each."""
    first, last = np.empty(counts.shape, np.int32), np.empty(counts.shape, np.int32)
    for column in range(counts.shape[1]):
        values = counts[:, column]
        ordered = np.sort(values)
        first[:, column] = len(values) - np.searchsorted(ordered, values, side="right") + 1
        last[:, column] = len(values) - np.searchsorted(ordered, values, side="left")
    return first, last


def _quantile(values: NDArray[np.int32], q: float) -> NDArray[np.int32]:
    """The quantile along the last axis by the inverse of the distribution function (a value that occurs)."""
    order = max(int(np.ceil(q * values.shape[1] - 1e-9)), 1) - 1
    return np.partition(values, order, axis=1)[:, order]


@dataclass(frozen=True)
class Reign:
    """A range of ε on which the same models lead.

    Attributes:
        start: Where it begins.
        end: Where it ends: the next position of the axis belongs to others.
        leaders: Indices of the models that share the highest robust accuracy.
        accuracy: Their robust accuracy at ``start``.
    """

    start: float
    end: float
    leaders: tuple[int, ...]
    accuracy: float


def reigns(counts: NDArray[Any], grid: Floats, n: int) -> list[Reign]:
    """Who leads where, at the positions of the axis.

    A tie goes on with whoever led before. Reigns shorter than `SHORTEST` of the axis, and the shortest beyond the
    `MOST` longest, go to the reign before them (the first to the one after): two models that run close together for a
    while do not read as ten changes.

    Args:
        counts: Robust samples, shape (models, g).
        grid: The positions, shape (g,).
        n: Number of samples.
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
    found = _without_short(found, grid, float(grid[end]))
    ends = [start for start, _ in found[1:]] + [end]
    return [
        Reign(float(grid[start]), float(grid[stop]), leaders, float(counts[leaders[0], start]) / n)
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
