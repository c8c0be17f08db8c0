"""NES: the engine's shrinking search on gradients that are estimated from scores at Gaussian noises."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort, spent
from benchmark.attacks.estimation import PROBES, EstimatingOracle, by_estimates
from benchmark.threat import Norm

QUERIES: Final[dict[Effort, int]] = {"quick": 4_000, "standard": 10_000, "thorough": 40_000}
"""Images that the model is shown for each sample, at most, besides those of the pool."""


class GaussianOracle(EstimatingOracle):
    """Slopes along opposite Gaussian noises."""

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean of slope times noise (Ilyas et al. 2018), shape (n, d)."""
        n, d = len(x), x[0].numel()

        def noises(count: int) -> Tensor:
            return torch.randn((n, count, d), generator=self.generator, device=x.device)

        return self.slopes(x, y, noises) / (PROBES // 2)


def nes(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    effort: Effort,
    seed: int,
    pool: Tensor | None,
    queries: int | None = None,
) -> AttackResult:
    """See `benchmark.attacks.estimation.by_estimates`."""
    budget = spent(queries, QUERIES[effort])
    return by_estimates(GaussianOracle, model, x, y, norm=norm, queries=budget, seed=seed, pool=pool)


ATTACK = Attack(
    name="nes",
    version=2,
    title="NES: a shrinking search on gradients estimated from scores",
    paper="after Ilyas et al. 2018, arXiv:1804.08598",
    run=nes,
    norms=("linf", "l2"),
    access="scores",
    default=False,
)
