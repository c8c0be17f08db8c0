"""Flatness of the robust loss in weight space (Stutz, Hein & Schiele 2021, arXiv:2104.04448)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.errors import InputError, UnsupportedModelError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.balls import BallParameters, most_loss
from benchmark.measures.means import mean_score, scalar
from benchmark.results import Output, Score

if TYPE_CHECKING:
    from benchmark.data import Dataset

DIRECTIONS: Final = 10
ASCENT: Final = 10
"""Steps of the worst case's joint ascent."""

AVERAGE: Final = scalar(
    "average",
    "Average flatness",
    "Mean rise of the robust loss when each layer's weights move at random by up to ξ of their norm.",
    "nats",
    "lower",
)
WORST: Final = scalar(
    "worst",
    "Worst-case flatness",
    "Largest rise of the robust loss found when each layer's weights move by up to ξ of their norm.",
    "nats",
    "lower",
)


@dataclass(frozen=True)
class FlatnessParameters(BallParameters):
    """The ball of the robust loss, and how far weights move.

    Attributes:
        average: ξ of the average case, relative to each layer's norm.
        worst: ξ of the worst case.
    """

    average: float = 0.5
    worst: float = 0.00075

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.average > 0 or not self.worst > 0:
            raise InputError(f"average is {self.average}, worst {self.worst}; both are above 0.")


class Flatness(Measure[FlatnessParameters]):
    """Average- and worst-case flatness of the cross-entropy under PGD."""

    name = "flatness"
    version = 1
    title = "Flatness of the robust loss"
    paper = "Stutz, Hein & Schiele 2021, arXiv:2104.04448"
    per_sample = False  # the worst direction is one for all samples of a chunk
    Parameters = FlatnessParameters

    def needs(self, parameters: FlatnessParameters) -> Needs:
        """Gradients, and the module's parameters."""
        return Needs(gradients=True, graph=True)

    def outputs(self, parameters: FlatnessParameters, dataset: Dataset) -> Sequence[Output]:
        """Two means."""
        return AVERAGE, WORST

    def run(self, task: Task, parameters: FlatnessParameters) -> Result:
        """Arrays ``average`` and ``worst`` (n,), float64: rises of each sample's loss.

        Raises:
            UnsupportedModelError: If the model has no parameters to move (a program, a sandboxed model).
        """
        module = movable(task.module)
        generator = torch.Generator().manual_seed(task.seed)
        before = _robust_loss(module, task, parameters)
        weights = [p for p in module.parameters() if p.ndim > 1]
        origin = [w.detach().clone() for w in weights]
        average = torch.zeros_like(before)
        worst = torch.full_like(before, -torch.inf)
        for _ in range(DIRECTIONS):
            noise = [_random(w, parameters.average, generator) for w in origin]
            _place(weights, origin, noise)
            average += (_robust_loss(module, task, parameters) - before) / DIRECTIONS
            rise = _ascended(module, weights, origin, task=task, parameters=parameters, generator=generator) - before
            worst = rise if rise.mean() > worst.mean() else worst
        return Result({"average": average.cpu().numpy(), "worst": worst.cpu().numpy()})

    def summarise(self, inputs: Inputs, parameters: FlatnessParameters) -> list[Score]:
        """The means with their intervals."""
        return [mean_score(output, np.asarray(inputs.arrays[output.name])) for output in (AVERAGE, WORST)]


def movable(module: nn.Module) -> nn.Module:
    """A copy of a module whose weights may be moved; raises `UnsupportedModelError` if it has none."""
    if not any(p.ndim > 1 for p in module.parameters()):
        raise UnsupportedModelError(
            "The model has no weights that could be moved (a sandboxed model, or a program with constants); the "
            "measure does not apply."
        )
    twin = copy.deepcopy(module)
    return twin.requires_grad_(True)


def _robust_loss(module: nn.Module, task: Task, ball: FlatnessParameters) -> Tensor:
    """Cross-entropy of each sample on PGD examples made for these very weights, shape (n,), float64."""
    found = most_loss(module, task, ball)
    with torch.no_grad():
        return functional.cross_entropy(module(found).double(), task.y, reduction="none")


def _random(weight: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """A direction uniform over the layer's sphere, of a length uniform in [0, radius·‖w‖]."""
    noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype, device="cpu").to(weight.device)
    length = radius * weight.norm() * torch.rand((), generator=generator, device="cpu").to(weight)
    moved: Tensor = noise * (length / noise.norm().clamp(min=1e-20))
    return moved


def _place(weights: Sequence[Tensor], origin: Sequence[Tensor], moves: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, start, move in zip(weights, origin, moves, strict=True):
            weight.copy_(start + move)


def _ascended(
    module: nn.Module,
    weights: Sequence[Tensor],
    origin: Sequence[Tensor],
    *,
    task: Task,
    parameters: FlatnessParameters,
    generator: torch.Generator,
) -> Tensor:
    """Each sample's robust loss where weights and images moved uphill together, shape (n,); weights are put back."""
    moves = [_random(w, parameters.worst, generator) for w in origin]
    for _ in range(ASCENT):
        _place(weights, origin, moves)
        found = most_loss(module, task, parameters)
        with torch.enable_grad():
            gradients = torch.autograd.grad(functional.cross_entropy(module(found), task.y), list(weights))
        for k, (gradient, start) in enumerate(zip(gradients, origin, strict=True)):
            radius = parameters.worst * start.norm()
            moved = moves[k] + radius / 3 * gradient / gradient.norm().clamp(min=1e-20)
            moves[k] = moved * (radius / moved.norm().clamp(min=1e-20)).clamp(max=1)
    _place(weights, origin, moves)
    loss = _robust_loss(module, task, parameters)
    _place(weights, origin, [torch.zeros_like(w) for w in origin])
    return loss


MEASURE = Flatness()
