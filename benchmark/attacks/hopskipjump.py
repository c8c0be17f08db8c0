"""HopSkipJump: the smallest distance by decisions alone."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor

from benchmark.attacks import Attack
from benchmark.attacks.decisions import HALVINGS, Decisions, by_decisions, normal, spread, to_boundary
from benchmark.threat import Norm, get_norm, norms_of

_FIRST: Final = 100
"""Directions of the first estimate; of the k-th, √k times as many, as published."""

_STRETCHES: Final = 6


def _walk(
    decisions: Decisions, x: Tensor, near: Tensor, *, norm: Norm, queries: int, generator: torch.Generator
) -> Tensor:
    """Chen, Jordan & Wainwright 2020, algorithm 2, for all samples at once.

    From the boundary on the way to the nearest image of another class, the boundary's normal is estimated from labels
    of noisy images, a step is taken along it and halved until its end is adversarial, and bisection returns to the
    boundary. In linf steps go along the sign of the normal and the way back shrinks the ball, as published. Half of the
    noises vary slowly over the image, see `benchmark.attacks.decisions`.
    """
    shape, d, votes = x.shape[1:], x[0].numel(), decisions.votes
    current = near
    best, distance = current.clone(), get_norm(norm).distance(x, current)
    steps = 0
    while True:
        steps += 1
        room = (queries - decisions.asked) // votes - _STRETCHES - HALVINGS
        count = min(int(_FIRST * steps**0.5), room)
        if count < 10:
            return best
        size = norms_of((current - x).flatten(1), norm).clamp(min=1e-12)
        direction = normal(decisions, current, spread(size, norm, d), count, generator)
        direction = direction.sign() if norm == "linf" else direction
        length = size / steps**0.5
        moved, done = current.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for _ in range(_STRETCHES):
            tried = (current.flatten(1) + direction * length[:, None]).clamp_(0, 1).view(-1, *shape)
            holds = decisions.one(tried) & ~done
            moved[holds] = tried[holds]
            done |= holds
            length = torch.where(done, length, length / 2)
        current = to_boundary(decisions, x, moved, norm)
        apart = get_norm(norm).distance(x, current)
        nearer = apart < distance
        best[nearer], distance[nearer] = current[nearer], apart[nearer]


ATTACK = Attack(
    name="hopskipjump",
    version=4,
    title="HopSkipJump: the boundary's normal from decisions alone",
    paper="Chen, Jordan & Wainwright 2020, arXiv:1904.02144",
    run=partial(by_decisions, _walk),
    norms=("linf", "l2"),
    access="decisions",
    default=False,
)
