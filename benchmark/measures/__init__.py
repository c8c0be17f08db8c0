"""Measures, one a file, and their registry.

To add a measure, add a file here (or an entry point of the group ``curveboard.measures``) that holds a constant
``MEASURE = MyMeasure()``. A measure is run chunk by chunk: `Measure.run` sees some samples of the slice and
returns named per-sample arrays of any shape; `Measure.summarise` turns the arrays of all chunks, joined, into scores.
Adversarial examples go into ``Result.adversarials``: the evaluator re-checks them and they join the ledger.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.plugins import discover, look_up
from benchmark.results import Direction, Flag, Score

P = TypeVar("P")
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """The samples a measure is to work on: one chunk of a slice.

    Attributes:
        model: The classifier, in eval mode, its passes counted.
        module: The same classifier without the counter, for measures that trace or differentiate its structure.
        x: Images of the chunk, shape (n, c, h, w), float32 in [0, 1], on the device.
        y: Labels, shape (n,), int64, on the device.
        first: Index of the chunk's first sample in the dataset.
        seed: The evaluation's seed.
        pool: All images of the slice, shape (m, c, h, w); attacks may start from them.
        distances: The ledger's distances of these samples when the job began, norm -> shape (n,) float64; a measure may
            use them to save work (the box of an exact solver), never to change what it would find. Empty without one.
    """

    model: nn.Module
    module: nn.Module
    x: Tensor
    y: Tensor
    first: int = 0
    seed: int = 0
    pool: Tensor | None = None
    distances: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a measure found on one chunk.

    Attributes:
        arrays: Named arrays whose first axis is the samples of the chunk.
        adversarials: Candidate adversarial examples, shape of ``x``; a row without one is any row that does not hold.
        flags: What was noticed; flags of one code are kept once an evaluation, with the largest value.
    """

    arrays: Arrays = field(default_factory=dict)
    adversarials: Tensor | None = None
    flags: Sequence[Flag] = ()


@dataclass(frozen=True)
class Method:
    """What an evaluation ran, in words.

    Attributes:
        title: What it is, in one line.
        paper: Its source; empty if there is none.
    """

    title: str
    paper: str = ""


class Measure(ABC, Generic[P]):
    """Something computed of a model on a slice of a dataset.

    Attributes:
        name: The name in protocols, on the command line and on the board.
        version: Raised whenever the results can change; part of the evaluation's key.
        title: What it is, in one line.
        unit: Unit of its arrays' main quantity, for instance ``"distance"``.
        direction: Which values are better.
        chunk: Samples computed and committed together.
        paper: Its source, for instance ``"Weng et al. 2018, arXiv:1801.10578"``; empty if there is none.
        Parameters: A frozen dataclass with a default for each parameter; part of the evaluation's key.
            A field ``norm`` is shown on the board.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    title: ClassVar[str]
    unit: ClassVar[str]
    direction: ClassVar[Direction]
    chunk: ClassVar[int] = 100
    paper: ClassVar[str] = ""
    Parameters: type[P]

    def parameter_version(self, parameters: P) -> int:
        """A version to add to the key for what the parameters name (an attack has one of its own)."""
        return 0

    def method(self, parameters: P) -> Method:
        """What is run, recorded with the evaluation and told on the board."""
        return Method(self.title, self.paper)

    def samples(self, parameters: P, n: int) -> int:
        """How many samples of a slice of ``n`` are measured; fewer for a measure too dear for all."""
        return n

    @abstractmethod
    def run(self, task: Task, parameters: P) -> Result:
        """Measure one chunk."""

    @abstractmethod
    def summarise(self, arrays: Arrays, parameters: P) -> list[Score]:
        """Scores from the arrays of all chunks, joined.

        Besides the measure's own arrays there are ``distance_linf``, ``distance_l2`` and ``distance_l1`` (float64, as
        re-checked) when ``run`` returned adversarial examples.
        """


def measures() -> Mapping[str, Measure[Any]]:
    """All registered measures by name."""
    return cast("Mapping[str, Measure[Any]]", discover(__name__, "MEASURE"))


def get_measure(name: str) -> Measure[Any]:
    """The measure called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Measure[Any]", look_up("measure", name, measures()))
