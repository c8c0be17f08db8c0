"""GeoDA: the smallest distance by decisions, from the normal of a boundary that is nearly flat."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.attacks import Attack
from benchmark.attacks.decisions import HALVINGS, Decisions, at_boundary, by_decisions, normal, spread
from benchmark.threat import Norm, norms_of, project_ball_

FIRST: Final = 40
"""Directions of the first estimate; of the k-th, √k times as many."""

KEPT: Final = 0.7
"""Weight of earlier estimates in the next: where the boundary is nearly flat, they are of the same normal."""

STEPS: Final = (4.0, 1.0, 0.5, 0.25, 0.1)
"""How far along the normal the next examples are looked for, as shares of the distance; all at once."""

ROUNDS: Final = 6
"""Radii at which they are tried, all at once."""

DEEPEST: Final = 0.5
"""Share of the distance that the first round of searches hopes to win at most; of the k-th, √k times less."""


def _walk(
    decisions: Decisions, x: Tensor, near: Tensor, *, norm: Norm, queries: int, generator: torch.Generator
) -> Tensor:
    """After Rahmati et al. 2020: estimate the normal, look along it for a nearer example, and again from there.

    Ours remembers earlier normals, tries several compromises between the present example and the normal, as boundaries
    are not flat, and keeps to the box, where MNIST's pixels are.
    """
    d, votes = x[0].numel(), decisions.votes
    flat = x.flatten(1)
    current = near.flatten(1)  # the images themselves: their rounding is part of the answer
    known = torch.zeros_like(flat)
    steps = 0
    while True:
        steps += 1
        room = (queries - decisions.asked) // votes - ROUNDS * len(STEPS) - HALVINGS
        count = min(int(FIRST * steps**0.5), room)
        if count < 10:
            return current.view_as(x)
        size = norms_of(current - flat, norm).clamp(min=1e-12)
        found = normal(decisions, current.view_as(x), spread(size, norm, d), count, generator)
        known = KEPT * known + count**0.5 * found
        current = _nearer(decisions, x, current, normalize(known, eps=1e-30), norm=norm, hope=DEEPEST / steps**0.5)


def _nearer(decisions: Decisions, x: Tensor, current: Tensor, direction: Tensor, *, norm: Norm, hope: float) -> Tensor:
    """The nearest of some examples between the present one and the normal, by bisection of their common radius.

    What is chosen then goes on alone to the boundary, where the next normal is to be seen.
    """
    flat = x.flatten(1)
    delta = current - flat
    size = norms_of(delta, norm)
    along = direction.sign() if norm == "linf" else direction
    tips = torch.stack([delta + step * size[:, None] * along for step in STEPS], dim=1)  # (n, k, d)
    low, high, best, chosen = size * (1 - hope), size, current, delta
    rows = torch.arange(len(x), device=x.device)
    for turn in range(ROUNDS + HALVINGS):
        if turn >= ROUNDS and at_boundary(low, high, norm, flat.shape[1]):
            break
        radius = (low + high) / 2 if turn else low
        candidates = tips if turn < ROUNDS else chosen[:, None]
        tried = _at_radius(flat, candidates, radius, norm)
        holds = decisions.wrong(tried.view(*candidates.shape[:2], *x.shape[1:]))
        met, which = holds.any(dim=1), holds.int().argmax(dim=1)
        best = torch.where(met[:, None], tried[rows, which], best)
        chosen = torch.where(met[:, None], candidates[rows, which], chosen)
        high, low = torch.where(met, radius, high), torch.where(met, low, radius)
        if not turn:
            low = torch.where(met, radius * (1 - hope), low)
    return best


def _at_radius(flat: Tensor, tips: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """Images on the way to each tip (n, k, d) that are so far away, the box included; shape of ``tips``."""
    if norm == "linf":
        within = tips.clamp(-radius[:, None, None], radius[:, None, None])
        return (flat[:, None] + within).clamp_(0, 1)
    clean = flat[:, None].expand_as(tips).flatten(0, 1)
    ways = tips.flatten(0, 1)
    wanted = radius.repeat_interleave(tips.shape[1])
    part = wanted / norms_of(ways, norm).clamp(min=1e-12)
    for _ in range(4):  # what the box cuts off is made up for
        moved = (clean + part[:, None] * ways).clamp_(0, 1) - clean
        part = (part * (wanted / norms_of(moved, norm).clamp(min=1e-12))).clamp(max=1e6)
    moved = (clean + part[:, None] * ways).clamp_(0, 1) - clean
    return (clean + project_ball_(moved, norm, wanted)).view_as(tips)


ATTACK = Attack(
    name="geoda",
    version=3,
    title="GeoDA: along the boundary's normal, from decisions alone",
    paper="after Rahmati et al. 2020, arXiv:2003.06468",
    run=partial(by_decisions, _walk),
    norms=("linf", "l2"),
    access="decisions",
    default=False,
)
