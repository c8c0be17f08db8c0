"""Targeted shrinking projected gradient: a gradient step inside a ball whose radius follows success and failure.

The radius of each search shrinks while it is adversarial and grows while it is not (DDN, Rony et al. 2019,
arXiv:1811.09600; FMN, Pintor et al. 2021, arXiv:2102.12827), starting on the boundary near an image of another class
(as Brendel et al. 2019, arXiv:1907.01003) or from the clean image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from benchmark.attacks.oracle import Oracle
from benchmark.attacks.rows import Rows
from benchmark.threat import Norm, norms_of, project_ball_


def cosine(first: float, last: float, k: int, steps: int) -> float:
    """The value of a cosine schedule from ``first`` to ``last`` at step ``k`` of ``steps``."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * k / max(1, steps - 1)))


def ascent(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of norm 1 (linf, l2) along which a linear function rises most; shape (m, d)."""
    if norm == "linf":
        return gradient.sign()
    return torch.nn.functional.normalize(gradient, dim=1, eps=1e-30)


def shrink(
    oracle: Oracle,
    rows: Rows,
    norm: Norm,
    *,
    steps: int,
    step: tuple[float, float] = (0.5, 0.01),
    rate: tuple[float, float] = (0.05, 0.002),
    radius: Tensor | None = None,
) -> None:
    """Run the rows' searches for some steps; their nearest examples are kept in them.

    Args:
        oracle: The model.
        rows: The searches; `Rows.delta` is where they start.
        norm: The norm to be small; ``l1`` is not served (`primal_dual` does it better).
        steps: Gradient steps.
        step: Step size at the start and the end, as a share of the radius.
        rate: How fast the radius shrinks and grows, at the start and the end.
        radius: Radius at the start, shape (m,), or None for the norm of `Rows.delta`.
    """
    eps = norms_of(rows.delta, norm) if radius is None else radius.clone()
    for k in range(steps):
        images = rows.images()
        margin, gradient = oracle.gradients(images, rows.y, rows.target)
        size = rows.offer(margin, norm)
        change = cosine(*rate, k, steps)
        shrunk = torch.minimum(eps, size).mul_(1 - change)
        grown = torch.minimum(eps * (1 + change), rows.distance * (1 - rate[1]))
        eps = torch.where(margin > 0, shrunk, grown)
        rows.delta.addcmul_(ascent(gradient, norm), (eps * cosine(*step, k, steps))[:, None])
        project_ball_(rows.delta, norm, eps)
