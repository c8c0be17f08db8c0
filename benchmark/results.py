"""What a measure or an attack reports beside its arrays: flags and scores. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "none"]
"""Which values of a score are better."""


@dataclass(frozen=True)
class Flag:
    """A warning about a row: stored, shown, never silent.

    Attributes:
        code: A short stable identifier, for instance ``"zero-gradients"``.
        message: What was seen, in plain words, with the value.
        value: The value seen, where there is one.
    """

    code: str
    message: str
    value: float | None = None


@dataclass(frozen=True)
class Score:
    """One number of an evaluation, with its interval.

    Attributes:
        name: For instance ``"robust_accuracy"``.
        value: The estimate.
        low: Lower end of the interval, if one is known.
        high: Upper end of the interval.
        confidence: Confidence level of the interval.
        unit: For instance ``"share"``, ``"distance"``, ``"seconds"``.
        direction: Which values are better.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    unit: str = ""
    direction: Direction = "none"
