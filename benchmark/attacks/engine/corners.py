"""In linf: starts in the corners of a ball, chosen by a random search, for where gradients mislead.

The nearest example in linf mostly has nearly every pixel at the ball's or the box's bound, so that a basin is a choice
of signs. Gradients change signs one region of the network at a time and never leave the side on which a pixel is held
by the box. A corner of the ball is on neither side: it shows what the other signs are worth for one pass. Patches of
signs that are flipped at random, and kept where the margin rises (Square, Andriushchenko et al. 2020, 1912.00049),
reach basins that no gradient points to, and need not be followed to their end: a few gradient steps do that.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from benchmark.attacks.engine.climbing import climb
from benchmark.attacks.engine.gradient_free import patches
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.threat import Norm

_SHARE: Final = 0.8
"""Share of the image that a patch of flipped signs covers at first."""

_HALVED: Final = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Parts of the search after which the share is halved, as in Square."""


def corner_of(delta: Tensor) -> Tensor:
    """Signs of perturbations, shape (m, d); a pixel that is not changed, being held by the box, is let go upward.

    A pixel is mostly held at black, of which images have most, and of two ways one leads nowhere.
    """
    signs = delta.sign()
    return signs.add_(signs == 0)


def random_corner(
    oracle: Oracle, rows: Rows, norm: Norm, *, radius: Tensor, steps: int, generator: torch.Generator
) -> None:
    """Flip patches of signs of `Rows.delta` at random, and leave there the perturbation of the largest margin.

    Args:
        oracle: The model; only forward passes are made.
        rows: The searches; the signs of `Rows.delta` are where they start (see `corner_of`).
        norm: ``linf``.
        radius: The radius of each row's ball, shape (m,): fixed, so that margins can be compared.
        steps: Forward passes, one more than patches tried.
        generator: Source of the patches.
    """
    reach = radius[:, None]

    def flipped(corner: Tensor, done: float) -> Tensor:
        share = _SHARE / 2 ** sum(done > part for part in _HALVED)
        sign = torch.randint(0, 2, (len(corner), 1), generator=generator, device=corner.device) * 2.0 - 1
        return torch.where(patches(rows, share, generator), sign * reach, corner)

    rows.delta = corner_of(rows.delta) * reach
    climb(oracle, rows, norm, steps=steps, propose=flipped)
