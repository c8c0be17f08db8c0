"""What measures report: declared outputs, scores, summaries, flags. No torch.

A measure declares its outputs before it runs; they are stored with the evaluation, so that the exports and the site can
show a result without knowing the measure that made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.threat.budget import within

Direction = Literal["higher", "lower", "none"]
"""Which values of an output are better."""

Kind = Literal["upper", "lower", "estimate", "verdict", "scalar", "grid", "trace"]
"""What an output is.

========  ====================================================================================================
upper     a distance a sample, proven by an adversarial example; joins the ledger of its threat
lower     a certified radius a sample: no adversarial example is nearer
estimate  a distance a sample, neither proven nor certified (CLEVER)
verdict   robust or not at ``eps``, a sample: bool, or a distance, which is then compared with ``eps`` (`verdicts`)
scalar    one number with its interval
grid      a number over named axes (corruption × severity, source × target, class × class)
trace     a number over work (robust accuracy against iterations or queries)
========  ====================================================================================================
"""

PER_SAMPLE: frozenset[Kind] = frozenset({"upper", "lower", "estimate", "verdict"})
"""Kinds whose values are an array of the chunks, named `Output.array`."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a measure computes, about: stated before anything has run, so that a plan can tell its cost.

    Attributes:
        forward: Images passed forward, a sample.
        backward: Images passed backward, a sample.
        steps: Forward passes in turn for a chunk of samples, however few images each has.
        sample_steps: The same for each sample by itself.
        operations: Elementwise operations on the images beside each of these.
        most_seconds: Wall time a sample at most, of a measure that ends by the clock; the others then say nothing.
    """

    forward: float = 0.0
    backward: float = 0.0
    steps: float = 0.0
    sample_steps: float = 0.0
    operations: float = 0.0
    most_seconds: float = 0.0

    def times(self, count: int) -> Work:
        """The work of so many runs, one after the other."""
        return Work(**{name: count * value for name, value in asdict(self).items()} | {"operations": self.operations})


@dataclass(frozen=True)
class GridAxis:
    """An axis of a grid, or the work axis of a trace.

    Attributes:
        name: For instance ``"corruption"``, ``"severity"``, ``"queries"``.
        labels: The positions, in order; of a trace, the amounts of work as text.
        unit: Of the positions, for instance ``"queries a sample"``; empty for names.
        apart: Labels that no mean is over (the extra corruptions of CIFAR-10-C).
    """

    name: str
    labels: tuple[str, ...]
    unit: str = ""
    apart: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """A named result of a measure, declared before it runs.

    Attributes:
        name: Unique among the measure's outputs; a column is ``measure.name``.
        kind: What it is.
        title: For people, short: a column's heading.
        help: One sentence: a column's tooltip.
        unit: ``"share"``, ``"distance"``, ``"logits"``, ``"seconds"`` …; empty for a bare number.
        direction: Which values are better.
        threat: Key of the threat (``"linf"``, ``"l2-targeted-next"``) that it speaks of; None if of none.
        eps: The perturbation budget of a verdict.
        array: Of a kind a sample: the name of the chunks' array that holds it. Of a grid of shares: the array
            (n, axes …) of predicted classes, −1 in a missing cell, or of bools, so that rows can be compared image by
            image; empty if there is none.
        axes: Axes of a grid, or the one of a trace.
        ledger: Whether a verdict speaks of everything known of its threat: what breaks a sample later then counts too
            wherever it is shown, and in the scalar of the same threat and ``eps`` that is its share of robust samples.
    """

    name: str
    kind: Kind
    title: str
    help: str = ""
    unit: str = ""
    direction: Direction = "none"
    threat: str | None = None
    eps: float | None = None
    array: str = ""
    axes: tuple[GridAxis, ...] = ()
    ledger: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the database."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Output:
        """The inverse of `to_json`; unknown names, of a newer version, are ignored."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        axes = tuple(
            GridAxis(a["name"], tuple(a["labels"]), a.get("unit", ""), tuple(a.get("apart", ())))
            for a in known.pop("axes", ())
        )
        return cls(**known, axes=axes)


def verdicts(output: Output, array: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each sample is robust, by the array of a verdict: bool as it is, distances where they exceed ``eps``."""
    return array if array.dtype.kind == "b" else ~within(array, output.eps or 0.0)


@dataclass(frozen=True)
class Flag:
    """A warning about a row: stored, shown, never silent.

    Attributes:
        code: A short stable identifier, for instance ``"zero-gradients"``; one code for one thing.
        message: What was seen, in plain words, with the value.
        value: The value seen, where there is one.
    """

    code: str
    message: str
    value: float | None = None


@dataclass(frozen=True)
class Score:
    """One number of an evaluation, with its interval: the value of the scalar output of that name.

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


@dataclass(frozen=True, eq=False)
class Table:
    """The values of a grid or trace.

    Attributes:
        values: Shape: the lengths of the output's axes; NaN in a cell that is missing.
        low: Lower ends of the intervals, the same shape, if known.
        high: Upper ends.
        confidence: Confidence level of the intervals.
    """

    values: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    confidence: float | None = None


@dataclass(frozen=True, eq=False)
class Summary:
    """What a measure says of all its samples.

    Attributes:
        scores: Values of its scalar outputs (further numbers are kept too).
        tables: Values of its grid and trace outputs, by the output's name.
    """

    scores: Sequence[Score] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
