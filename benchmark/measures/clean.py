"""Accuracy on the images themselves, with what the outputs say about the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark import flags
from benchmark.curve import proportion_interval
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Result, Task
from benchmark.rejection import predicted, rejects
from benchmark.results import Flag, Output, Score, Work
from benchmark.twin import REPRODUCIBLE, disagreement

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True)
class CleanParameters:
    """Clean accuracy has no parameters."""


class Clean(Measure[CleanParameters]):
    """Clean accuracy."""

    name = "clean"
    version = 1
    title = "Clean accuracy: share of images classified correctly"
    chunk = 500
    abstaining = True
    Parameters = CleanParameters

    def outputs(self, parameters: CleanParameters, dataset: Dataset) -> Sequence[Output]:
        """The accuracy, and the share rejected."""
        title, text = "Clean accuracy", "Share of images that are classified correctly."
        rejected = "Share of images that a model that may reject them rejects; they are not classified correctly."
        return (
            Output("accuracy", "scalar", title, text, unit="share", direction="higher"),
            Output("rejected", "scalar", "Rejected", rejected, unit="share"),
        )

    def work(self, parameters: CleanParameters, dataset: Dataset) -> Work | None:
        """Two forward passes."""
        return Work(forward=2, steps=2)

    def run(self, task: Task, parameters: CleanParameters) -> Result:
        """Classify one chunk twice: a deterministic model gives the same outputs.

        Raises:
            InputError: If outputs are not finite or not of shape (n, k).
        """
        with torch.no_grad():
            logits, again = task.model(task.x), task.model(task.x)
        _check(logits, n=len(task.x), first=task.first)
        prediction = logits.argmax(dim=1)
        arrays = {"correct": (prediction == task.y).cpu().numpy(), "prediction": prediction.cpu().numpy()}
        if rejects(task.model):
            arrays["rejected"] = (predicted(logits, reject=True) < 0).cpu().numpy()
        return Result(arrays, flags=(*_probabilities(logits), *_randomised(logits, again)))

    def summarise(self, inputs: Inputs, parameters: CleanParameters) -> list[Score]:
        """Accuracy with its Clopper–Pearson interval, and the share rejected by a model that may reject."""
        correct = inputs.arrays["correct"]
        low, high = proportion_interval(correct.sum(), len(correct), confidence=0.95)
        accuracy = float(correct.mean())
        scores = [Score("accuracy", accuracy, float(low), float(high), 0.95, unit="share", direction="higher")]
        if "rejected" in inputs.arrays:
            rejected = inputs.arrays["rejected"]
            low, high = proportion_interval(rejected.sum(), len(rejected), confidence=0.95)
            scores.append(Score("rejected", float(rejected.mean()), float(low), float(high), 0.95, unit="share"))
        return scores


def _check(logits: Tensor, *, n: int, first: int) -> None:
    if logits.ndim != 2 or len(logits) != n or logits.shape[1] < 2:
        raise InputError(
            f"The model gives outputs of shape {tuple(logits.shape)} for {n} images; a classifier gives ({n}, k) "
            f"logits of k >= 2 classes."
        )
    bad = ~torch.isfinite(logits).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"The model gives outputs that are not finite on {int(bad.sum())} of {n} images, first on image "
            f"{first + row}: {logits[row].tolist()}. Repair the model before evaluating it."
        )


def _probabilities(outputs: Tensor) -> list[Flag]:
    """A flag if every row is a probability distribution: attacks need logits, whose gradients do not saturate."""
    if not flags.are_probabilities(outputs):
        return []
    return [
        Flag(
            flags.PROBABILITIES,
            "The outputs are probabilities (each row lies in [0, 1] and sums to 1), not logits: gradients saturate, "
            "and attacks may look weaker than they are.",
        )
    ]


def _randomised(first: Tensor, second: Tensor) -> list[Flag]:
    """A flag if two identical calls differ by more than rounding."""
    difference = float(disagreement(first, second).max())
    if difference <= REPRODUCIBLE:
        return []
    message = f"Two identical calls give outputs that differ by up to {difference:.2g} (relative): it is randomised."
    return [Flag(flags.RANDOMISED, message, difference)]


MEASURE = Clean()
