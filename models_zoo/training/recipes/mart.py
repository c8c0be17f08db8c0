"""MART: misclassification-aware adversarial training (Wang et al., ICLR 2020)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.threat.ascent import ascend, evaluating, noise
from models_zoo.training.recipe import Recipe, Step
from models_zoo.training.recipes.trades import START, TradesParameters, divergence
from models_zoo.training.settings import Settings


@dataclass(frozen=True)
class MartParameters(TradesParameters):
    """Parameters of `Mart`.

    Attributes:
        beta: λ, the weight of the misclassification-aware term: 5 for ResNet-18, 6 for wide ResNets.
    """

    beta: float = 5.0


class Mart(Recipe[MartParameters]):
    """Boosted cross-entropy on adversarial examples, and a divergence that weighs samples by how uncertain they are."""

    name = "mart"
    title = "MART"
    paper = "https://openreview.net/forum?id=rklOg6EFwS"
    settings = Settings(
        epochs=120,
        lr=0.01,
        weight_decay=3.5e-3,
        schedule="steps",
        milestones=(75 / 120, 90 / 120, 100 / 120),
        augmentation="crop-flip",
    )
    Parameters = MartParameters

    def perturb(self, step: Step, parameters: MartParameters) -> Tensor:
        """Ascend the cross-entropy from next to the image."""
        with evaluating(step.network):
            return ascend(
                lambda x: functional.cross_entropy(step.network(x), step.y),
                step.x,
                START * noise(step.x, step.generator),
                norm=parameters.norm,
                eps=parameters.eps,
                step=parameters.length,
                steps=parameters.steps,
            )

    def objective(self, step: Step, perturbed: Tensor, parameters: MartParameters) -> Tensor:
        """BCE(p(x'), y) + λ·KL(p(x) ‖ p(x'))·(1 − p_y(x)), means over the batch; equation 11 of the paper."""
        clean = step.network(step.x).softmax(dim=1)
        logits: Tensor = step.network(perturbed)
        rival = logits.softmax(dim=1).scatter(1, step.y[:, None], 0.0).amax(dim=1)
        boosted = functional.cross_entropy(logits, step.y) - torch.log(1.0001 - rival).mean()
        own = clean.gather(1, step.y[:, None]).squeeze(1)
        aware = (divergence(clean.clamp(min=1e-12), logits) * (1.0000001 - own)).mean()
        loss: Tensor = boosted + parameters.beta * aware
        return loss


RECIPE = Mart()
