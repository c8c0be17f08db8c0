"""Searches that need no gradient, or only one: the check on what the others claim.

Random search as in Square (Andriushchenko et al. 2020, arXiv:1912.00049), but for the smallest distance: a random part
of an adversarial perturbation is taken back, or (linf) the radius shrinks and random patches are pushed to it; what
keeps the example adversarial, or raises its margin, is kept. A model with masked, zero or quantised gradients cannot
hide from it.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import cosine
from benchmark.threat import Norm, cheapest_point, norms_of

_SHARE: Final = (0.3, 0.01)
"""Share of the coordinates that a proposal touches, at the start and the end."""

_SHRINK: Final = (0.2, 0.005)
"""Share by which the radius is below the best in linf, at the start and the end."""


def random_search(oracle: Oracle, rows: Rows, norm: Norm, *, steps: int, generator: torch.Generator) -> None:
    """Run the rows' searches for some steps; their nearest examples are kept in them.

    Args:
        oracle: The model; only forward passes are made.
        rows: The searches; `Rows.best` is adversarial where `Rows.distance` is finite, other rows stand still.
        norm: The norm to be small.
        steps: Forward passes.
        generator: Source of the proposals.
    """
    current = rows.best.clone()
    score = torch.full_like(rows.distance, -torch.inf)
    for k in range(steps):
        touched = patches(rows, cosine(_SHARE, k, steps), generator)
        if norm == "linf":
            radius = (rows.distance * (1 - cosine(_SHRINK, k, steps)))[:, None]
            # A smaller ball: the point moves into it first, and its margin must be found again.
            left = norms_of(current, "linf") > radius.squeeze(1)
            score = torch.where(left, -torch.inf, score)
            inside = torch.clamp(current, -radius, radius)
            sign = torch.randint(0, 2, (len(current), 1), generator=generator, device=current.device) * 2.0 - 1
            rows.delta = torch.where(touched & ~left[:, None], sign * radius, inside)
        else:
            kept = torch.rand((len(current), 1), generator=generator, device=current.device)
            rows.delta = torch.where(touched, current * kept, current)
        rows.delta.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        margin = oracle.margins(rows.images(), rows.y)
        rows.offer(margin, norm)
        better = (margin > score) if norm == "linf" else (margin > 0)
        score = torch.where(better, margin, score)
        current = torch.where(better[:, None], rows.delta, current)


def patches(rows: Rows, share: float, generator: torch.Generator, *, around: Tensor | None = None) -> Tensor:
    """For each row one random rectangle of the image, all channels, of about a share of its area; bool, (m, d).

    With ``around``, weights of shape (m, d), its middle is a pixel drawn by them, as far as the image's edge lets it.
    """
    height, width = rows.plane
    m, device = len(rows.x), rows.x.device
    side = share**0.5
    tall, wide = max(1, round(height * side)), max(1, round(width * side))
    if around is None:
        top = torch.randint(0, height - tall + 1, (m, 1), generator=generator, device=device)
        left = torch.randint(0, width - wide + 1, (m, 1), generator=generator, device=device)
    else:
        # torch.multinomial draws a number for every pixel, which takes seventeen times as long.
        upto = around.view(m, -1, height * width).sum(dim=1).add_(torch.finfo(around.dtype).tiny).cumsum(dim=1)
        drawn = torch.rand((m, 1), generator=generator, device=device).mul_(upto[:, -1:])
        middle = torch.searchsorted(upto, drawn, right=True).clamp_(max=height * width - 1)
        top = (middle // width - tall // 2).clamp_(0, height - tall)
        left = (middle % width - wide // 2).clamp_(0, width - wide)
    row, column = torch.arange(height, device=device), torch.arange(width, device=device)
    down = (row >= top) & (row < top + tall)
    across = (column >= left) & (column < left + wide)
    patch: Tensor = (down[:, :, None] & across[:, None, :]).flatten(1)
    channels = rows.x.shape[1] // patch.shape[1]
    return patch.repeat(1, channels)


def single_step(oracle: Oracle, rows: Rows, norm: Norm, *, halvings: int = 5) -> None:
    """One gradient at the clean image, then a line search along the cheapest change by it (FGSM and its like).

    Args:
        oracle: The model; one backward pass a row.
        rows: The searches; `Rows.delta` is where the gradient is taken.
        norm: The norm to be small.
        halvings: Bisections of the last doubling.
    """
    margin, gradient = oracle.gradients(rows.images(), rows.y, rows.target)

    def succeeds(factor: Tensor) -> Tensor:
        rows.delta = cheapest_point(gradient, -margin * factor, -rows.x, 1 - rows.x, norm, iterations=20)
        reached = oracle.margins(rows.images(), rows.y)
        rows.offer(reached, norm)
        return torch.gt(reached, 0)

    high = torch.full_like(margin, torch.inf)
    for power in range(-3, 6):
        factor = torch.full_like(margin, 2.0**power)
        high = torch.where(succeeds(factor), torch.minimum(high, factor), high)
    low = high / 2
    for _ in range(halvings):
        middle = torch.where(torch.isfinite(high), (low + high) / 2, 1.0)
        success = succeeds(middle)
        high = torch.where(success, torch.minimum(high, middle), high)
        low = torch.where(success, low, middle)
