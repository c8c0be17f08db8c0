"""SPSA: the engine's shrinking search on gradients that are estimated from scores at random signs."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmark.attacks import Attack
from benchmark.attacks.estimation import PROBES, EstimatingOracle, by_estimates


class SignOracle(EstimatingOracle):
    """Slopes along opposite vectors of signs."""

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean of slope times signs (Spall 1992; Uesato et al. 2018), shape (n, d)."""
        n, d = len(x), x[0].numel()

        def signs(count: int) -> Tensor:
            return torch.randint(0, 2, (n, count, d), generator=self.generator, device=x.device) * 2.0 - 1

        return self.slopes(x, y, signs) / (PROBES // 2)


ATTACK = Attack(
    name="spsa",
    version=2,
    title="SPSA: a shrinking search on differences of scores along random signs",
    paper="after Uesato et al. 2018, arXiv:1802.05666",
    run=partial(by_estimates, SignOracle),
    norms=("linf", "l2"),
    access="scores",
    default=False,
)
