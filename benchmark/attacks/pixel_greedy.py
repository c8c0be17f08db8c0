"""A pixel at a time: the one whose best value gains most, until the class changes."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import Oracle, find_batch_size, frozen
from benchmark.threat import Norm
from benchmark.verification import needed_lead

_LOOKED_AT: Final[dict[Effort, int]] = {"quick": 4, "standard": 16, "thorough": 64}
"""Places whose values are tried at each step, the most promising by the gradient first."""

_MOST: Final = 0.5
"""Share of all places that may be changed; what needs more is given up."""


def pixel_greedy(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """Greedy choice, as in JSMA (Papernot et al. 2016), by what a change of one place really does to the margin.

    In ``l0`` a place is a value, tried at 0 and 1; in ``l0_pixels`` a pixel, whose channels go where the gradient
    points, all to 0 and all to 1. Changes that prove needless in the end are taken back. It draws no random numbers, so
    ``seed`` has no effect.
    """
    with frozen(model) as classifier:
        oracle = Oracle(classifier, batch_size=find_batch_size(classifier, x), noise=needed_lead(classifier, x, y))
        current = x.clone()
        changed = torch.zeros(len(x), _places(x, norm), dtype=torch.bool, device=x.device)
        margin = oracle.margins(x, y)
        for _ in range(max(1, int(_MOST * changed.shape[1]))):
            open_ = (margin <= 0).nonzero().squeeze(1)
            if not len(open_):
                break
            image, taken, place = _step(
                oracle, current[open_], y[open_], changed[open_], norm=norm, count=_LOOKED_AT[effort]
            )
            current[open_], margin[open_] = image, taken
            changed[open_, place] = True
        _take_back(oracle, x, y, current=current, margin=margin, changed=changed, norm=norm)
        current[margin <= 0] = x[margin <= 0]
    return AttackResult(current)


def _places(x: Tensor, norm: Norm) -> int:
    return x[0].numel() if norm == "l0" else x[0, 0].numel()


def _mask(places: Tensor, x: Tensor) -> Tensor:
    """Which values belong to places, bool (n, p) -> the shape of ``x``."""
    return places.view(len(x), -1, *x.shape[2:]).expand_as(x)


def _step(
    oracle: Oracle, current: Tensor, y: Tensor, changed: Tensor, *, norm: Norm, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The change of one place that leaves the largest margin: images, margins (m,), places (m,)."""
    _, gradient = oracle.gradients(current, y)
    slope = gradient.view_as(current)
    gain = torch.where(slope > 0, slope * (1 - current), -slope * current)
    if norm != "l0":
        gain = gain.sum(dim=1)
    gain = gain.flatten(1).masked_fill(changed, -1.0)
    ranked = gain.topk(min(count, gain.shape[1]), dim=1).indices
    towards = (slope > 0).to(current.dtype)
    best = torch.full((len(current),), -torch.inf, device=current.device)
    image, place = current.clone(), ranked[:, 0].clone()
    for candidate in ranked.unbind(dim=1):
        chosen = torch.zeros_like(changed).scatter_(1, candidate[:, None], value=True)
        mask = _mask(chosen, current)
        for value in (towards, torch.zeros_like(current), torch.ones_like(current)):
            tried = torch.where(mask, value, current)
            margin = oracle.margins(tried, y)
            better = margin > best
            best, place = torch.where(better, margin, best), torch.where(better, candidate, place)
            image[better] = tried[better]
    return image, best, place


def _take_back(
    oracle: Oracle, x: Tensor, y: Tensor, *, current: Tensor, margin: Tensor, changed: Tensor, norm: Norm
) -> None:
    """Undo each change in turn where the example holds without it; ``current`` and ``changed`` are overwritten."""
    for k in range(int(changed.sum(dim=1).max()) if len(x) else 0):
        order = changed.float().topk(min(k + 1, changed.shape[1]), dim=1)
        place, there = order.indices[:, -1:], order.values[:, -1] > 0
        mask = _mask(torch.zeros_like(changed).scatter_(1, place, value=True), x)
        tried = torch.where(mask, x, current)
        found = oracle.margins(tried, y)
        kept = (found > 0) & (margin > 0) & there
        current[kept] = tried[kept]


ATTACK = Attack(
    name="pixel-greedy",
    version=1,
    title="Pixel-greedy: one place after the other, the one that gains most",
    paper="after Papernot et al. 2016, arXiv:1511.07528",
    run=pixel_greedy,
    norms=("l0", "l0_pixels"),
    default=False,
)
