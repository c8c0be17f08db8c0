"""In l2 and l1: random displacements of parts of a perturbation, for where gradients do not lead.

What a perturbation does mostly hangs on where its strokes are, and a stroke that lies a pixel or two away belongs to
another basin: gradients, which change every pixel a little, do not move it there, and noise does so by chance alone.
Patches are moved at random and kept where the margin rises. That costs one forward pass a trial, where a kick costs a
whole descent; gradients finish what was found.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from benchmark.attacks.engine.climbing import climb
from benchmark.attacks.engine.gradient_free import patches
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import geometric
from benchmark.threat import Norm, norms_of

_SHARE: Final = (0.15, 0.005)
"""Share of the image that a patch covers at the start and the end."""

_REACH: Final = 14
"""A patch moves by at most the image's shorter side ÷ this in each direction: two pixels of 28."""


def displace(oracle: Oracle, rows: Rows, norm: Norm, *, radius: Tensor, steps: int, generator: torch.Generator) -> None:
    """Move patches of `Rows.delta` at random, and leave there the perturbation of the largest margin.

    Args:
        oracle: The model; only forward passes are made.
        rows: The searches; `Rows.delta` is where they start.
        norm: ``l2`` or ``l1``.
        radius: The norm of each perturbation, shape (m,): fixed, so that margins can be compared.
        steps: Forward passes, one more than patches tried.
        generator: Source of the patches and of how they move.
    """
    height, width = rows.plane
    reach = max(1, round(min(height, width) / _REACH))
    span = range(-reach, reach + 1)
    steps_away = [(down, across) for down in span for across in span if down or across]

    def sized(delta: Tensor) -> Tensor:
        return delta * (radius / norms_of(delta, norm).clamp(min=1e-12))[:, None]

    def moved(delta: Tensor, done: float) -> Tensor:
        inside = (rows.x + delta).clamp_(0, 1).sub_(rows.x)
        patch = patches(rows, geometric(_SHARE, done), generator, around=inside.abs())
        down, across = steps_away[int(torch.randint(len(steps_away), (), generator=generator, device=delta.device))]
        away = inside.view(len(inside), -1, height, width).roll((down, across), (-2, -1)).flatten(1)
        return sized(torch.where(patch, away, inside))

    rows.delta = sized(rows.delta)
    climb(oracle, rows, norm, steps=steps, propose=moved)
