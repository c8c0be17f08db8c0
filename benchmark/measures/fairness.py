"""Fairness over classes: the worst class, clean and under attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from benchmark.curve import proportion_interval
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.balls import BallParameters, most_loss
from benchmark.measures.means import CONFIDENCE, scalar
from benchmark.results import GridAxis, Output, Score, Summary, Table, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

ROWS: Final = ("clean", "under PGD")
WORST: Final = scalar("worst", "Worst class", "Clean accuracy on the class where it is lowest.", "share", "higher")
WORST_ROBUST: Final = scalar(
    "worst_robust", "Worst class under PGD", "Accuracy under PGD on the class where it is lowest.", "share", "higher"
)
SPREAD: Final = scalar(
    "spread_robust",
    "Spread under PGD",
    "Standard deviation over the classes of the accuracy under PGD.",
    "share",
    "lower",
)


class Fairness(Measure[BallParameters]):
    """Accuracy a class, clean and under PGD, and the worst class of each."""

    name = "fairness"
    version = 1
    title = "Accuracy a class, clean and under PGD"
    paper = "Benz et al. 2021, arXiv:2010.13365"
    Parameters = BallParameters

    def needs(self, parameters: BallParameters) -> Needs:
        """Gradients."""
        return Needs(gradients=True)

    def outputs(self, parameters: BallParameters, dataset: Dataset) -> Sequence[Output]:
        """The worst classes, the spread, and the accuracies."""
        axes = (GridAxis("images", ROWS), GridAxis("class", tuple(dataset.classes)))
        grid = Output("classes", "grid", "Accuracy a class", "Clean, and under PGD.", "share", "higher", axes=axes)
        return WORST, WORST_ROBUST, SPREAD, grid

    def work(self, parameters: BallParameters, dataset: Dataset) -> Work | None:
        """The ball's search."""
        return parameters.work

    def run(self, task: Task, parameters: BallParameters) -> Result:
        """Arrays ``correct`` and ``withstood`` (n,), bool; the examples join the ledger."""
        found = most_loss(task.model, task, parameters)
        with torch.no_grad():
            correct = task.model(task.x).argmax(dim=1) == task.y
            withstood = correct & (task.model(found).argmax(dim=1) == task.y)
        return Result({"correct": correct.cpu().numpy(), "withstood": withstood.cpu().numpy()}, adversarials=found)

    def summarise(self, inputs: Inputs, parameters: BallParameters) -> Summary:
        """Accuracies with Clopper–Pearson intervals; a class without images is missing, and worst of none."""
        classes = len(inputs.dataset.classes) if inputs.dataset is not None else int(inputs.labels.max()) + 1
        counts = np.bincount(inputs.labels, minlength=classes)
        hits = np.stack(
            [np.bincount(inputs.labels, inputs.arrays[name], minlength=classes) for name in ("correct", "withstood")]
        )
        seen = counts > 0
        values, low, high = (np.full(hits.shape, np.nan) for _ in range(3))
        values[:, seen] = hits[:, seen] / counts[seen]
        for k in np.flatnonzero(seen).tolist():
            low[:, k], high[:, k] = proportion_interval(
                hits[:, k].astype(np.int64), int(counts[k]), confidence=CONFIDENCE
            )
        scores = []
        for row, output in enumerate((WORST, WORST_ROBUST)):
            at = int(np.nanargmin(values[row]))
            ends = float(low[row, at]), float(high[row, at])
            scores.append(Score(output.name, float(values[row, at]), *ends, CONFIDENCE, output.unit, output.direction))
        scores.append(Score(SPREAD.name, float(np.nanstd(values[1])), unit=SPREAD.unit, direction=SPREAD.direction))
        return Summary(scores, {"classes": Table(values, low, high, CONFIDENCE)})


MEASURE = Fairness()
