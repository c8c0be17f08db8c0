"""Two curves of the same images: how much more robust the first is at each ε, with the interval of the difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from benchmark.curve import Floats, RobustnessCurve, check_confidence, check_eps
from benchmark.errors import InputError
from benchmark.threat.budget import limit


@dataclass(frozen=True, eq=False)
class Difference:
    """Robust accuracy of the first curve minus that of the second.

    Attributes:
        eps: Where, shape (k,).
        value: The difference, in [-1, 1], shape (k,).
        low: Lower ends of its interval, point by point (not of all points at once), shape (k,).
        high: Upper ends, shape (k,).
        confidence: Their level.
    """

    eps: Floats
    value: Floats
    low: Floats
    high: Floats
    confidence: float


def compare(
    first: RobustnessCurve, second: RobustnessCurve, *, eps: ArrayLike | None = None, confidence: float = 0.95
) -> Difference:
    """The difference of two robust accuracies on the same images, with its paired interval.

    Args:
        first: A curve.
        second: Another of the same images, in the same order and the same norm.
        eps: Where to compare, one budget or several; wherever one of the curves falls if None.
        confidence: Level of the intervals, in (0, 1).

    Raises:
        InputError: If the curves differ in their norm or their number of samples.

    Example:
        >>> compare(RobustnessCurve([0.1, 0.3], "l2"), RobustnessCurve([0.1, 0.2], "l2"), eps=0.25).value
        array([0.5])
    """
    if first.norm != second.norm:
        raise InputError(f"The curves are in {first.norm} and {second.norm}; only curves of one norm compare.")
    if len(first) != len(second):
        raise InputError(f"The curves have {len(first)} and {len(second)} samples; give curves of the same images.")
    both = np.union1d(first.steps().eps, second.steps().eps)
    at = both if eps is None else check_eps(np.atleast_1d(np.asarray(eps, dtype=np.float64)))
    value, low, high = paired_difference(first.distances, second.distances, at, confidence=confidence)
    return Difference(at, value, low, high, confidence)


def paired_difference(a: Floats, b: Floats, eps: Floats, *, confidence: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Difference of two robust accuracies on the same samples, and the ends of its interval in [−1, 1].

    With f and s of n samples on which only the first, only the second is robust the difference is (f − s) / n. The
    interval is that of Bonett & Price (J. Educ. Behav. Stat. 37, 2012), which holds for few samples and where the two
    never differ: p − q ± z √((p + q − (p − q)²) / (n + 2)), with p = (f + 1) / (n + 2) and q = (s + 1) / (n + 2). Point
    by point, not for the whole curve at once.

    Args:
        a: Distances of the first, shape (n,).
        b: Distances of the second, shape (n,).
        eps: Where, shape (g,).
        confidence: Level, in (0, 1).

    Returns:
        The difference, its low and its high end, shape (g,) each.
    """
    n = len(a)
    first = np.array([np.count_nonzero((a > e) & (b <= e)) for e in limit(eps)])
    second = np.array([np.count_nonzero((b > e) & (a <= e)) for e in limit(eps)])
    gap, middle, both = (first - second) / n, (first - second) / (n + 2), (first + second + 2) / (n + 2)
    half = float(stats.norm.ppf((1 + check_confidence(confidence)) / 2)) * np.sqrt((both - middle**2) / (n + 2))
    return gap, np.clip(middle - half, -1, gap), np.clip(middle + half, gap, 1)
