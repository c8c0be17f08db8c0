"""Smoothness: the local Lipschitz constant of the logits around each image, and the gradient at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.balls import BallParameters
from benchmark.measures.means import mean_score, scalar
from benchmark.results import Output, Score, Work
from benchmark.threat.ascent import inside, noise, steepest

if TYPE_CHECKING:
    from benchmark.data import Dataset

LIPSCHITZ: Final = scalar(
    "lipschitz",
    "Local Lipschitz",
    "Mean over images of the largest ‖f(x) − f(x')‖₁ ÷ ‖x − x'‖ found in the ball: a lower bound of the constant.",
    "logits a unit",
    "lower",
)
GRADIENT: Final = scalar(
    "gradient", "Input gradient", "Mean ℓ₁ norm of the cross-entropy's gradient at the image.", "nats a unit", "lower"
)


@dataclass(frozen=True)
class SmoothnessParameters(BallParameters):
    """The ball; steps of eps / 3, as in the paper."""


class Smoothness(Measure[SmoothnessParameters]):
    """How fast the logits change around each image (Yang et al. 2020, arXiv:2003.02460, equation 3)."""

    name = "smoothness"
    version = 1
    title = "Local Lipschitz constant and input-gradient norm"
    paper = "Yang et al. 2020, arXiv:2003.02460"
    Parameters = SmoothnessParameters

    def needs(self, parameters: SmoothnessParameters) -> Needs:
        """Gradients."""
        return Needs(gradients=True)

    def outputs(self, parameters: SmoothnessParameters, dataset: Dataset) -> Sequence[Output]:
        """Two means."""
        return LIPSCHITZ, GRADIENT

    def work(self, parameters: SmoothnessParameters, dataset: Dataset) -> Work | None:
        """The ball's search."""
        return parameters.work

    def run(self, task: Task, parameters: SmoothnessParameters) -> Result:
        """Arrays ``lipschitz`` and ``gradient``, each (n,), float64."""
        x = task.x.clone().requires_grad_()
        with torch.enable_grad():
            loss = functional.cross_entropy(task.model(x), task.y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
        arrays = {"lipschitz": _steepest_ratio(task, parameters), "gradient": gradient.double().flatten(1).abs().sum(1)}
        return Result({name: values.cpu().numpy() for name, values in arrays.items()})

    def summarise(self, inputs: Inputs, parameters: SmoothnessParameters) -> list[Score]:
        """The means with their intervals."""
        return [mean_score(output, np.asarray(inputs.arrays[output.name])) for output in (LIPSCHITZ, GRADIENT)]


def _steepest_ratio(task: Task, ball: SmoothnessParameters) -> Tensor:
    """The largest ratio seen on the way of each sample, not of the batch; shape (n,), float64."""
    with torch.no_grad():
        clean = task.model(task.x)
    delta = inside(1e-3 * ball.eps * noise(task.x, torch.Generator().manual_seed(task.seed)), ball.norm, ball.eps)
    best = torch.zeros(len(task.x), dtype=torch.float64, device=task.x.device)
    for _ in range(ball.steps + 1):
        delta = ((task.x + delta).clamp(0, 1) - task.x).detach().requires_grad_()
        with torch.enable_grad():
            moved = (task.model(task.x + delta) - clean).abs().sum(dim=1)
            length = _size(delta, ball.norm)
            ratio = moved / length.clamp(min=1e-12)
            (gradient,) = torch.autograd.grad(ratio.sum(), delta)
        best = torch.maximum(best, torch.where(length > 0, ratio, 0.0).detach().double())
        delta = inside(delta.detach() + ball.eps / 3 * steepest(gradient, ball.norm), ball.norm, ball.eps)
    return best


def _size(delta: Tensor, norm: str) -> Tensor:
    flat = delta.flatten(1)
    return flat.abs().amax(dim=1) if norm == "linf" else flat.square().sum(dim=1).clamp(min=1e-30).sqrt()


MEASURE = Smoothness()
