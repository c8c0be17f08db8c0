"""PAC-Bayes sharpness: how much noise the weights bear before the accuracy falls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.flatness import movable
from benchmark.measures.means import bootstrap_score, scalar
from benchmark.results import Output, Score, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

DRAWS: Final = 10
GRID: Final = tuple(2.0 ** (-k / 2) for k in range(24, -3, -1))
"""Standard deviations that are tried, from 2⁻¹² to 2, rising by √2."""

SIGMA: Final = scalar(
    "sigma",
    "Tolerated weight noise",
    "Largest σ of Gaussian weight noise, relative to each layer's root mean square, at which accuracy holds.",
    "",
    "higher",
)
INVERSE: Final = scalar("flatness", "PAC-Bayes sharpness", "1 / σ².", "", "lower")


@dataclass(frozen=True)
class SharpnessParameters:
    """How far the accuracy may fall.

    Attributes:
        fall: In mean over the draws, a share.
    """

    fall: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.fall < 1:
            raise InputError(f"fall is {self.fall}; it is a share between 0 and 1.")


class Sharpness(Measure[SharpnessParameters]):
    """The largest σ at which the mean accuracy falls by no more than a stated amount, and 1 / σ²."""

    name = "sharpness"
    version = 1
    title = "PAC-Bayes sharpness"
    paper = "Jiang et al. 2020, arXiv:1912.02178"
    chunk = 500
    Parameters = SharpnessParameters

    def needs(self, parameters: SharpnessParameters) -> Needs:
        """The module's parameters."""
        return Needs(graph=True)

    def outputs(self, parameters: SharpnessParameters, dataset: Dataset) -> Sequence[Output]:
        """Two scalars."""
        return SIGMA, INVERSE

    def work(self, parameters: SharpnessParameters, dataset: Dataset) -> Work | None:
        """A forward pass for each level of noise and each draw."""
        passes = 1 + DRAWS * len(GRID)
        return Work(forward=passes, steps=passes)

    def run(self, task: Task, parameters: SharpnessParameters) -> Result:
        """Arrays ``correct`` (n,), bool, and ``noisy`` (n, levels), float64: the share of draws that classify it right.

        The draws are the same for every chunk.
        """
        module = movable(task.module).requires_grad_(False)
        weights = [p for p in module.parameters() if p.ndim > 1]
        origin = [w.clone() for w in weights]
        noisy = torch.zeros(len(task.x), len(GRID), dtype=torch.float64, device="cpu")
        with torch.no_grad():
            correct = module(task.x).argmax(dim=1) == task.y
            for draw in range(DRAWS):
                generator = torch.Generator().manual_seed(draw)
                drawn = (torch.randn(w.shape, generator=generator, device="cpu").to(w) for w in origin)
                noise = [unit * w.square().mean().sqrt() for unit, w in zip(drawn, origin, strict=True)]
                for level, sigma in enumerate(GRID):
                    for weight, start, move in zip(weights, origin, noise, strict=True):
                        weight.copy_(start + sigma * move)
                    noisy[:, level] += (module(task.x).argmax(dim=1) == task.y).double().cpu() / DRAWS
        return Result({"correct": correct.cpu().numpy(), "noisy": noisy.numpy()})

    def summarise(self, inputs: Inputs, parameters: SharpnessParameters) -> list[Score]:
        """σ with a bootstrap interval over samples, and 1 / σ²; σ is 0 where the least noise is too much."""
        correct, noisy = inputs.arrays["correct"].astype(np.float64), np.asarray(inputs.arrays["noisy"])
        rng = np.random.default_rng(0)
        sigma = _largest(correct.mean(), noisy.mean(axis=0), parameters.fall)
        drawn = [rng.integers(0, len(correct), len(correct)) for _ in range(200)]
        spread = [_largest(correct[i].mean(), noisy[i].mean(axis=0), parameters.fall) for i in drawn]
        return [
            bootstrap_score(SIGMA, sigma, spread, n=len(correct)),
            Score(INVERSE.name, 1 / sigma**2 if sigma else float("inf"), direction=INVERSE.direction),
        ]


def _largest(accuracy: float, noisy: np.ndarray[tuple[int], np.dtype[np.float64]], fall: float) -> float:
    """The last σ of the grid before the accuracy first falls by more than ``fall``."""
    too_much = np.flatnonzero(noisy < accuracy - fall)
    last = too_much[0] - 1 if len(too_much) else len(GRID) - 1
    return GRID[last] if last >= 0 else 0.0


MEASURE = Sharpness()
