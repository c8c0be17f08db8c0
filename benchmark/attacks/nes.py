"""NES: the engine's shrinking search on gradients that are estimated from scores."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Best, Rows
from benchmark.attacks.engine.shrinking import shrink
from benchmark.attacks.engine.starts import bisect, far_images, nearest_other
from benchmark.threat import Norm

QUERIES: Final[dict[Effort, int]] = {"quick": 4_000, "standard": 10_000, "thorough": 40_000}
"""Images that the model is shown for each sample, at most, besides those of the pool and some hundred to start."""

_PAIRS: Final = 20
"""Pairs of opposite noises an estimate."""

_SPREAD: Final = 1e-3
_BATCH: Final = 512


class EstimatedOracle(Oracle):
    """Gradients of the margin, estimated from scores at opposite Gaussian noises; nothing is differentiated.

    Attributes:
        generator: Source of the noises; to be set before the first estimate.
    """

    generator: torch.Generator

    def gradients(self, x: Tensor, y: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Margins (n,), and estimated gradients (n, d), at 1 + 2 · 20 images a sample."""
        total = torch.zeros_like(x)
        for _ in range(_PAIRS):
            noise = torch.randn(x.shape, generator=self.generator, device=x.device)
            ahead, behind = (self.margins(x + sign * _SPREAD * noise, y) for sign in (1, -1))
            total += (ahead - behind).nan_to_num(nan=0.0).view(-1, 1, 1, 1) * noise
        return self.margins(x, y), total.flatten(1) / (2 * _SPREAD * _PAIRS)


def nes(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """Estimates of Ilyas et al. 2018 in a search for the smallest distance: a ball that shrinks on success.

    It starts on the boundary on the way to the nearest image of another class. Noisy images may leave the box by the
    noise, a thousandth; examples never do.
    """
    oracle = EstimatedOracle(model, batch_size=_BATCH)
    oracle.generator = torch.Generator(x.device).manual_seed(seed)
    attacked = (oracle.margins(x, y) <= 0).nonzero().squeeze(1)
    if not len(attacked):
        return AttackResult(x.clone())
    images, labels = x[attacked], y[attacked]
    others, best = x if pool is None else pool, Best.empty(images, norm)
    near = nearest_other(images, labels, others, oracle.logits(others).argmax(dim=1), norm, count=1)[:, 0]
    known = (near >= 0).nonzero().squeeze(1)
    everyone = torch.arange(len(images), device=x.device)
    starts = [Rows(known, images, labels, start=others[near[known]])]
    starts += [Rows(everyone, images, labels, start=far) for far in far_images(images, oracle.generator)]
    for rows in (start for start in starts if len(start.sample)):
        bisect(oracle, rows, norm)
        best.merge(rows, 0)
    found = torch.isfinite(best.distance).nonzero().squeeze(1)
    if len(found):
        rows = Rows(found, images, labels)
        rows.delta = best.delta[found].clone()
        shrink(oracle, rows, norm, steps=QUERIES[effort] // (2 * _PAIRS + 1))
        best.merge(rows, 0)
    return AttackResult(best.images(x, attacked))


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
