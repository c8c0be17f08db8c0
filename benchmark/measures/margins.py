"""Margins of the logits: how far the label leads the best other class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from benchmark.measures import Inputs, Measure, Result, Task
from benchmark.measures.means import bootstrap_score, mean_score, scalar
from benchmark.results import Output, Score, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

MEAN: Final = scalar("mean", "Margin", "Mean lead of the label's logit over the best other.", "logits", "higher")
LOW: Final = scalar("tenth", "Margin, 10th percentile", "γ₁₀: a tenth of the images lead by less.", "logits", "higher")
INVERSE: Final = scalar("inverse", "Inverse margin", "1 / γ₁₀²; undefined where γ₁₀ is not positive.", "", "lower")


@dataclass(frozen=True)
class MarginsParameters:
    """None."""


class Margins(Measure[MarginsParameters]):
    """The margin, its 10th percentile γ₁₀ and 1 / γ₁₀²."""

    name = "margins"
    version = 2
    title = "Margins of the logits"
    paper = "Jiang et al. 2020, arXiv:1912.02178"
    chunk = 500
    Parameters = MarginsParameters

    def outputs(self, parameters: MarginsParameters, dataset: Dataset) -> Sequence[Output]:
        """Three scalars."""
        return MEAN, LOW, INVERSE

    def work(self, parameters: MarginsParameters, dataset: Dataset) -> Work | None:
        """One forward pass."""
        return Work(forward=1, steps=1)

    def run(self, task: Task, parameters: MarginsParameters) -> Result:
        """Array ``margin`` (n,), float64: negative where misclassified."""
        with torch.no_grad():
            logits = task.model(task.x).double()
        own = logits.gather(1, task.y[:, None]).squeeze(1)
        rival = logits.scatter(1, task.y[:, None], -torch.inf).amax(dim=1)
        return Result({"margin": (own - rival).cpu().numpy()})

    def summarise(self, inputs: Inputs, parameters: MarginsParameters) -> list[Score]:
        """The mean with its interval, γ₁₀ with a bootstrap interval, and the inverse margin."""
        margin = np.asarray(inputs.arrays["margin"])
        tenth = float(np.quantile(margin, 0.1))
        drawn = np.random.default_rng(0).choice(margin, size=(500, len(margin)))
        inverse = 1 / tenth**2 if tenth > 0 else float("nan")
        return [
            mean_score(MEAN, margin),
            bootstrap_score(LOW, tenth, np.quantile(drawn, 0.1, axis=1), n=len(margin)),
            Score(INVERSE.name, inverse, direction=INVERSE.direction),
        ]


MEASURE = Margins()
