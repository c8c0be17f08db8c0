"""TRADES (Zhang et al. 2019, arXiv:1901.08573)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from benchmark.threat.ascent import ascend, evaluating, noise
from models_zoo.errors import TrainingError
from models_zoo.training.recipe import Recipe, Step
from models_zoo.training.recipes.pgd_at import BallParameters
from models_zoo.training.settings import Settings

START = 0.001
"""Standard deviation of the noise that the published implementation starts from."""


@dataclass(frozen=True)
class TradesParameters(BallParameters):
    """Parameters of `Trades`; the defaults are those for CIFAR-10.

    Attributes:
        beta: Weight of the robust term: 6 on CIFAR-10, 1 on MNIST.
    """

    eps: float = 0.031
    step: float | None = 0.007
    beta: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta >= 0:
            raise TrainingError(f"beta is {self.beta}; it is 0 or more.")


class Trades(Recipe[TradesParameters]):
    """Clean cross-entropy plus β·KL between clean and adversarial outputs."""

    name = "trades"
    title = "TRADES"
    paper = "https://arxiv.org/abs/1901.08573"
    settings = Settings(
        epochs=76, lr=0.1, weight_decay=2e-4, schedule="steps", milestones=(75 / 76,), augmentation="crop-flip"
    )
    Parameters = TradesParameters

    def perturb(self, step: Step, parameters: TradesParameters) -> Tensor:
        """Ascend the divergence from the clean outputs, from next to the image."""
        with evaluating(step.network):
            clean = step.network(step.x).detach().softmax(dim=1)
            return ascend(
                lambda x: divergence(clean, step.network(x)).sum(),
                step.x,
                START * noise(step.x, step.generator),
                norm=parameters.norm,
                eps=parameters.eps,
                step=parameters.length,
                steps=parameters.steps,
            )

    def objective(self, step: Step, perturbed: Tensor, parameters: TradesParameters) -> Tensor:
        """Cross-entropy + β·KL(p(x) ‖ p(x')), means over the batch."""
        logits: Tensor = step.network(step.x)
        robust = divergence(logits.softmax(dim=1), step.network(perturbed)).mean()
        return functional.cross_entropy(logits, step.y) + parameters.beta * robust


def divergence(p: Tensor, logits: Tensor) -> Tensor:
    """KL(p ‖ softmax(logits)) of each sample; shapes (n, k), (n, k) -> (n,)."""
    return functional.kl_div(logits.log_softmax(dim=1), p, reduction="none").sum(dim=1)


RECIPE = Trades()
