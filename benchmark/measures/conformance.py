"""The conformance report as a measure: stored, and shown beside the results it qualifies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmark.conformance import IMAGES, Report, check_conformance
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.rejection import rejects
from benchmark.results import Flag, Output, Score, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

UNITS: Final = {
    "accuracy": "share",
    "batch_independent": "relative",
    "classes": "classes",
    "deterministic": "relative",
    "extreme_inputs": "images",
    "finite_outputs": "images",
    "flops": "FLOPs/image",
    "inner_optimisation": "passes",
    "input_gradients": "share",
    "input_range": "share",
    "input_shape": "images",
    "input_unchanged": "images",
    "logits": "distance",
    "parameters": "parameters",
    "rejection": "share",
    "seconds": "s/image",
    "size": "bytes",
}
"""The checks, and the units of the values they see."""


@dataclass(frozen=True)
class ConformanceParameters:
    """The report has no parameters."""


class Conformance(Measure[ConformanceParameters]):
    """The conformance report."""

    name = "conformance"
    version = 2
    title = "Conformance: whether the model can be evaluated, and what is unusual about it"
    chunk = IMAGES
    per_sample = False
    abstaining = True
    Parameters = ConformanceParameters

    def samples(self, parameters: ConformanceParameters, n: int) -> int:
        """The first 500."""
        return min(n, IMAGES)

    def needs(self, parameters: ConformanceParameters) -> Needs:
        """Gradients."""
        return Needs(gradients=True)

    def outputs(self, parameters: ConformanceParameters, dataset: Dataset) -> Sequence[Output]:
        """The value that each check saw."""
        return [
            Output(name, "scalar", name.replace("_", " ").capitalize(), f"What the check {name!r} saw.", unit=unit)
            for name, unit in UNITS.items()
        ]

    def work(self, parameters: ConformanceParameters, dataset: Dataset) -> Work | None:
        """Nine forward passes, and what is looked at on a few images alone."""
        return Work(forward=10, backward=1, steps=50)

    def run(self, task: Task, parameters: ConformanceParameters) -> Result:
        """Check the module.

        Raises:
            InputError: If a check refuses it.
        """
        with_classes = task.module(task.x[:1]).shape[-1] - rejects(task.module)
        report = check_conformance(task.module, task.x, task.y, classes=with_classes)
        refused = [check.message for check in report.checks if check.verdict == "refuse"]
        if refused:
            raise InputError(" ".join(refused))
        return result_of(report, len(task.x))

    def summarise(self, inputs: Inputs, parameters: ConformanceParameters) -> list[Score]:
        """The value that each check saw."""
        arrays = inputs.arrays
        seen = {name: float(arrays[name][0]) for name in UNITS if name in arrays}
        return [Score(name, value, unit=UNITS[name]) for name, value in seen.items() if not math.isnan(value)]


def result_of(report: Report, n: int) -> Result:
    """What is stored of a report on ``n`` images that refuses nothing."""
    return Result(
        arrays={check.name: np.full(n, check.value) for check in report.checks if check.name in UNITS},
        flags=[Flag(check.flag, check.message, check.value) for check in report.checks if check.verdict == "flag"],
    )


MEASURE = Conformance()
