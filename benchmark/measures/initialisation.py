"""How far training has moved the weights from where they began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import nn

from benchmark.errors import InputError, UnsupportedModelError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.flatness import movable
from benchmark.measures.means import scalar
from benchmark.results import Output, Score

if TYPE_CHECKING:
    from benchmark.data import Dataset

OUTPUTS: Final = (
    scalar("l2", "Distance to initialisation", "ℓ₂ norm of all weights less their initial values.", "", "lower"),
    scalar(
        "spectral",
        "Spectral distance to initialisation",
        "Sum over layers of ‖W − W⁰‖₂², W as a matrix of out × rest.",
        "",
        "lower",
    ),
    scalar("relative", "Relative distance to initialisation", "The ℓ₂ distance ÷ that of W⁰ from 0.", "", "lower"),
)


@dataclass(frozen=True)
class InitialisationParameters:
    """None."""


class Initialisation(Measure[InitialisationParameters]):
    """Distances of the weights from their initial values, which the seed on the card gives again."""

    name = "initialisation"
    version = 1
    title = "Distance of the weights to their initialisation"
    paper = "Jiang et al. 2020, arXiv:1912.02178"
    chunk = 500
    Parameters = InitialisationParameters

    def needs(self, parameters: InitialisationParameters) -> Needs:
        """The module's parameters, and where they began."""
        return Needs(graph=True, initial=True)

    def outputs(self, parameters: InitialisationParameters, dataset: Dataset) -> Sequence[Output]:
        """Three scalars."""
        return OUTPUTS

    def run(self, task: Task, parameters: InitialisationParameters) -> Result:
        """Arrays ``l2``, ``spectral``, ``relative`` (n,): the same for every sample.

        Raises:
            UnsupportedModelError: If the card does not say how the training began.
        """
        if task.initial is None:
            raise UnsupportedModelError(
                "The card states no run of `curveboard train` (training.run, with its recipe and seed), so the "
                "initial weights cannot be had again; the measure does not apply."
            )
        found = distances(movable(task.module), task.initial)
        return Result({name: np.full(len(task.x), value) for name, value in found.items()})

    def summarise(self, inputs: Inputs, parameters: InitialisationParameters) -> list[Score]:
        """The distances, exact."""
        return [Score(o.name, float(inputs.arrays[o.name][0]), direction=o.direction) for o in OUTPUTS]


def distances(trained: nn.Module, initial: nn.Module) -> dict[str, float]:
    """Distances between the weights of two modules of one structure; biases and parameters of normalisation left out.

    Args:
        trained: The one.
        initial: The other.

    Raises:
        InputError: If their weights are not of the same names and shapes.
    """
    ends, starts = ({n: p for n, p in m.named_parameters() if p.ndim > 1} for m in (trained, initial))
    if {n: p.shape for n, p in ends.items()} != {n: p.shape for n, p in starts.items()}:
        raise InputError("The run on the card builds another network than these weights are of; correct the card.")
    with torch.no_grad():
        begun = [starts[name].double().cpu().flatten(1) for name in ends]
        moves = [end.double().cpu().flatten(1) - start for end, start in zip(ends.values(), begun, strict=True)]
        l2 = float(torch.cat([move.flatten() for move in moves]).norm())
        return {
            "l2": l2,
            "spectral": sum(float(torch.linalg.matrix_norm(move, ord=2)) ** 2 for move in moves),
            "relative": l2 / float(torch.cat([start.flatten() for start in begun]).norm()),
        }


MEASURE = Initialisation()
