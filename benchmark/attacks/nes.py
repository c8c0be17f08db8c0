"""NES: the engine's shrinking search on gradients that are estimated from scores at Gaussian noises."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmark.attacks import Attack
from benchmark.attacks.estimation import PROBES, EstimatingOracle, by_estimates


class GaussianOracle(EstimatingOracle):
    """Slopes along opposite Gaussian noises."""

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean of slope times noise (Ilyas et al. 2018), shape (n, d)."""
        n, d = len(x), x[0].numel()

        def noises(count: int) -> Tensor:
            return torch.randn((n, count, d), generator=self.generator, device=x.device)

        return self.slopes(x, y, noises) / (PROBES // 2)


ATTACK = Attack(
    name="nes",
    version=3,
    title="NES: a shrinking search on gradients estimated from scores",
    paper="after Ilyas et al. 2018, arXiv:1804.08598",
    run=partial(by_estimates, GaussianOracle),
    norms=("linf", "l2"),
    access="scores",
    default=False,
)
