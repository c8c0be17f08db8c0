"""PGD adversarial training (Madry et al. 2018, arXiv:1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional

from benchmark.threat.ascent import DenseNorm, ascend, evaluating, noise, uniform
from models_zoo.errors import TrainingError
from models_zoo.training.recipe import Recipe, Step
from models_zoo.training.settings import Settings


@dataclass(frozen=True)
class BallParameters:
    """The ball that adversarial training searches.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: Perturbation budget.
        steps: Of the inner maximisation.
        step: Length of a step; None for 2.5·eps / steps.
    """

    norm: DenseNorm = "linf"
    eps: float = 8 / 255
    steps: int = 10
    step: float | None = 2 / 255

    def __post_init__(self) -> None:
        if not self.eps > 0 or self.steps < 1 or (self.step is not None and not self.step > 0):
            raise TrainingError(
                f"eps is {self.eps}, steps {self.steps}, step {self.step}; adversarial training needs eps > 0, and at "
                "least 1 step of a length above 0."
            )

    @property
    def length(self) -> float:
        """Length of a step."""
        return 2.5 * self.eps / self.steps if self.step is None else self.step


@dataclass(frozen=True)
class PgdParameters(BallParameters):
    """Parameters of `PgdAt`.

    Attributes:
        start: ``uniform`` in [−eps, eps]^d, or ``gaussian``: standard normal noise; both projected onto the ball.
    """

    start: Literal["uniform", "gaussian"] = "uniform"


class PgdAt(Recipe[PgdParameters]):
    """The cross-entropy on projected-gradient adversarial examples."""

    name = "pgd-at"
    title = "PGD adversarial training"
    paper = "https://arxiv.org/abs/1706.06083"
    settings = Settings(epochs=200, lr=0.1, weight_decay=5e-4, schedule="steps", augmentation="crop-flip")
    Parameters = PgdParameters

    def perturb(self, step: Step, parameters: PgdParameters) -> Tensor:
        """Ascend the cross-entropy from a random point of the ball."""
        gaussian = parameters.start == "gaussian"
        start = noise(step.x, step.generator) if gaussian else uniform(step.x, step.generator, parameters.eps)
        with evaluating(step.network):
            return ascend(
                lambda x: functional.cross_entropy(step.network(x), step.y),
                step.x,
                start,
                norm=parameters.norm,
                eps=parameters.eps,
                step=parameters.length,
                steps=parameters.steps,
            )

    def objective(self, step: Step, perturbed: Tensor, parameters: PgdParameters) -> Tensor:
        """The mean cross-entropy on the adversarial examples."""
        return functional.cross_entropy(step.network(perturbed), step.y)


RECIPE = PgdAt()
