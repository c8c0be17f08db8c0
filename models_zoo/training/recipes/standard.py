"""Standard training: the cross-entropy on clean images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from models_zoo.training.recipe import Recipe, Step
from models_zoo.training.settings import Settings


@dataclass(frozen=True)
class StandardParameters:
    """None: what may be set is in `Settings`."""


class Standard(Recipe[StandardParameters]):
    """The cross-entropy on clean images; nothing is done against overfitting."""

    name = "standard"
    title = "Standard training"
    settings = Settings()
    Parameters = StandardParameters

    def objective(self, step: Step, perturbed: Tensor, parameters: StandardParameters) -> Tensor:
        """The mean cross-entropy."""
        return functional.cross_entropy(step.network(perturbed), step.y)


RECIPE = Standard()
