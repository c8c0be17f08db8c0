"""Cross-Lipschitz regularisation (Hein & Andriushchenko 2017, arXiv:1705.08475)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.attacks import get_attack
from benchmark.threat.ascent import evaluating
from models_zoo.errors import TrainingError
from models_zoo.training.recipe import Recipe, Step
from models_zoo.training.settings import Settings


@dataclass(frozen=True)
class CrossLipschitzParameters:
    """Parameters of `CrossLipschitz`.

    Attributes:
        weight: λ of the regulariser: 0.1 for networks of one hidden layer, 1e-4 for ResNet-32.
        adversarial: Whether half of the cross-entropy is of adversarial examples by the paper's own attack in l2.
    """

    weight: float = 0.1
    adversarial: bool = False

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise TrainingError(f"The weight of the Cross-Lipschitz regulariser is {self.weight}; it is 0 or more.")


class CrossLipschitz(Recipe[CrossLipschitzParameters]):
    """Cross-entropy plus λ times the mean squared difference of the gradients of all pairs of logits."""

    name = "cross-lipschitz"
    title = "Cross-Lipschitz regularisation"
    paper = "https://arxiv.org/abs/1705.08475"
    settings = Settings(epochs=200, lr=0.2, schedule="steps", milestones=(0.72, 0.88))
    Parameters = CrossLipschitzParameters

    def perturb(self, step: Step, parameters: CrossLipschitzParameters) -> Tensor:
        """The images themselves, or the paper's l2 attack on them, one linearisation each."""
        if not parameters.adversarial:
            return step.x
        with evaluating(step.network):
            found = get_attack("hein").run(
                step.network, step.x.float(), step.y, norm="l2", effort="quick", seed=0, pool=None
            )
        return found.adversarials.to(step.x)

    def objective(self, step: Step, perturbed: Tensor, parameters: CrossLipschitzParameters) -> Tensor:
        """Equation 5, on the clean images; the cross-entropy half on the perturbed ones where there are any."""
        x = step.x.clone().requires_grad_()
        logits: Tensor = step.network(x)
        loss = functional.cross_entropy(logits, step.y)
        if perturbed is not step.x:
            loss = (loss + functional.cross_entropy(step.network(perturbed), step.y)) / 2
        return loss + parameters.weight * regulariser(logits, x)


def regulariser(logits: Tensor, x: Tensor) -> Tensor:
    """Ω: the mean over samples and ordered pairs of classes of ‖∇f_l − ∇f_m‖₂².

    The sum over the K² pairs is 2K Σ‖∇f_l‖² − 2‖Σ∇f_l‖², so that K gradients are enough.

    Args:
        logits: Shape (n, k), with a graph to ``x``.
        x: Images, shape (n, c, h, w), requiring gradients.

    Returns:
        A scalar that can be differentiated in the weights.
    """
    classes = logits.shape[1]
    gradients = torch.stack(
        [torch.autograd.grad(logits[:, k].sum(), x, create_graph=True)[0].flatten(1) for k in range(classes)], dim=1
    )
    pairs: Tensor = 2 * classes * gradients.square().sum(dim=(1, 2)) - 2 * gradients.sum(dim=1).square().sum(dim=1)
    return pairs.mean() / (classes * classes)


RECIPE = CrossLipschitz()
