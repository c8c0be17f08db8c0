"""Shrinking projected gradient: a gradient step inside a ball whose radius follows success and failure.

The radius of each search shrinks while it is adversarial and grows while it is not (DDN, Rony et al. 2019,
arXiv:1811.09600; FMN, Pintor et al. 2021, arXiv:2102.12827), starting on the boundary near an image of another class
(as Brendel et al. 2019, arXiv:1907.01003), from the clean image, or from another search's best. In l1 the step is
sparse, as in APGD-l1 (Croce & Hein 2021, arXiv:2103.01208).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.threat import Norm, norms_of, project_ball_
from benchmark.threat.rowwise import as_tensor, dots

_SPARSITY = (0.02, 0.002)  # share of the coordinates that a step in l1 moves, at the start and the end


def cosine(ends: tuple[float, float], k: int, steps: int) -> float:
    """The value at step ``k`` of ``steps`` of a cosine schedule from the first to the second of ``ends``."""
    first, last = ends
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * k / max(1, steps - 1)))


def geometric(ends: tuple[float, float], done: float) -> float:
    """The value of a geometric schedule from the first to the second of ``ends`` when a part of it is done."""
    first, last = ends
    value: float = first * (last / first) ** done  # a float's power may be complex, says mypy
    return value


def shrink(
    oracle: Oracle,
    rows: Rows,
    norm: Norm,
    *,
    steps: int,
    step: tuple[float, float] = (0.5, 0.01),
    rate: tuple[float, float] = (0.2, 0.002),
    radius: Tensor | None = None,
) -> None:
    """Run the rows' searches for some steps; their nearest examples are kept in them.

    Args:
        oracle: The model.
        rows: The searches; `Rows.delta` is where they start.
        norm: The norm to be small.
        steps: Gradient steps.
        step: Step size at the start and the end (a cosine schedule), as a share of the radius.
        rate: How fast the radius shrinks and grows, at the start and the end.
        radius: Radius at the start, shape (m,), or None for the norm of `Rows.delta`.
    """
    eps = norms_of(rows.delta, norm) if radius is None else radius.clone()
    for k in range(steps):
        images = rows.images()
        margin, gradient = oracle.gradients(images, rows.y, rows.target)
        size = rows.offer(margin, norm)
        change = cosine(rate, k, steps)
        shrunk = torch.minimum(eps, size).mul_(1 - change)
        grown = torch.minimum(eps * (1 + change), rows.distance * (1 - rate[1]))
        eps = torch.where(margin > 0, shrunk, grown)
        length = (eps * cosine(step, k, steps))[:, None]
        if norm == "l1":
            share = cosine(_SPARSITY, k, steps)
            rows.delta.add_(sparse_ascent(rows, gradient, max(1, int(share * gradient.shape[1]))).mul_(length))
            rows.clip_()
        else:
            rows.delta.addcmul_(gradient.sign() if norm == "linf" else normalize(gradient, eps=1e-30), length)
        project_ball_(rows.delta, norm, eps)


def sparse_ascent(rows: Rows, gradient: Tensor, count: int) -> Tensor:
    """A step in l1: the signs of the largest gradients among coordinates that the box lets move.

    Args:
        rows: Where the searches are.
        gradient: Shape (m, d).
        count: Coordinates to move.

    Returns:
        Directions of l1 norm 1, shape (m, d), or less where fewer coordinates can move.
    """
    image = rows.x + rows.delta
    room = gradient.sign().mul_(2).add_(image).clamp_(0, 1).sub_(image).abs_()
    slope = room.gt_(1e-4).mul_(gradient)  # 1.0 or 0.0: torch.where takes ten times as long
    size = slope.abs()
    step = size.ge_(_largest(size, count)).mul_(slope.sign_())
    return step.div_(as_tensor(dots(step, step))[:, None].clamp_(min=count))  # more than `count` where gradients tie


def _largest(values: Tensor, count: int) -> Tensor:
    """The ``count``-th largest of each row, shape (n, 1); numpy's selection takes a quarter of torch's time."""
    if values.device.type == "cpu":
        place = values.shape[1] - count
        return torch.from_numpy(np.partition(values.numpy(), place, axis=1)[:, place, None])
    return values.topk(count, dim=1).values[:, -1:]
