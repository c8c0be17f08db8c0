"""How far each class is from each other class: median targeted distances, as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmark.attacks import EFFORTS, Effort, get_attack
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Method, Needs, Result, Task
from benchmark.measures.aims import attack_all, stated_work
from benchmark.results import GridAxis, Output, Summary, Table, Work
from benchmark.threat import Norm, symbol
from benchmark.threat.goals import TARGETED

if TYPE_CHECKING:
    from benchmark.data import Dataset

_MOST_CLASSES: Final = 20
"""Classes from which on the matrix would neither be paid for nor read."""


@dataclass(frozen=True)
class TargetMatrixParameters:
    """Parameters of the matrix.

    Attributes:
        norm: The norm of the distances.
        attack: A registered attack with targeted goals.
        effort: How much it may spend a target.
        samples: At most so many samples are attacked, each towards every other class.
    """

    norm: Norm = "linf"
    attack: str = "targeted"
    effort: Effort = "quick"
    samples: int = 100

    def __post_init__(self) -> None:
        if self.effort not in EFFORTS:
            raise InputError(f"An attack's effort is one of {', '.join(EFFORTS)}, got {self.effort!r}.")
        if self.samples < 1:
            raise InputError(f"A matrix of targets needs at least 1 sample, got {self.samples!r}.")
        get_attack(self.attack).check(self.norm, TARGETED)


class TargetMatrix(Measure[TargetMatrixParameters]):
    """Median distance from each class to each other one."""

    name = "target_matrix"
    version = 1
    title = "Matrix of targets: median distance from each class to each other class"
    paper = "this project"
    at_most = "samples"
    abstaining = True
    Parameters = TargetMatrixParameters

    def attack_version(self, parameters: TargetMatrixParameters) -> int:
        """The attack's version."""
        return get_attack(parameters.attack).version_in(parameters.norm)

    def method(self, parameters: TargetMatrixParameters) -> Method:
        """The attack's title and paper."""
        attack = get_attack(parameters.attack)
        return Method(attack.title, attack.paper, contributor=attack.name)

    def needs(self, parameters: TargetMatrixParameters) -> Needs:
        """Gradients, and images to start from."""
        return Needs(gradients=True, pool=True)

    def work(self, parameters: TargetMatrixParameters, dataset: Dataset) -> Work | None:
        """The attack's, towards each other class."""
        return stated_work(parameters.attack, parameters.norm, parameters.effort, targets=dataset.n_classes - 1)

    def outputs(self, parameters: TargetMatrixParameters, dataset: Dataset) -> Sequence[Output]:
        """The matrix."""
        if dataset.n_classes > _MOST_CLASSES:
            raise InputError(
                f"{dataset.name!r} has {dataset.n_classes} classes; a matrix of targets is made of at most "
                f"{_MOST_CLASSES}. Use the measure 'targeted' instead."
            )
        axes = (GridAxis("label", tuple(dataset.classes)), GridAxis("target", tuple(dataset.classes)))
        return (
            Output(
                "median_distance",
                "grid",
                f"Median distance from class to class, {symbol(parameters.norm)}",
                "Median over the images of a class of the smallest distance found to a target; none where there is no "
                "image, infinite where most never reached it.",
                "distance",
                "higher",
                axes=axes,
            ),
        )

    def run(self, task: Task, parameters: TargetMatrixParameters) -> Result:
        """Attack the chunk towards every class; the array ``to_class`` holds the verified distances, (n, k)."""
        found = attack_all(task, parameters.attack, norm=parameters.norm, effort=parameters.effort, hardest=False)
        return Result({"to_class": found.distances}, found.adversarials, found.flags)

    def summarise(self, inputs: Inputs, parameters: TargetMatrixParameters) -> Summary:
        """Medians a class and target; the lower of two middle ones."""
        distances = np.asarray(inputs.arrays["to_class"])
        classes = distances.shape[1]
        values = np.full((classes, classes), np.nan)
        for label in range(classes):
            own = distances[inputs.labels == label]
            if len(own):
                others = np.arange(classes) != label
                values[label, others] = np.quantile(own[:, others], 0.5, axis=0, method="lower")
        return Summary(tables={"median_distance": Table(values)})


MEASURE = TargetMatrix()
