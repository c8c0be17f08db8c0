"""N-attack: a Gaussian over whose mean climbs by the scores of its samples while the ball shrinks."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmark.attacks import Attack, AttackResult, Effort, spent
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Best, Rows
from benchmark.attacks.engine.shrinking import cosine
from benchmark.attacks.estimation import BATCH, PROBES, QUERIES, from_boundary, repeats_of
from benchmark.modes import same_draws
from benchmark.threat import Norm, project_ball_

_WIDTH: Final = (0.3, 0.02)
"""Standard deviation of the Gaussian, as a share of the ball's radius, at the start and the end."""

_STEP: Final = (0.5, 0.01)
_RATE: Final = (0.2, 0.002)


def n_attack(
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
    """Li et al. 2019, for the smallest distance: samples are projected into the ball before they are judged.

    Its radius follows success and failure, as in DDN. The box is met by clamping: through the published tanh, values of
    0 and 1 have no slope, and most of MNIST's have these.
    """
    budget = spent(queries, QUERIES[effort])
    with same_draws(x.device, seed):
        generator = torch.Generator(x.device).manual_seed(seed)
        oracle = Oracle(model, batch_size=BATCH, repeats=repeats_of(model, x, budget))
        cost = PROBES * oracle.repeats * (2 if oracle.repeats > 1 else 1)

        def climb(rows: Rows, best: Best, left: int) -> None:
            shape = (PROBES, *x.shape[1:])
            _climb(oracle, best, rows.sample, rows.y, shape, steps=left // cost, generator=generator)

        return from_boundary(oracle, climb, x, y, norm=norm, pool=pool, budget=budget, generator=generator)


def _climb(
    oracle: Oracle,
    best: Best,
    rows: Tensor,
    y: Tensor,
    shape: tuple[int, ...],
    *,
    steps: int,
    generator: torch.Generator,
) -> None:
    """Move the mean of each row's Gaussian; ``shape`` is that of a row's samples, (k, c, h, w)."""
    norm, clean = best.norm, best.x[rows]
    mean, radius = best.delta[rows].clone(), best.distance[rows].clone()
    n, d = clean.shape
    labels, sample = y.repeat_interleave(shape[0]), rows.repeat_interleave(shape[0])
    for k in range(steps):
        width = radius * cosine(_WIDTH, k, steps) * (1.0 if norm == "linf" else d**-0.5)
        noise = torch.randn((n, shape[0], d), generator=generator, device=clean.device)
        drawn = (mean[:, None] + width[:, None, None] * noise).flatten(0, 1)
        project_ball_(drawn, norm, radius.repeat_interleave(shape[0]))
        images = (clean.repeat_interleave(shape[0], dim=0) + drawn).clamp_(0, 1)
        margin = oracle.margins(images.view(-1, *shape[1:]), labels)
        best.take(sample, images - best.x[sample], margin > 0, 0)
        reward = margin.view(n, -1).nan_to_num(neginf=-1e30)
        reward = (reward - reward.mean(dim=1, keepdim=True)) / reward.std(dim=1, keepdim=True).clamp(min=1e-30)
        slope = torch.einsum("nk,nkd->nd", reward, noise)
        change, nearest = cosine(_RATE, k, steps), best.distance[rows]
        met = (margin.view(n, -1) > 0).any(dim=1)
        grown = torch.minimum(radius * (1 + change), nearest * (1 - _RATE[1]))
        radius = torch.where(met, torch.minimum(radius, nearest) * (1 - change), grown)
        step = (radius * cosine(_STEP, k, steps))[:, None]
        mean += step * (slope.sign() if norm == "linf" else normalize(slope, eps=1e-30))
        mean = (clean + project_ball_(mean, norm, radius)).clamp_(0, 1) - clean


ATTACK = Attack(
    name="n-attack",
    version=2,
    title="N-attack: a Gaussian over examples that climbs by the scores of its samples",
    paper="after Li et al. 2019, arXiv:1905.00441",
    run=n_attack,
    norms=("linf", "l2"),
    access="scores",
    default=False,
)
