"""Found examples, moved outward until verification believes them: the last step of every attack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.verification import WITHIN_SLACK, verify

_PUSHES: Final = 20
"""Outward moves, each twice the one before."""

_FIRST: Final = 1e-6
"""The first of them, as a share of the perturbation: the last is by half of it."""

_FIRST_OF_RANDOMISED: Final = 0.02

_AGAIN: Final = 3

_SAFETY: Final = 2.0
"""How many times what verification asks for: it measures its own rounding anew, among other images."""


def pushed_outward(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    candidates: Tensor,
    *,
    targets: Tensor | None = None,
    fallback: Tensor | None = None,
) -> Tensor:
    """Candidates of an attack, those that verification does not quite believe moved outward until it does.

    Rounding, or (a randomised model) the luck of the draws that a search selects for, leave examples whose lead is too
    small. What does not change the label at all is left as it is: it was never found.

    Args:
        model: The classifier.
        x: Clean images, shape (n, c, h, w).
        y: Labels, shape (n,).
        candidates: What the attack claims, shape of ``x``.
        targets: Classes that the candidates are to be given, shape (n,).
        fallback: Farther examples, shape of ``x``, whose way outward is tried where that of the candidate leads back
            into the label's region, or nothing was found by it; the clean image where there is none.

    Returns:
        Shape of ``x``; the candidate itself where nothing holds.
    """
    for _ in range(_AGAIN):
        result = _pushed(model, x, y, candidates, targets=targets, fallback=fallback)
        if torch.equal(result, candidates):
            break
        candidates = result  # what was pushed alone is looked at again among all, where the rounding is another
    return candidates


def _pushed(
    model: nn.Module, x: Tensor, y: Tensor, candidates: Tensor, *, targets: Tensor | None, fallback: Tensor | None
) -> Tensor:
    result = candidates.clone()
    first = verify(model, x, y, candidates, targets=targets, safety=_SAFETY)
    moved = (candidates != x).flatten(1).any(dim=1).cpu()
    refused = torch.isinf(next(iter(first.distances.values())))  # 0 where the clean image is at the goal already
    found = (first.reason == WITHIN_SLACK) | first.randomised
    lost = (found & moved & refused).to(x.device)
    mended = torch.zeros_like(lost)
    unit = _FIRST_OF_RANDOMISED if first.randomised else _FIRST
    ways: Sequence[Tensor] = [candidates] if fallback is None else [candidates, fallback]
    for way in ways:
        delta = way - x
        if way is fallback:  # also where the label does not change at all: of a tie decisions see one side alone
            lost = refused.to(x.device) & delta.flatten(1).any(dim=1) & ~mended
        for power in range(int(way is candidates), _PUSHES):
            rows = lost.nonzero().squeeze(1)
            if not len(rows):
                break
            pushed = torch.add(x[rows], delta[rows], alpha=1 + unit * (2**power - 1)).clamp_(0, 1)
            aims = None if targets is None else targets[rows]
            holds = verify(model, x[rows], y[rows], pushed, targets=aims, safety=_SAFETY).holds.to(x.device)
            result[rows[holds]] = pushed[holds]
            lost[rows[holds]], mended[rows[holds]] = False, True
    return result
