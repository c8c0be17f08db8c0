"""How strong a corruption must be to change the label: a curve over a continuous severity, a corruption at a time.

No worst case, since each image meets one draw of the noise, and no norm: severities of two corruptions compare as far
as their published constants do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data.corruptions.suite import GeneratedSuite
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.corruption_cells import (
    OPERATIONS,
    classes,
    grid_suite,
    grid_suite_of,
    margin,
    mean_score,
    means,
    missing_flag,
    standard,
)
from benchmark.results import GridAxis, Output, Summary, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

STREAM = "strength"
"""One draw of the noise for all severities of an image, so that it changes by its strength alone."""

_NO_NORM = "Neither a worst case nor a norm."


@dataclass(frozen=True)
class StrengthParameters:
    """Parameters.

    Attributes:
        suite: A generated suite of corruption × severity.
        steps: Severities that are tried, evenly spread up to the highest.
        refine: Times that the step in which the label changed is halved.
        samples: Only the first so many samples of the slice are measured.
    """

    suite: str = "mnist-c"
    steps: int = 10
    refine: int = 3
    samples: int = 1000

    def __post_init__(self) -> None:
        if self.steps < 1 or self.refine < 0 or self.samples < 1:
            raise InputError(
                f"Strength needs steps and samples of at least 1 and refine of at least 0, got {self.steps}, "
                f"{self.samples} and {self.refine}."
            )


class CorruptionStrength(Measure[StrengthParameters]):
    """The smallest severity that was found to change the label, a sample and corruption."""

    name = "corruption_strength"
    version = 2
    title = "Corruption strength: smallest severity found to change the label (neither a worst case nor a norm)"
    chunk = 250
    at_most = "samples"
    Parameters = StrengthParameters

    def needs(self, parameters: StrengthParameters) -> Needs:
        """The suite."""
        return Needs(suites=(parameters.suite,))

    def outputs(self, parameters: StrengthParameters, dataset: Dataset) -> Sequence[Output]:
        """A strength a sample and corruption, the curve over all, its area."""
        suite = grid_suite(parameters.suite, dataset)
        names, most = suite.axes[0], _most(suite)
        found = [
            Output(
                f"strength_{name}", "estimate", f"Strength of {name.replace('_', ' ')}",
                f"Smallest severity found at which the label changes, of {most:g}. {_NO_NORM}",
                unit="severity", direction="higher", array=f"strength_{name}",
            )
            for name in names.labels
        ]  # fmt: skip
        text = "Share of samples whose label is right at every severity tried up to this one, mean over "
        found += [
            Output(
                "curve", "trace", "Accuracy by corruption strength",
                f"{text}{len(standard(suite))} corruptions. {_NO_NORM}",
                unit="share", direction="higher",
                axes=(GridAxis("severity", _grid(parameters, most), "severity"),),
            ),
            margin("area_by_corruption", "Mean strength", f"Cut at {most:g}. {_NO_NORM}", names, unit="severity"),
            Output("area", "scalar", "Mean strength", f"Area under the curve, up to {most:g}. {_NO_NORM}",
                   unit="severity", direction="higher"),
        ]  # fmt: skip
        return found

    def work(self, parameters: StrengthParameters, dataset: Dataset) -> Work | None:
        """Of each corruption: the steps until half of the labels have changed, and the halvings of one step."""
        kinds = len(grid_suite(parameters.suite, dataset).axes[0].labels)
        passes = 1 + kinds * (0.7 * parameters.steps + 0.5 * parameters.refine)
        steps = 1 + kinds * (parameters.steps * 2**parameters.refine)
        return Work(forward=passes, steps=steps, operations=OPERATIONS)

    def run(self, task: Task, parameters: StrengthParameters) -> Result:
        """Try severities from below, and halve the step in which the label changes.

        Returns:
            ``strength_<corruption>``, shape (n,): 0 where misclassified without corruption, inf where no severity that
            was tried changed the label, NaN where the corruption cannot be had.
        """
        suite = grid_suite_of(task, parameters.suite)
        if not isinstance(suite, GeneratedSuite):
            raise InputError(f"Strength needs a generated suite; {parameters.suite!r} has its severities alone.")
        search = _Search(task, suite, parameters)
        reasons = {name: suite.missing((name, suite.axes[1].labels[0])) for name in suite.axes[0].labels}
        arrays = {
            f"strength_{name}": np.full(len(task.x), np.nan) if reason else search.strengths(name)
            for name, reason in reasons.items()
        }
        return Result(arrays, flags=missing_flag(reasons))

    def summarise(self, inputs: Inputs, parameters: StrengthParameters) -> Summary:
        """Curve and areas; no mean over corruptions where one is missing."""
        suite = grid_suite(parameters.suite, inputs.dataset)
        most = _most(suite)
        strengths = {name: inputs.arrays[f"strength_{name}"] for name in suite.axes[0].labels}
        cut = np.column_stack([np.minimum(values, most) for values in strengths.values()])
        chosen = np.column_stack([strengths[name] for name in standard(suite)])
        severities = np.array([float(label) for label in _grid(parameters, most)])
        kept = np.where(np.isnan(chosen)[..., None], np.nan, chosen[..., None] > severities).mean(axis=1)
        tables = {"curve": means(kept), "area_by_corruption": means(cut, most=most)}
        area = np.minimum(chosen, most).mean(axis=1)
        return Summary(mean_score("area", area, unit="severity", most=most), tables)


class _Search:
    """The search for one chunk."""

    def __init__(self, task: Task, suite: GeneratedSuite, parameters: StrengthParameters) -> None:
        self.task, self.suite, self.parameters = task, suite, parameters
        self.images: NDArray[Any] = task.x.cpu().numpy()
        self.labels = task.y.cpu().numpy()
        self.right = classes(task.model, task.x, task.x.device) == self.labels

    def strengths(self, name: str) -> NDArray[np.float64]:
        """Of one corruption, shape (n,)."""
        most, steps = _most(self.suite), self.parameters.steps
        found = np.where(self.right, np.inf, 0.0)
        left = np.flatnonzero(self.right)
        for step in range(1, steps + 1):
            high = most * step / steps
            changed = self.changed(name, left, high)
            if changed.any():
                found[left[changed]] = self.refined(name, left[changed], most * (step - 1) / steps, high)
            left = left[~changed]
            if not len(left):
                break
        return found

    def refined(self, name: str, rows: NDArray[np.intp], low: float, high: float) -> NDArray[np.float64]:
        """The step halved for each sample: the label is right at its low end, and changed at its high end."""
        lows, highs = np.full(len(rows), low), np.full(len(rows), high)
        for _ in range(self.parameters.refine):
            middles = (lows + highs) / 2
            for middle in np.unique(middles):
                at = np.flatnonzero(middles == middle)
                changed = self.changed(name, rows[at], float(middle))
                highs[at[changed]], lows[at[~changed]] = middle, middle
        return highs

    def changed(self, name: str, rows: NDArray[np.intp], severity: float) -> NDArray[np.bool_]:
        """Whether the label of each row is wrong at a severity."""
        if not len(rows):
            return np.zeros(0, dtype=np.bool_)
        at = (rows + self.task.first).tolist()
        made = self.suite.corrupted(self.images[rows], name, severity, at=at, stream=STREAM)
        x = torch.from_numpy(made.astype(np.float32)) / 255
        return np.asarray(classes(self.task.model, x, self.task.x.device) != self.labels[rows])


def _most(suite: Any) -> float:
    """The highest severity."""
    return float(suite.axes[1].labels[-1])


def _grid(parameters: StrengthParameters, most: float) -> tuple[str, ...]:
    """The severities of the curve: 0 and those that are tried."""
    return tuple(f"{most * step / parameters.steps:g}" for step in range(parameters.steps + 1))


MEASURE = CorruptionStrength()
