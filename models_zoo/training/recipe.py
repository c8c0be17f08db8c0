"""What is minimised: recipes, one a file in ``recipes/``, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from benchmark.plugins import discover, look_up
from models_zoo.training.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

P = TypeVar("P")


@dataclass(frozen=True)
class Step:
    """One step of training.

    Attributes:
        network: The whole classifier, preprocessing included, in train mode.
        x: Images, shape (n, c, h, w), in [0, 1].
        y: Labels, shape (n,), int64.
        generator: Draws everything random of the recipe.
    """

    network: nn.Module
    x: Tensor
    y: Tensor
    generator: torch.Generator


class Recipe(ABC, Generic[P]):
    """A training method.

    Attributes:
        name: On the command line and in cards.
        version: Raised whenever the same seed would give other weights.
        title: What it is, in one line.
        paper: Its source.
        settings: Its published settings.
        Parameters: A frozen dataclass with a default for each parameter of its own. Fields ``norm`` and ``eps`` say
            what it trains to be robust against, and enter the card.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    title: ClassVar[str]
    paper: ClassVar[str] = ""
    settings: ClassVar[Settings] = Settings()
    Parameters: type[P]

    def perturb(self, step: Step, parameters: P) -> Tensor:
        """The images that the network is trained on, shape of ``step.x``; the clean ones unless overridden."""
        return step.x

    @abstractmethod
    def objective(self, step: Step, perturbed: Tensor, parameters: P) -> Tensor:
        """The loss to be minimised, a scalar."""


def recipes() -> Mapping[str, Recipe[Any]]:
    """All registered recipes by name."""
    return cast("Mapping[str, Recipe[Any]]", discover("models_zoo.training.recipes", "RECIPE"))


def get_recipe(name: str) -> Recipe[Any]:
    """The recipe called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Recipe[Any]", look_up("training recipe", name, recipes()))
