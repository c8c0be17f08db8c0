"""Ranks of models measured on the same samples, with paired-bootstrap intervals. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.curve import Floats, check_confidence, check_distances, check_eps
from benchmark.errors import InputError
from benchmark.threat.budget import limit

_CELLS: Final = 2**25
"""Cells of the resampling matrix held at once (float32: 128 MiB)."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Ranks of models by robust accuracy, with intervals.

    Attributes:
        eps: The perturbation budgets, shape (g,).
        rank: 1 + the number of models that are strictly better: equals share a rank. Shape (models, g), int64.
        low: Best rank within the interval, shape (models, g), int64.
        high: Worst rank within the interval, shape (models, g), int64; models that tie may each be the last of them.
        confidence: Level of each interval.
    """

    eps: Floats
    rank: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    confidence: float


def rank_intervals(
    distances: ArrayLike,
    eps: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Ranks:
    """Rank models by robust accuracy, with paired-bootstrap intervals of the ranks.

    Cost: ``resamples × models × samples`` multiply-adds for each eps, in float32.

    Args:
        distances: Smallest adversarial distances, shape (models, n), the same samples in each row.
        eps: One perturbation budget or a grid of them, shape (g,).
        confidence: Level of each model's interval.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        Ranks of shape (models, g), best robust accuracy first.
    """
    matrix = check_distances(distances, ndim=2)
    grid = np.atleast_1d(check_eps(eps))
    counts = np.array([np.count_nonzero(row > limit(grid)[:, None], axis=1) for row in matrix])
    drawn = np.stack([resampled_counts(row, grid, resamples=resamples, seed=seed) for row in matrix])
    return ranks_of_counts(counts, drawn, eps=grid, confidence=confidence)


def resampled_counts(distances: ArrayLike, eps: ArrayLike, *, resamples: int = 500, seed: int = 0) -> NDArray[np.int32]:
    """How many samples of one model are robust in each bootstrap resample.

    The resamples depend on the number of samples, ``resamples`` and ``seed`` alone, so that the counts of models that
    are counted apart are paired. What `rank_intervals` does in one step can so be done model by model.

    Args:
        distances: Smallest adversarial distances of one model, shape (n,).
        eps: Perturbation budgets, shape (g,).
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        Shape (g, resamples).
    """
    robust = check_distances(distances, ndim=1) > limit(np.atleast_1d(check_eps(eps)))[:, None]
    drawn = robust.astype(np.float32) @ resampling(robust.shape[1], resamples, seed).T
    return drawn.astype(np.int32)  # exact: whole numbers below 2**24


def ranks_of_counts(
    counts: NDArray[np.integer], resampled: NDArray[np.integer], *, eps: ArrayLike, confidence: float = 0.95
) -> Ranks:
    """Rank models from their counts of robust samples.

    A bootstrap of few samples knows less spread than there is: of a single image it knows none. So no interval claims
    more than an exact test could. Where two models differ on ``d`` samples only and the same one is ahead on all of
    them, McNemar's two-sided p-value is 2 · 2^-d, the smallest of any two whose counts differ by ``d``. Models whose
    counts differ by so little that this is above ``1 - confidence`` are not told apart (by 5 or less at 95 %).

    Args:
        counts: Robust samples, shape (models, g).
        resampled: The same in each bootstrap resample, shape (models, g, resamples).
        eps: The perturbation budgets, shape (g,).
        confidence: Level of each model's interval.
    """
    tail = (1 - check_confidence(confidence)) / 2
    rank = _places(counts)[0].astype(np.int64)
    low, high = rank.copy(), rank.copy()
    for i in range(counts.shape[1]):
        first, last = _places(resampled[:, i])
        low[:, i] = _order_statistic(first, tail)
        high[:, i] = _order_statistic(last, 1 - tail)
        ordered = np.sort(counts[:, i])
        least = 1 + len(counts) - np.searchsorted(ordered, counts[:, i] + indistinct(confidence), side="right")
        most = len(counts) - np.searchsorted(ordered, counts[:, i] - indistinct(confidence), side="left")
        low[:, i], high[:, i] = np.minimum(low[:, i], least), np.maximum(high[:, i], most)
    return Ranks(np.atleast_1d(check_eps(eps)), rank, np.minimum(low, rank), np.maximum(high, rank), confidence)


def indistinct(confidence: float) -> int:
    """The largest difference of two paired counts that no sample, however large, makes significant (McNemar, exact)."""
    return math.ceil(math.log2(2 / (1 - check_confidence(confidence))) - 1e-9) - 1


@lru_cache(maxsize=1)
def resampling(n: int, resamples: int, seed: int) -> NDArray[np.float32]:
    """How often each sample is drawn in each resample: shape (resamples, n); kept for the next pair of curves."""
    if resamples < 1:
        raise InputError(f"The bootstrap needs at least 1 resample, got {resamples}.")
    rng = np.random.default_rng(seed)
    weights = np.empty((resamples, n), dtype=np.float32)
    rows = max(_CELLS // n, 1)
    for start in range(0, resamples, rows):
        part = weights[start : start + rows]
        drawn = rng.integers(0, n, size=part.shape) + n * np.arange(len(part))[:, None]
        part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
    weights.flags.writeable = False
    return weights


def _places(counts: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """First and last place of each model in each column of counts, the largest count first; equals share them.

    Each count is sorted together with its model's index in one whole number, which is several times as fast as an
    argsort: a board of 1,000 models has some 20,000 columns to rank.

    Args:
        counts: Shape (models, columns), non-negative.

    Returns:
        Two arrays of that shape.
    """
    models = len(counts)
    bits = max(models - 1, 1).bit_length()
    whole: type[np.integer] = np.int32 if int(counts.max(initial=0)) < 1 << (31 - bits) else np.int64
    keys = np.sort((counts.T.astype(whole) << bits) | np.arange(models, dtype=whole), axis=1)
    values, model = keys >> bits, keys & ((1 << bits) - 1)
    edge = np.ones((len(keys), models + 1), dtype=np.bool_)  # between unequal neighbours, and at both ends
    np.not_equal(values[:, 1:], values[:, :-1], out=edge[:, 1:-1])
    at = np.arange(models, dtype=np.int32)
    below = np.maximum.accumulate(np.where(edge[:, :-1], at, 0), axis=1)
    upto = np.minimum.accumulate(np.where(edge[:, 1:], at, models - 1)[:, ::-1], axis=1)[:, ::-1]
    first, last = np.empty(keys.shape, np.int32), np.empty(keys.shape, np.int32)
    np.put_along_axis(first, model, models - upto, axis=1)
    np.put_along_axis(last, model, models - below, axis=1)
    return first.T, last.T


def _order_statistic(values: NDArray[np.int32], q: float) -> NDArray[np.int32]:
    """The quantile of each row by the inverse of the distribution function: a value that occurs."""
    order = max(math.ceil(q * values.shape[1] - 1e-9), 1) - 1
    return np.partition(np.ascontiguousarray(values), order, axis=1)[:, order]
