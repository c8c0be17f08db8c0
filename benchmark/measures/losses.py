"""Cross-entropy on clean and adversarial images, and how far adversarial images move the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.balls import BallParameters, most_loss
from benchmark.measures.means import mean_score, scalar
from benchmark.results import Output, Score, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

OUTPUTS: Final = (
    scalar("clean", "Cross-entropy", "Mean cross-entropy on the images.", "nats", "lower"),
    scalar("adversarial", "Robust loss", "Mean cross-entropy on PGD examples in the ball.", "nats", "lower"),
    scalar("divergence", "KL clean → adversarial", "Mean KL(p(x') ‖ p(x)) of the same examples.", "nats", "lower"),
)


class Losses(Measure[BallParameters]):
    """The losses that adversarial training minimises."""

    name = "losses"
    version = 1
    title = "Cross-entropy, clean and under PGD, and the divergence of the outputs"
    paper = "Kim et al. 2023, Fantastic Robustness Measures"
    Parameters = BallParameters

    def needs(self, parameters: BallParameters) -> Needs:
        """Gradients."""
        return Needs(gradients=True)

    def outputs(self, parameters: BallParameters, dataset: Dataset) -> Sequence[Output]:
        """Three means."""
        return OUTPUTS

    def work(self, parameters: BallParameters, dataset: Dataset) -> Work | None:
        """The ball's search."""
        return parameters.work

    def run(self, task: Task, parameters: BallParameters) -> Result:
        """Arrays ``clean``, ``adversarial``, ``divergence``, each (n,), float64; the examples join the ledger."""
        found = most_loss(task.model, task, parameters)
        with torch.no_grad():
            before, after = task.model(task.x).double(), task.model(found).double()
        arrays = {
            "clean": functional.cross_entropy(before, task.y, reduction="none"),
            "adversarial": functional.cross_entropy(after, task.y, reduction="none"),
            "divergence": (after.softmax(1) * (after.log_softmax(1) - before.log_softmax(1))).sum(dim=1),
        }
        return Result({name: values.cpu().numpy() for name, values in arrays.items()}, adversarials=found)

    def summarise(self, inputs: Inputs, parameters: BallParameters) -> list[Score]:
        """The means with their intervals."""
        return [mean_score(output, np.asarray(inputs.arrays[output.name])) for output in OUTPUTS]


MEASURE = Losses()
