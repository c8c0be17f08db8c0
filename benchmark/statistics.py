"""Statistics of several robustness curves: crossings, unions of norms, ranks, and summaries of many at once. No torch.

All resampling is of *samples*, and paired: one resample draws the same images for every model, because the models of a
board are measured on the same images and most of the sampling error is common to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.curve import (
    Floats,
    Interval,
    RobustnessCurve,
    check_confidence,
    check_distances,
    check_eps,
    dkw_half_width,
    proportion_interval,
)
from benchmark.errors import InputError
from benchmark.intervals import bounded_mean_interval
from benchmark.ranks import Ranks, rank_intervals, ranks_of_counts, resampled_counts, resampling
from benchmark.threat.budget import limit

__all__ = [
    "Crossing",
    "Ranks",
    "Summaries",
    "Union",
    "crossings",
    "rank_intervals",
    "ranks_of_counts",
    "resampled_counts",
    "resampling",
    "summarise",
    "union",
]

_MOST_LEADS: Final = 128
"""Leads of one curve over another that are resampled; of more, the smallest are merged first."""

_PLACES: Final = 128
"""Candidate places of a crossing: so many of each kind."""


@dataclass(frozen=True)
class Crossing:
    """Where the order of two models flips.

    Attributes:
        eps: The smallest perturbation budget from which the other model leads.
        low: Lower end of the bootstrap interval of ``eps``.
        high: Upper end of it.
        support: Share of paired resamples in which one model leads before and the other after, each over its stretch.
        ahead: Which of the two has the higher robust accuracy after the crossing.
    """

    eps: float
    low: float
    high: float
    support: float
    ahead: Literal["first", "second"]


@dataclass(frozen=True, eq=False)
class Union:
    """Robustness against several norms at once.

    Attributes:
        robust: Whether each sample is robust in every norm at its eps, shape (n,), bool.
        robust_accuracy: Share of robust samples.
        interval: Clopper–Pearson interval of that share.
    """

    robust: NDArray[np.bool_]
    robust_accuracy: float
    interval: Interval


@dataclass(frozen=True, eq=False)
class Summaries:
    """Figures of many curves of the same number of samples.

    Attributes:
        eps: Perturbation budgets, shape (g,).
        robust_accuracy: Shape (models, g).
        low: Lower end of the Clopper–Pearson interval at each eps, shape (models, g).
        high: Upper end of it.
        band_low: Lower edge of the Dvoretzky–Kiefer–Wolfowitz band, shape (models, g).
        band_high: Upper edge of it.
        area: Area under robust accuracy from 0 to ``up_to``, shape (models,), in the unit of the distances.
        area_low: Lower end of its interval, as of `RobustnessCurve.area_interval`.
        area_high: Upper end of it.
        up_to: The bound of the areas.
        shares: The shares whose quantiles are given, shape (q,).
        quantiles: Smallest eps at which that share is broken, ``inf`` if it never is; shape (models, q).
        clean_accuracy: Shape (models,).
        censored: Samples without an adversarial example, shape (models,), int64.
        confidence: Level of all intervals and bands.
    """

    eps: Floats
    robust_accuracy: Floats
    low: Floats
    high: Floats
    band_low: Floats
    band_high: Floats
    area: Floats
    area_low: Floats
    area_high: Floats
    up_to: float
    shares: Floats
    quantiles: Floats
    clean_accuracy: Floats
    censored: NDArray[np.int64]
    confidence: float


def union(curves: Iterable[RobustnessCurve], eps: Mapping[str, float], *, confidence: float = 0.95) -> Union:
    """Robust accuracy against the union of several norms' balls.

    A sample is robust only if it is robust in every norm at that norm's eps (Tramèr & Boneh 2019).

    Args:
        curves: Curves of one model on the same samples, at least one for each norm of ``eps``.
        eps: norm -> perturbation budget.
        confidence: Level of the interval.

    Raises:
        InputError: If a norm has no curve, or the curves differ in their number of samples.
    """
    chosen = [curve for curve in curves if curve.norm in eps]
    missing = sorted(set(eps) - {curve.norm for curve in chosen})
    if missing or not chosen:
        raise InputError(f"The union needs a curve for each of its norms; there is none for {missing or 'any norm'}.")
    if len({len(curve) for curve in chosen}) > 1:
        raise InputError(f"The curves of a union have the same samples; these have {[len(c) for c in chosen]}.")
    robust = np.all([curve.distances > limit(check_eps(eps[curve.norm])) for curve in chosen], axis=0)
    low, high = proportion_interval(robust.sum(), len(robust), confidence=confidence)
    return Union(robust, float(robust.mean()), Interval(float(low), float(high), confidence))


def crossings(
    first: RobustnessCurve,
    second: RobustnessCurve,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Crossing]:
    """Where two models' robustness curves cross, as far as the samples can tell.

    A *lead* is a stretch of eps on which one model has the higher robust accuracy. The support of a lead is the share
    of paired bootstrap resamples in which the area between the curves on that stretch has the same sign; where only k
    samples differ on it, at most 1 - 2^-k, as a sign test has it. The weakest lead whose support is below
    ``confidence`` is merged into its neighbours until none is left; a crossing lies between two remaining leads. So the
    jitter of two curves that run close together is not reported, and a flip interrupted by jitter still is. Beyond the
    largest finite distance nothing was measured and nothing is compared.

    Args:
        first: One curve.
        second: The other, in the same norm and on the same samples in the same order.
        confidence: Support that every lead must have, in (0, 1); also the level of the places' intervals.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Returns:
        The crossings, by eps.

    Raises:
        InputError: If the curves differ in norm or number of samples.
    """
    if first.norm != second.norm or len(first) != len(second):
        raise InputError(
            f"Crossings compare curves in one norm on the same samples; these are {first.norm} with {len(first)} and "
            f"{second.norm} with {len(second)} samples."
        )
    check_confidence(confidence)
    leads = _leads(first, second)
    while len(leads) > _MOST_LEADS:
        leads = _merge(leads, int(np.argmin([abs(lead.area) for lead in leads])))
    if len(leads) < 2:
        return []
    pair = _Pair(first, second, resampling(len(first), resamples, seed))
    edges = np.array([[lead.start, lead.end] for lead in leads]).ravel()
    areas = dict(zip(edges.tolist(), pair.areas(edges).T, strict=True))
    while True:
        won = [(areas[lead.end] - areas[lead.start]) * lead.sign > 0 for lead in leads]
        # A few samples that all agree settle a lead no better than as many tosses of a coin.
        carried = [pair.carried_by(lead.start, lead.end) for lead in leads]
        supports = [min(float(w.mean()), 1 - 0.5**k) for w, k in zip(won, carried, strict=True)]
        if len(leads) < 2 or min(supports) >= confidence:
            break
        leads = _merge(leads, int(np.argmin(supports)))
    both = [float((before & after).mean()) for before, after in pairwise(won)]
    turns = zip(pairwise(leads), both, strict=True)
    return [pair.crossing(before, after, support, confidence) for (before, after), support in turns]


def summarise(
    distances: ArrayLike,
    *,
    eps: ArrayLike,
    up_to: float,
    shares: Sequence[float] = (0.25, 0.5, 0.75),
    confidence: float = 0.95,
) -> Summaries:
    """Figures of many curves at once; each equals that of `RobustnessCurve`.

    Args:
        distances: Smallest adversarial distances, shape (models, n).
        eps: Perturbation budgets, shape (g,).
        up_to: Bound of the areas.
        shares: Shares in (0, 1] whose quantiles are wanted.
        confidence: Level of all intervals and bands.
    """
    matrix = check_distances(distances, ndim=2)
    grid = np.atleast_1d(check_eps(eps))
    n = matrix.shape[1]
    curves = [RobustnessCurve(row, "linf") for row in matrix]  # the norm has no part in any of the figures
    accuracy = np.array([curve.robust_accuracy(grid) for curve in curves])
    low, high = proportion_interval(np.rint(accuracy * n), n, confidence=confidence)
    width = dkw_half_width(n, confidence=confidence)
    within = np.minimum(matrix, up_to)
    area_low, area_high = bounded_mean_interval(within, up_to, confidence=confidence)
    return Summaries(
        eps=grid,
        robust_accuracy=accuracy,
        low=low,
        high=high,
        band_low=np.clip(accuracy - width, 0, 1),
        band_high=np.clip(accuracy + width, 0, 1),
        area=within.mean(axis=1),
        area_low=area_low,
        area_high=area_high,
        up_to=up_to,
        shares=np.asarray(shares, dtype=np.float64),
        quantiles=np.array([[curve.quantile(q) for q in shares] for curve in curves]),
        clean_accuracy=np.array([curve.clean_accuracy for curve in curves]),
        censored=np.array([curve.censored for curve in curves], dtype=np.int64),
        confidence=confidence,
    )


@dataclass(frozen=True)
class _Lead:
    """A stretch of eps on which one curve is above the other: sign 1 for the first, -1 for the second."""

    start: float
    end: float
    area: float

    @property
    def sign(self) -> int:
        return 1 if self.area > 0 else -1


def _leads(first: RobustnessCurve, second: RobustnessCurve) -> list[_Lead]:
    """The maximal stretches, up to the largest finite distance; stretches of equality between them belong to none."""
    both = np.concatenate((first.distances, second.distances, [0.0]))
    eps = np.unique(both[np.isfinite(both)])
    gap = first.robust_accuracy(eps[:-1]) - second.robust_accuracy(eps[:-1])
    areas = gap * np.diff(eps)
    unequal = np.flatnonzero(gap)
    if len(unequal) == 0:
        return []
    turns = np.flatnonzero(np.diff(np.sign(gap[unequal]))) + 1
    runs = np.split(unequal, turns)
    return [_Lead(float(eps[run[0]]), float(eps[run[-1] + 1]), float(areas[run].sum())) for run in runs]


def _merge(leads: list[_Lead], weak: int) -> list[_Lead]:
    """Give a lead up: its neighbours, which have the other sign, become one; at an end it is dropped."""
    if weak in (0, len(leads) - 1):
        return leads[:weak] + leads[weak + 1 :]
    before, lead, after = leads[weak - 1 : weak + 2]
    area = before.area + lead.area + after.area
    if area * before.area <= 0:  # a lead that few samples carry is weak though its area may outweigh its neighbours'
        area = before.area
    return [*leads[: weak - 1], _Lead(before.start, after.end, area), *leads[weak + 2 :]]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two curves and the resamples of the samples they share."""

    first: RobustnessCurve
    second: RobustnessCurve
    weights: NDArray[np.float32]

    def areas(self, up_to: Floats) -> NDArray[np.float32]:
        """Area of the first curve minus that of the second, from 0 to each bound: (resamples, bounds)."""
        a, b = self.first.distances, self.second.distances
        per_sample = np.minimum.outer(a, up_to) - np.minimum.outer(b, up_to)
        return np.asarray(self.weights @ per_sample.astype(np.float32)) / np.float32(len(a))

    def carried_by(self, start: float, end: float) -> int:
        """On how many samples the two differ over a stretch of eps."""
        one, two = (np.clip(c.distances, start, end) for c in (self.first, self.second))
        return int((one != two).sum())

    def crossing(self, before: _Lead, after: _Lead, support: float, confidence: float) -> Crossing:
        """The crossing between two leads, placed in each resample where the area between the curves turns."""
        places = self._places(before.start, after.start, after.end)
        turned = places[np.argmax(self.areas(places) * before.sign, axis=1)]
        tail = (1 - confidence) / 2
        low, high = np.quantile(turned, [tail, 1 - tail], method="inverted_cdf")
        return Crossing(
            eps=after.start,
            low=min(float(low), after.start),
            high=max(float(high), after.start),
            support=support,
            ahead="first" if after.sign > 0 else "second",
        )

    def _places(self, start: float, middle: float, end: float) -> Floats:
        """Where the crossing may lie: the nearest steps on both sides, and coarser ones over the whole stretch."""
        steps = np.unique(np.concatenate((self.first.distances, self.second.distances)))
        steps = steps[(steps >= start) & (steps <= end)]
        at = int(np.searchsorted(steps, middle))
        near = steps[max(at - _PLACES, 0) : at + _PLACES]
        coarse = steps[np.linspace(0, len(steps) - 1, _PLACES).astype(int)]
        return np.unique(np.concatenate((near, coarse, np.linspace(start, end, _PLACES), [middle])))
