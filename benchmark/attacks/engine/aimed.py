"""The oracle of a named class: an image counts as adversarial where the target leads every other class."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from benchmark.attacks.engine.oracle import SAFETY, Oracle
from benchmark.verification import mean_lead


class AimedOracle(Oracle):
    """Margins towards a target, in the place of a label's.

    What its methods call ``y`` is the target: its margin is how far the target leads the best other class, less the
    lead that verification asks for, so that every family of the engine searches for the target as it stands.
    A logit that rejects is one of the others.
    """

    attainable: ClassVar[bool] = False

    def met_by(self, predicted: Tensor, y: Tensor) -> Tensor:
        """Which images are given which samples' targets, bool, shape (n, m)."""
        return predicted[None, :] == y[:, None]

    def ranked(self, x: Tensor, y: Tensor) -> Tensor:
        """Nothing to choose from, shape (n, 0): the goal is one class, and every gradient leads there."""
        return y.new_empty((len(y), 0))

    def attacked(self, x: Tensor, margin: Tensor) -> Tensor:
        """Indices of the images that are not given their target, by their margins (n,)."""
        return (margin <= 0).nonzero().squeeze(1)

    def _margin(self, calls: list[Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
        logits, wanted = torch.stack(calls).mean(dim=0), y[:, None]
        behind, rival = (logits - logits.gather(1, wanted)).scatter_(1, wanted, -torch.inf).max(dim=1)
        lead = -behind
        if len(calls) > 1:
            lead = mean_lead(torch.stack(calls), y, targets=y, errors=self.errors)
        size = torch.maximum(logits.gather(1, rival[:, None]).abs(), logits.gather(1, wanted).abs()).squeeze(1)
        return (lead - SAFETY * size - self.noise).nan_to_num(nan=-torch.inf), rival

    def _defender(self, logits: Tensor, y: Tensor) -> Tensor:
        return y

    def _slope(self, logits: Tensor, behind: Tensor, rival: Tensor) -> Tensor:
        return -super()._slope(logits, behind, rival)
