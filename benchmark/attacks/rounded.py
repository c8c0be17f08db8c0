"""Examples of large images, rounded as far as that changes their distance by no more than a thousandth.

A perturbation that changes every value of a 224 × 224 image, as those of a small l2 norm do, has 24 random bits in
each: its evidence takes nearly as much as the raw floats. Most of these bits are noise of the search. What is rounded
here is the claim itself: the rounded example is verified, measured and stored, nothing is rounded afterwards.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.threat import Norm, get_norm
from benchmark.verification import verify

LARGE: Final = 16_384
"""Numbers an image above which its examples are rounded."""

MOST: Final = 1e-3
"""Share of its distance that an example may move farther."""

_ROUNDING: Final = 6e-4
"""Share of it that rounding alone may take; the rest is for going a little farther first."""

_FARTHER: Final = (2e-4, 4e-4)
"""How much farther an example is moved before it is rounded: an example lies on the boundary, and rounding throws it to
either side, by about a ten-thousandth of its distance."""

_POWERS: Final = range(8, 19)
"""Values are rounded to multiples of 2^-k, the coarsest that will do. Float32 has 2^-24."""

_MOSTLY: Final = 0.5
"""Share of its values that an example must change: sparse ones pack well as they are."""

_SAFETY: Final = 2.0
"""How many times what verification asks for; as in `benchmark.attacks.outward`."""


def rounded(
    model: nn.Module, x: Tensor, y: Tensor, adversarials: Tensor, *, norm: Norm, targets: Tensor | None = None
) -> Tensor:
    """Examples with fewer bits where verification believes them as well; others, and all of small images, as they are.

    Args:
        model: The classifier.
        x: Clean images, shape (n, c, h, w).
        y: Labels, shape (n,).
        adversarials: Examples, shape of ``x``; a row that is none is left as it is.
        norm: The norm whose distance may grow by a share of `MOST` at most. In linf the steps are fine, if there
            is one at all, since the largest change grows by half a step.
        targets: Classes that the examples are to be given, shape (n,).

    Returns:
        Shape of ``x``. Values that an example does not change stay exactly those of the clean image.
    """
    if not len(x) or x[0].numel() <= LARGE:
        return adversarials
    changed = adversarials != x
    finite = torch.isfinite(adversarials).flatten(1).all(dim=1)
    rows = (finite & (changed.flatten(1).float().mean(dim=1) > _MOSTLY)).nonzero().squeeze(1)
    steps = [_step(x[i], adversarials[i], norm) for i in rows.tolist()]
    rows = rows[torch.tensor([step > 0 for step in steps], dtype=torch.bool, device=rows.device)]
    step = torch.tensor([step for step in steps if step > 0], dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
    result = adversarials.clone()
    for farther in _FARTHER:
        if not len(rows):
            break
        given, clean = adversarials[rows], x[rows]
        moved = torch.lerp(clean, given, 1 + farther)
        tried = torch.where(changed[rows], moved.div_(step).round_().mul_(step).clamp_(0, 1), clean)
        aims = None if targets is None else targets[rows]
        holds = verify(model, clean, y[rows], tried, targets=aims, safety=_SAFETY).holds.to(x.device)
        distance = get_norm(norm).distance
        holds &= distance(clean, tried) <= (1 + MOST) * distance(clean, given)
        result[rows[holds]] = tried[holds]
        rows, step = rows[~holds], step[~holds]
    return result


def _step(x: Tensor, adversarial: Tensor, norm: Norm) -> float:
    """The coarsest step that an example may be rounded to; 0 where there is none."""
    distance = get_norm(norm).distance
    given = float(distance(x[None], adversarial[None]))
    for power in _POWERS:
        step = 2.0**-power
        tried = torch.where(adversarial == x, x, adversarial.div(step).round_().mul_(step))
        if abs(float(distance(x[None], tried[None])) - given) <= _ROUNDING * given:
            return step
    return 0.0
