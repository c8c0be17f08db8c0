"""Square for the smallest distance: a random search that sees scores, never a gradient."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.gradient_free import random_search
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.starts import bisect, far_images, nearest_other
from benchmark.threat import Norm

_QUERIES: Final[dict[Effort, int]] = {"quick": 1000, "standard": 3000, "thorough": 10_000}
"""Images that the model is shown for each sample, besides those of the pool and some fifty to start."""

_BATCH: Final = 256


def square(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """From the way to the nearest image of another class, patches are pushed to a radius that shrinks on success.

    In linf it is within a quarter of the exact distance of linear models; in l2 and l1 it is not, and is not offered.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    oracle = Oracle(model, batch_size=_BATCH)
    attacked = (oracle.margins(x, y) <= 0).nonzero().squeeze(1)
    if not len(attacked):
        return AttackResult(x.clone())
    images, labels = x[attacked], y[attacked]
    rows = Rows(torch.arange(len(attacked), device=x.device), images, labels)
    others = x if pool is None else pool
    near = nearest_other(images, labels, others, oracle.logits(others).argmax(dim=1), norm, count=1)[:, 0]
    known = (near >= 0).nonzero().squeeze(1)
    starts = [Rows(known, images, labels, start=others[near[known]])] if len(known) else []
    starts += [Rows(rows.sample, images, labels, start=far) for far in far_images(images, generator)]
    for start in starts:
        bisect(oracle, start, norm)
        nearer = start.distance < rows.distance[start.sample]
        rows.distance[start.sample[nearer]] = start.distance[nearer]
        rows.best[start.sample[nearer]] = start.best[nearer]
    random_search(oracle, rows, norm, steps=_QUERIES[effort], generator=generator)
    adversarials = x.clone()
    found = torch.isfinite(rows.distance)
    adversarials[attacked[found]] = (rows.x + rows.best).clamp(0, 1).view_as(images)[found]
    return AttackResult(adversarials)


ATTACK = Attack(
    name="square",
    version=1,
    title="Square: random search for the smallest distance, by scores alone",
    paper="after Andriushchenko et al. 2020, arXiv:1912.00049",
    run=square,
    norms=("linf",),
    access="scores",
    default=False,
)
