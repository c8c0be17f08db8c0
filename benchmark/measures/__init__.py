"""Measures, one a file, and their registry.

To add a measure, add a file here (or an entry point of the group ``curveboard.measures``) that holds a constant
``MEASURE = MyMeasure()``. It declares what it needs (`Measure.needs`) and what it gives (`Measure.outputs`); both are
stored with every evaluation. A measure is run chunk by chunk: `Measure.run` sees some samples of the slice and returns
named per-sample arrays; `Measure.summarise` turns the arrays of all chunks, joined, into the values of its scalar,
grid and trace outputs. Adversarial examples go into ``Result.adversarials``: the evaluator re-checks them and they join
the ledger.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.plugins import discover, look_up
from benchmark.results import Flag, Output, Score, Summary, Work
from benchmark.threat.goals import UNTARGETED

if TYPE_CHECKING:
    from benchmark.data import Dataset
    from benchmark.data.suites import Sequences, Suite

P = TypeVar("P")
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a measure needs besides a classifier and the samples of the slice.

    The digests of suites, splits, other datasets, reference and source models and of the training run enter the key.

    Attributes:
        gradients: Gradients of the logits with respect to the images.
        graph: The structure of the module, to trace it.
        pool: Images to start from (`Task.pool`).
        ledger: The distances known so far (`Task.distances`).
        initial: The model as its training began, rebuilt from the seed on its card (`Task.initial`).
        suites: Suites of the dataset, by name (`Task.suites`).
        datasets: Other datasets, by name (`Task.datasets`).
        splits: Other splits of the dataset, by name, for instance ``"train"`` (`Task.splits`).
        references: Slugs of models whose arrays of the same measure and parameters `Measure.summarise` is to see.
        sources: Slugs of models of the same label space and image shape that `Measure.run` is to have (`Task.sources`).
        examples: Digests of files of adversarial examples in the evidence store (`Task.examples`); the measure then
            runs on their samples only.
    """

    gradients: bool = False
    graph: bool = False
    pool: bool = False
    ledger: bool = False
    initial: bool = False
    suites: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """The samples a measure is to work on: one chunk of a slice.

    Everything in it is the measure's own copy: what it changes is seen by nobody else.

    Attributes:
        model: The classifier, in eval mode, its passes counted.
        module: The same classifier without the counter, for measures that trace or differentiate its structure.
        x: Images of the chunk, shape (n, c, h, w), float32 in [0, 1], on the device.
        y: Labels, shape (n,), int64, on the device.
        first: Index of the chunk's first sample in the dataset.
        seed: The chunk's seed.
        pool: If the measure needs it: at most 1,000 images of the dataset, evenly spread, shape (m, c, h, w), on the
            device.
        distances: If the measure needs the ledger: its distances of these samples when the job began, threat -> shape
            (n,) float64. They may save work (the box of an exact solver), never change what would be found.
        dataset: The dataset; None in tests that have none.
        suites: The suites that the measure needs, made of the dataset; their batches come on the CPU.
        splits: The splits that the measure needs; their batches come on the CPU.
        datasets: The other datasets that the measure needs; their batches come on the CPU.
        initial: If the measure needs it, the model as its training began, on the CPU; None where the card states no
            training run of the zoo's.
        examples: The adversarial examples that the measure needs, one for each sample, shape of ``x``.
        sources: The other models that the measure needs, by slug, in eval mode, their passes counted.
        itself: Those of them that are the classifier itself, by their digest.
    """

    model: nn.Module
    module: nn.Module
    x: Tensor
    y: Tensor
    first: int = 0
    seed: int = 0
    pool: Tensor | None = None
    distances: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    dataset: Dataset | None = None
    suites: Mapping[str, Suite | Sequences] = field(default_factory=dict)
    splits: Mapping[str, Dataset] = field(default_factory=dict)
    datasets: Mapping[str, Dataset] = field(default_factory=dict)
    initial: nn.Module | None = None
    examples: Tensor | None = None
    sources: Mapping[str, nn.Module] = field(default_factory=dict)
    itself: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Result:
    """What a measure found on one chunk.

    Attributes:
        arrays: Named arrays whose first axis is the samples of the chunk.
        adversarials: Candidate adversarial examples, shape of ``x``; a row without one is any row that does not hold.
        flags: What was noticed; flags of one code are kept once an evaluation, with the largest value.
        goal: What the examples are to reach: a key of `benchmark.threat.goals`. Their distances are then re-checked
            under this goal too, as ``distance_<norm>-<goal>``.
        targets: The class that each example is to be given, shape (n,), int64, where the goal is a targeted one.
    """

    arrays: Arrays = field(default_factory=dict)
    adversarials: Tensor | None = None
    flags: Sequence[Flag] = ()
    goal: str = UNTARGETED
    targets: Tensor | None = None


@dataclass(frozen=True)
class Inputs:
    """What `Measure.summarise` sees.

    Attributes:
        arrays: The measure's arrays of all samples, joined; also ``distance_<threat>`` (float64, as re-checked) for
            each threat, when `Measure.run` returned adversarial examples.
        labels: Labels of the samples, shape (n,), int64.
        references: Slug -> the arrays that the same measure gave on that model, for the declared reference models.
        dataset: The dataset; None in tests that have none.
    """

    arrays: Arrays
    labels: NDArray[np.int64]
    references: Mapping[str, Arrays] = field(default_factory=dict)
    dataset: Dataset | None = None


@dataclass(frozen=True)
class Method:
    """What an evaluation ran, in words.

    Attributes:
        title: What it is, in one line.
        paper: Its source; empty if there is none.
        contributor: Who is credited for the adversarial examples it finds; empty for the measure itself.
        change: Kind of the changelog's entry when it lowers distances; empty for ``distances-lowered``.
    """

    title: str
    paper: str = ""
    contributor: str = ""
    change: str = ""


class Measure(ABC, Generic[P]):
    """Something computed of a model on a slice of a dataset.

    Attributes:
        name: The name in protocols, on the command line and on the board.
        version: Raised whenever the results can change; part of the evaluation's key.
        title: What it is, in one line.
        chunk: Samples computed and committed together.
        paper: Its source, for instance ``"Weng et al. 2018, arXiv:1801.10578"``; empty if there is none.
        per_sample: Whether a sample's values do not depend on which others are measured with it: slices of different
            lengths then take over each other's chunks.
        abstaining: Whether its results mean something for a model that may reject an image (`benchmark.rejection`);
            else it does not apply to one.
        at_most: Name of the parameter that says how many samples of a slice are measured, for a measure that would
            take too long on all of them; empty if there is none.
        uncounted: Why `work` cannot say what it will cost, for `evaluate --plan`; empty where it can.
        Parameters: A frozen dataclass with a default for each parameter; those that differ from their defaults are
            part of the evaluation's key. A field ``norm`` is shown on the board.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    title: ClassVar[str]
    chunk: ClassVar[int] = 100
    paper: ClassVar[str] = ""
    per_sample: ClassVar[bool] = True
    abstaining: ClassVar[bool] = False
    at_most: ClassVar[str] = ""
    uncounted: ClassVar[str] = ""
    Parameters: type[P]

    def needs(self, parameters: P) -> Needs:
        """What it needs besides a classifier and the samples."""
        return Needs()

    @abstractmethod
    def outputs(self, parameters: P, dataset: Dataset) -> Sequence[Output]:
        """What it will give, declared before it runs."""

    def attack_version(self, parameters: P) -> int:
        """Version of the attack or method that the parameters name, part of the key; 0 if they name none."""
        return 0

    def method(self, parameters: P) -> Method:
        """What is run, recorded with the evaluation and told on the board."""
        return Method(self.title, self.paper)

    def work(self, parameters: P, dataset: Dataset) -> Work | None:
        """What it computes of one sample, within a factor of two; None where that cannot be said beforehand."""
        return None

    def why_uncounted(self, parameters: P) -> str:
        """Why `work` says nothing of these parameters, for `evaluate --plan`."""
        return self.uncounted

    def samples(self, parameters: P, n: int) -> int:
        """How many samples of a slice of ``n`` are measured: the first so many."""
        return min(n, getattr(parameters, self.at_most)) if self.at_most else n

    @abstractmethod
    def run(self, task: Task, parameters: P) -> Result:
        """Measure one chunk.

        Raises:
            UnsupportedModelError: If the measure does not apply to the model: no failure, and no result either.
        """

    @abstractmethod
    def summarise(self, inputs: Inputs, parameters: P) -> Summary | Sequence[Score]:
        """The values of the scalar, grid and trace outputs, from the arrays of all chunks.

        A sequence of scores stands for a summary without tables.
        """


def measures() -> Mapping[str, Measure[Any]]:
    """All registered measures by name."""
    return cast("Mapping[str, Measure[Any]]", discover(__name__, "MEASURE"))


def get_measure(name: str) -> Measure[Any]:
    """The measure called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Measure[Any]", look_up("measure", name, measures()))
