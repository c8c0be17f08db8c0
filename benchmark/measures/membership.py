"""Membership inference: does the confidence tell which images a model was trained on?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.balls import BallParameters, most_loss
from benchmark.measures.means import bootstrap_score, scalar
from benchmark.measures.members import training_batch
from benchmark.results import Output, Score

if TYPE_CHECKING:
    from benchmark.data import Dataset

CLEAN: Final = scalar(
    "clean",
    "Membership inference",
    "Largest ½(TPR + 1 − FPR) of telling training from test images by the true class's confidence; ½ is chance.",
    "share",
    "lower",
)
ADVERSARIAL: Final = scalar(
    "adversarial", "Membership inference under PGD", "The same by the confidence on PGD examples.", "share", "lower"
)


class Membership(Measure[BallParameters]):
    """How well a threshold on the true class's confidence tells training from test images."""

    name = "membership"
    version = 2
    title = "Membership inference by confidence"
    paper = "Song et al. 2019, arXiv:1905.10291"
    Parameters = BallParameters

    def needs(self, parameters: BallParameters) -> Needs:
        """The training split, as many images of it as of the slice."""
        return Needs(gradients=True, splits=("train",))

    def outputs(self, parameters: BallParameters, dataset: Dataset) -> Sequence[Output]:
        """Two shares."""
        return CLEAN, ADVERSARIAL

    def run(self, task: Task, parameters: BallParameters) -> Result:
        """Arrays ``test``, ``train``, ``test_adversarial``, ``train_adversarial`` (n,), float64: the confidences.

        Raises:
            UnsupportedModelError: If the training split has fewer images than the slice.
        """
        x, y = training_batch(task)
        member = Task(task.model, task.module, x, y, seed=task.seed)
        arrays = {}
        for name, one in (("test", task), ("train", member)):
            arrays[name] = _confidence(one, one.x)
            arrays[f"{name}_adversarial"] = _confidence(one, most_loss(one.model, one, parameters))
        return Result(arrays)

    def summarise(self, inputs: Inputs, parameters: BallParameters) -> list[Score]:
        """Both shares, with bootstrap intervals; the best threshold on few images is better than ½ by chance alone."""
        scores = []
        for output, suffix in ((CLEAN, ""), (ADVERSARIAL, "_adversarial")):
            train, test = inputs.arrays[f"train{suffix}"], inputs.arrays[f"test{suffix}"]
            rng = np.random.default_rng(0)
            spread = [advantage(rng.choice(train, len(train)), rng.choice(test, len(test))) for _ in range(200)]
            fewer = min(len(train), len(test))
            scores.append(bootstrap_score(output, advantage(train, test), spread, n=fewer, least=0.5))
        return scores


def _confidence(task: Task, x: Tensor) -> NDArray[np.float64]:
    with torch.no_grad():
        p = task.model(x).double().softmax(dim=1)
    return np.asarray(p.gather(1, task.y[:, None]).squeeze(1).cpu().numpy())


def advantage(train: NDArray[np.float64], test: NDArray[np.float64]) -> float:
    """Max over thresholds t of ½(P[train >= t] + P[test < t])."""
    levels = np.unique(np.concatenate([train, test]))
    hits = 1 - np.searchsorted(np.sort(train), levels, side="left") / len(train)
    rejected = np.searchsorted(np.sort(test), levels, side="left") / len(test)
    return float(max(0.5, ((hits + rejected) / 2).max()))


MEASURE = Membership()
