"""Scores with their intervals: Student's for the mean of a number a sample, the bootstrap's for anything else.

A bootstrap knows no spread where the samples show none. Of a share it is never surer than `unseen` says
(`benchmark.intervals`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.curve import proportion_interval, t_half_width
from benchmark.intervals import unseen
from benchmark.results import Direction, Output, Score, Table

CONFIDENCE: Final = 0.95


def scalar(name: str, title: str, text: str, unit: str = "", direction: Direction = "none") -> Output:
    """The declaration of a scalar output."""
    return Output(name, "scalar", title, text, unit=unit, direction=direction)


def proportions(correct: NDArray[Any]) -> Table:
    """Shares over the first axis, with Clopper–Pearson intervals; NaN in a missing cell, and of nothing."""
    n = len(correct)
    if not n:
        return Table(np.full(correct.shape[1:], np.nan))
    share = correct.mean(axis=0)
    low, high = proportion_interval(np.rint(np.nan_to_num(share) * n), n, confidence=CONFIDENCE)
    gone = np.isnan(share)
    return Table(share, np.where(gone, np.nan, low), np.where(gone, np.nan, high), CONFIDENCE)


def mean_score(output: Output, values: NDArray[np.float64]) -> Score:
    """The mean of a number a sample, as the value of a scalar output.

    Args:
        output: The output.
        values: Shape (n,); a value that is not finite makes the mean undefined, and is never left out.
    """
    values = np.asarray(values, dtype=np.float64)
    mean, low, high = float(values.mean()), None, None
    if len(values) > 1 and np.isfinite(values).all():
        half = float(t_half_width(values.std(ddof=1), len(values), confidence=CONFIDENCE))
        low, high = mean - half, mean + half
    return Score(output.name, mean, low, high, CONFIDENCE, unit=output.unit, direction=output.direction)


def bootstrap_score(output: Output, value: float, resampled: ArrayLike, *, n: int, least: float = 0.0) -> Score:
    """The value of a scalar output, with the percentile bootstrap's interval.

    The interval never leaves the value out: a statistic that chance alone makes larger, such as the ECE or the best
    threshold, is larger still on every resample.

    Args:
        output: The output.
        value: The statistic on the samples.
        resampled: The statistic of each resample, shape (resamples,).
        n: How many samples there are; of two sets, how many the smaller has.
        least: The least value of a statistic that is a share; the largest is 1.
    """
    ends = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = np.quantile(np.asarray(resampled, dtype=np.float64), ends).tolist()
    if output.unit == "share":
        most = (1 - least) * unseen(n, confidence=CONFIDENCE)
        low, high = min(low, 1 - most), max(high, least + most)
    low, high = min(low, value), max(high, value)
    return Score(output.name, value, low, high, CONFIDENCE, unit=output.unit, direction=output.direction)
