"""Square for the smallest distance: a random search that sees scores, never a gradient."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort, spent
from benchmark.attacks.engine.gradient_free import random_search
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Best, Rows
from benchmark.attacks.estimation import BATCH, from_boundary, repeats_of
from benchmark.modes import same_draws
from benchmark.threat import Norm

QUERIES: Final[dict[Effort, int]] = {"quick": 1000, "standard": 3000, "thorough": 10_000}
"""Images that the model is shown for each sample, at most, besides those of the pool."""


def square(
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
    """From the way to the nearest image of another class, patches are pushed to a radius that shrinks on success.

    In linf it is within a quarter of the exact distance of linear models; in l2 and l1 it is not, and is not offered.
    """
    budget = spent(queries, QUERIES[effort])
    with same_draws(x.device, seed):
        generator = torch.Generator(x.device).manual_seed(seed)
        oracle = Oracle(model, batch_size=BATCH, repeats=repeats_of(model, x, budget))
        each = 2 * oracle.repeats if oracle.repeats > 1 else 1

        def search(rows: Rows, best: Best, left: int) -> None:
            rows.best, rows.distance = best.delta[rows.sample].clone(), best.distance[rows.sample].clone()
            random_search(oracle, rows, norm, steps=left // each, generator=generator)
            best.merge(rows, 0)

        return from_boundary(oracle, search, x, y, norm=norm, pool=pool, budget=budget, generator=generator)


ATTACK = Attack(
    name="square",
    version=3,
    title="Square: random search for the smallest distance, by scores alone",
    paper="after Andriushchenko et al. 2020, arXiv:1912.00049",
    run=square,
    norms=("linf",),
    access="scores",
    default=False,
)
