"""Confidence intervals of means of bounded values that hold for few samples as well. No torch."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS: Final = 2000
"""Draws of the weights; an end is a quantile of them, taken outward."""

CELLS: Final = 2**25
"""Weights kept at most (float32: 128 MiB): of very many samples fewer draws are made."""


def unseen(n: int, *, confidence: float) -> float:
    """The largest share that may have what none of n samples shows: the end of Clopper and Pearson's interval of 0."""
    return float(1 - ((1 - confidence) / 2) ** (1 / n))


def widened(
    low: float, high: float, value: float, n: int, *, least: float, confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of a mean over n samples of values in [least, 1], made no narrower than so few samples can know.

    A bootstrap knows no spread where the samples show none; yet the share `unseen` may be at either end of the range.

    Args:
        low: Lower end of another interval, such as a bootstrap's.
        high: Upper end.
        value: The mean.
        n: How many samples there are.
        least: 0 for shares, −1 for differences of shares.
        confidence: Level, in (0, 1).
    """
    share = unseen(n, confidence=confidence)
    return min(low, value + share * (least - value)), max(high, value + share * (1 - value))


def bounded_mean_interval(values: Floats, most: float, *, confidence: float) -> tuple[Floats, Floats]:
    """Interval of the mean of independent values in [0, most], for any number of them.

    Gaffke's bounds (2005; Learned-Miller & Thomas 2020, arXiv:1905.06208): the mean of the sorted sample and one more
    value, at an end of the range, under the spacings of uniform random numbers as weights. Of zeros and ones they are
    Clopper and Pearson's; of many values they are as wide as Student's. That they hold at every sample size and
    law is conjectured and was found in all that was tried; the tests try it too.

    Args:
        values: Shape (..., n).
        most: Upper end of the range, in the unit of the values.
        confidence: Level, in (0, 1).

    Returns:
        Lower and upper ends, shape (...), within [0, most].
    """
    n = values.shape[-1]
    weights = _spacings(n)
    # Scaled first: float32 would overflow on distances in pixels.
    sums = (values.reshape(-1, n) / most).astype(np.float32) @ weights[:, :n].T
    tail = (1 - confidence) / 2
    at = max(math.floor(tail * len(weights)), 1) - 1
    low = np.partition(sums, at, axis=1)[:, at].astype(np.float64)
    sums += weights[:, n]
    high = np.partition(sums, len(weights) - 1 - at, axis=1)[:, len(weights) - 1 - at].astype(np.float64)
    mean = values.reshape(-1, n).mean(axis=1)
    shape = values.shape[:-1]
    low, high = np.minimum(low * most, mean), np.maximum(high * most, mean)
    return np.maximum(low, 0).reshape(shape), np.minimum(high, most).reshape(shape)


@lru_cache(maxsize=2)
def _spacings(n: int) -> NDArray[np.float32]:
    """Spacings of ``n`` sorted uniform numbers and the two ends, shape (draws, n + 1); each row sums to 1."""
    draws = max(200, min(DRAWS, CELLS // (n + 1)))
    drawn = np.random.default_rng(0).standard_exponential((draws, n + 1), dtype=np.float32)
    drawn /= drawn.sum(axis=1, keepdims=True)
    drawn.flags.writeable = False
    return drawn
