"""Searches inside a ball of one radius, and the work after which each sample breaks: gradient steps, or queries."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.attacks.engine.gradient_free import patches
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import sparse_ascent
from benchmark.threat import Norm, project_ball_

_SPARSITY: Final = 0.02
_PATCH: Final = (0.5, 0.01)
"""Share of the image that Square's patches cover, at the first and the last query (a geometric schedule)."""


def gradient_steps(
    oracle: Oracle, x: Tensor, y: Tensor, *, norm: Norm, eps: float, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Projected gradient ascent on the margin from the clean image, with steps of one length.

    Args:
        oracle: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: ``linf``, ``l2`` or ``l1``.
        eps: Radius of the ball.
        step: Length of a step.
        steps: Most steps.

    Returns:
        The step that breaks each sample, shape (n,), 0 where the clean image is at the goal, ``inf`` where none does;
        and the examples, shape of ``x``.
    """
    work, found = _start(oracle, x, y)
    rows = Rows(torch.isinf(work).nonzero().squeeze(1), x, y)
    for k in range(1, steps + 1):
        if not len(rows.sample):
            break
        _, gradient = oracle.gradients(rows.images(), rows.y)
        if norm == "l1":
            direction = sparse_ascent(rows, gradient, max(1, int(_SPARSITY * gradient.shape[1])))
        else:
            direction = gradient.sign() if norm == "linf" else normalize(gradient, eps=1e-30)
        rows.delta.add_(direction, alpha=step)
        project_ball_(rows.delta, norm, torch.full((len(rows.delta),), eps, device=x.device))
        images = rows.images()
        broken = oracle.margins(images, rows.y) > 0
        work[rows.sample[broken]] = k
        found[rows.sample[broken]] = images[broken]
        rows = _left(rows, x, y, ~broken)
    return work, found


def random_corners(
    oracle: Oracle, x: Tensor, y: Tensor, *, eps: float, queries: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Square's search of the ball's corners in linf: random patches of one sign a channel that raise the margin.

    Args:
        oracle: The model; it is shown images alone.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        eps: Radius of the ball.
        queries: Most images shown a sample, the clean one not counted.
        generator: Source of the patches.

    Returns:
        As of `gradient_steps`.
    """
    work, found = _start(oracle, x, y)
    rows = Rows(torch.isinf(work).nonzero().squeeze(1), x, y)
    width = x.shape[-1]
    score = torch.full((len(rows.sample),), -torch.inf, device=x.device)
    for k in range(1, queries + 1):
        if not len(rows.sample):
            break
        current, m = rows.delta.clone(), len(rows.sample)
        if k == 1:  # stripes, as in Square
            columns = torch.randint(0, 2, (m, x.shape[1], 1, width), generator=generator, device=x.device)
            rows.delta = ((columns * 2.0 - 1) * eps).expand(-1, -1, x.shape[2], -1).reshape(m, -1)
        else:
            share = _PATCH[0] * (_PATCH[1] / _PATCH[0]) ** (k / queries)
            sign = torch.randint(0, 2, (m, x.shape[1], 1), generator=generator, device=x.device) * 2.0 - 1
            signs = sign.expand(-1, -1, x[0, 0].numel()).reshape(m, -1)
            rows.delta = torch.where(patches(rows, share, generator), signs * eps, current)
        tried = rows.delta.clone()
        images = rows.images()
        margin = oracle.margins(images, rows.y)
        better = margin > score
        score = torch.where(better, margin, score)
        rows.delta = torch.where(better[:, None], tried, current)
        broken = margin > 0
        work[rows.sample[broken]] = k
        found[rows.sample[broken]] = images[broken]
        rows, score = _left(rows, x, y, ~broken), score[~broken]
    return work, found


def _start(oracle: Oracle, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Work so far, 0 where the clean image is at the goal, else ``inf``; and the examples, clean as yet."""
    at_goal = oracle.margins(x, y) > 0
    return torch.where(at_goal, 0.0, torch.inf), x.clone()


def _left(rows: Rows, x: Tensor, y: Tensor, these: Tensor) -> Rows:
    kept = Rows(rows.sample[these], x, y)
    kept.delta = rows.delta[these]
    return kept
