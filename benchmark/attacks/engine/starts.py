"""Where searches start: the boundary on the way to the nearest images that the model gives another class."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.threat import Norm, get_norm


def nearest_other(x: Tensor, pool: Tensor, met: Tensor, norm: Norm, *, count: int) -> Tensor:
    """The nearest images of the pool that meet each sample's goal: that are given another class, or its target.

    Args:
        x: Images, shape (n, c, h, w).
        pool: Images, shape (m, c, h, w).
        met: Whether they meet it (`Oracle.met_by`), bool, shape (n, m).
        norm: The norm of the distance.
        count: How many; fewer where the pool has no more.

    Returns:
        Indices into the pool, nearest first, shape (n, count), -1 where there is none.
    """
    distance = get_norm(norm).pairwise(x, pool).masked_fill_(~met, torch.inf)
    near = distance.topk(min(count, len(pool)), dim=1, largest=False)
    return near.indices.masked_fill(torch.isinf(near.values), -1)


_STARTS: Final = 4
_WORTH_A_START: Final = 4_000

SHARE: Final = 8
"""Part of its queries, 1 / this, that an attack without gradients spends on each start before the nearest goes on."""


def number_of_starts(queries: int) -> int:
    """How many starts an attack without gradients tries.

    A search stays in the basin that it starts in, however long it is, and the nearest image need not lie in the best.
    """
    return max(1, min(_STARTS, queries // _WORTH_A_START))


def nearest_by_class(
    x: Tensor, pool: Tensor, classes: Tensor, y: Tensor, norm: Norm, *, count: int
) -> tuple[Tensor, Tensor]:
    """The nearest image of the pool of each of the nearest other classes.

    Args:
        x: Images, shape (n, c, h, w).
        pool: Images, shape (m, c, h, w).
        classes: What the model gives them, shape (m,); -1 is no class.
        y: The class to leave, shape (n,).
        norm: The norm of the distance.
        count: Classes, at most.

    Returns:
        Indices into the pool, the nearest first, and whether there is such a class, both of shape (count, n).
    """
    apart = get_norm(norm).pairwise(x, pool).masked_fill_(classes[None, :] == y[:, None], torch.inf)
    apart[:, classes < 0] = torch.inf
    chosen = torch.zeros((count, len(x)), dtype=torch.int64, device=x.device)
    there = torch.zeros((count, len(x)), dtype=torch.bool, device=x.device)
    for k in range(count):
        distance, chosen[k] = apart.min(dim=1)
        there[k] = torch.isfinite(distance)
        apart.masked_fill_(classes[None, :] == classes[chosen[k]][:, None], torch.inf)
    return chosen, there


def far_images(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images far from each image, for a model that gives no image of the pool another class; shape (5, n, c, h, w).

    The corner of the box that is farthest (where adversarial examples are, if there are any at the largest possible
    distance), the negative, black, white, and noise.
    """
    noise = torch.rand(x.shape, generator=generator, device=x.device)
    return torch.stack([(x < 0.5).to(x.dtype), 1 - x, torch.zeros_like(x), torch.ones_like(x), noise])


def bisect(oracle: Oracle, rows: Rows, norm: Norm, *, steps: int = 8) -> None:
    """Move each row's adversarial `Rows.delta` along the line to its clean image until just before the boundary.

    Rows that are not adversarial to begin with stay where they are.
    """
    far = rows.delta.clone()
    low = torch.zeros_like(rows.distance)
    high = torch.ones_like(rows.distance)
    rows.offer(oracle.margins(rows.images(), rows.y), norm)
    met = torch.isfinite(rows.distance)
    for _ in range(steps):
        middle = (low + high) / 2
        torch.mul(far, middle[:, None], out=rows.delta)
        margin = oracle.margins(rows.images(), rows.y)
        rows.offer(margin, norm)
        high = torch.where(margin > 0, middle, high)
        low = torch.where(margin > 0, low, middle)
    torch.mul(far, torch.where(met, high, 1.0)[:, None], out=rows.delta)
