"""Means over samples with Student's interval, for measures that are a number a sample."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import t_half_width
from benchmark.results import Direction, Output, Score

CONFIDENCE: Final = 0.95


def scalar(name: str, title: str, text: str, unit: str = "", direction: Direction = "none") -> Output:
    """The declaration of a scalar output."""
    return Output(name, "scalar", title, text, unit=unit, direction=direction)


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
