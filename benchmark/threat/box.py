"""The image box [0, 1], and the solvers behind the norms' projections and cheapest steps. Needs torch."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from benchmark.threat.rowwise import as_array, as_tensor, dots, where


def soft_threshold(size: Tensor, radius: Tensor, *, iterations: int = 30) -> Tensor:
    """The t >= 0 with ``sum(max(size - t, 0)) == radius``, 0 inside the ball; shapes (n, d), (n,) -> (n,).

    The left side is convex, piecewise linear and falling, so Newton's method from the left never overshoots and is
    exact after finitely many steps, each O(d) (Michelot 1986); a handful suffice, no sorting is needed.
    """
    wanted = as_array(radius)
    threshold = 0 * wanted
    above = size.clone()
    for _ in range(iterations):
        excess = as_array(above.sum(dim=1)) - wanted
        count = as_array(above.sign_().sum(dim=1))
        step = excess * (excess > 0) / (count + (count == 0))
        if not (step > 1e-6 * threshold).any():
            break
        threshold = threshold + step
        torch.sub(size, as_tensor(threshold)[:, None], out=above).clamp_(min=0)
    return as_tensor(threshold)


def nearest_to_zero(low: Tensor, high: Tensor) -> Tensor:
    """The point between bounds that is nearest to 0, in every norm; shapes (n, d)."""
    return torch.zeros_like(low).clamp_(low, high)


_BEYOND: Final = 1e30
"""Farther than any bound."""

_CLOSE: Final = 5e-7
"""Relative change that is rounding: a few units in the last place of float32."""

_TINY: Final = 1e-37
"""Added to a growth that can be 0."""

_STEEPEST: Final = 64
"""Coordinates of a row that are put in order at first; in a descent one row in fifty needs more."""


def fill_best_first(gradient: Tensor, level: Tensor, low: Tensor, high: Tensor, *, most: int = _STEEPEST) -> Tensor:
    """For l1: from the point nearest to 0, whole coordinates in the order of their slope, the last one partly.

    Mostly a few coordinates are enough; only rows that the ``most`` steepest leave short look at all of them.
    """
    level = level.to(gradient.dtype)
    nearest = nearest_to_zero(low, high)
    lacking = as_tensor(as_array(level) - dots(gradient, nearest))[:, None]
    order = _steepest_first(gradient.abs(), most)
    slope = gradient.gather(1, order)
    # The bound that the slope points to; torch.where takes five times as long.
    bound = slope.sign().mul_(_BEYOND).clamp_(low.gather(1, order), high.gather(1, order))
    room = bound.sub_(nearest.gather(1, order))
    gains = slope * room
    reached = gains.cumsum(dim=1)
    share = lacking.sub(reached).add_(gains).div_(slope.abs_().clamp_(min=1e-30)).clamp_(min=0)
    # Where the slope is 0 nothing is gained: as near to 0 as the bounds allow.
    step = torch.minimum(share, room.abs()).mul_(room.sign_()).mul_(gains.sign())
    point = nearest.scatter_add_(1, order, step)
    if order.shape[1] < gradient.shape[1]:
        sure = gains.mul_(slope > slope[:, -1:] * (1 + _tie(gradient.shape[1]))).sum(dim=1, keepdim=True)
        rows = (sure < lacking).nonzero()[:, 0]
        if len(rows):
            point[rows] = fill_best_first(gradient[rows], level[rows], low[rows], high[rows], most=gradient.shape[1])
    return point


def _tie(d: int) -> float:
    """Relative difference below which `_steepest_first` takes two of d slopes for equal when it leaves some out."""
    return 2.0 ** (_bits(d) - 22)


def _bits(d: int) -> int:
    return (d - 1).bit_length()


def _steepest_first(slope: Tensor, most: int) -> Tensor:
    """Indices of the largest of each row of non-negative numbers, in descending order, shape (n, min(d, most)).

    What is left out is at most by `_tie` larger than the last one kept. On the CPU numpy's vectorised selection takes
    half to a tenth of the time of torch's `topk`: of int32, a float32's first bits with the index in the last ones.
    What it has selected is sorted as float64, where the bits that a float32 leaves free hold the index.
    """
    n, d = slope.shape
    most = min(most, d)
    if slope.device.type != "cpu" or slope.dtype != torch.float32:
        return slope.topk(most, dim=1).indices
    index = torch.arange(d, dtype=torch.int32, device=slope.device)
    if most == d:
        kept = index.expand(n, d)
    else:
        mask = 2 ** _bits(d) - 1
        keys = slope.view(torch.int32).bitwise_and(~mask).bitwise_or_(index)
        keys.numpy().partition(d - most, axis=1)
        kept = keys[:, d - most :].bitwise_and_(mask)
        slope = slope.gather(1, kept.long())
    order = slope.double().neg_()
    bits = order.view(torch.int64).bitwise_or_(kept)
    order.numpy().sort(axis=1)
    return bits.bitwise_and_(2**29 - 1)


@np.errstate(over="ignore", invalid="ignore")  # of what is not chosen
def fill_evenly(
    gradient: Tensor, direction: Tensor, level: Tensor, low: Tensor, high: Tensor, *, at: Tensor, iterations: int
) -> Tensor:
    """For linf and l2: every coordinate goes along its direction by a common factor, between its bounds.

    The gain rises piecewise linearly with the factor; Newton's method, kept inside a bracket that every evaluation
    narrows, finds the factor, exactly once it is on the right piece. Each step is O(d).
    """
    level = level.to(gradient.dtype)
    rate = gradient * direction
    reached, point = torch.empty_like(rate), torch.empty_like(rate)
    wanted, factor = as_array(level), as_array(at)
    least, most = wanted * 0 - np.inf, wanted * 0 + np.inf
    for left in reversed(range(iterations)):
        torch.mul(direction, as_tensor(factor)[:, None], out=reached)
        torch.clamp(reached, low, high, out=point)
        if not left:
            break
        lacking = wanted - dots(gradient, point)
        growth = dots(reached.eq_(point), rate)  # 1.0 or 0.0: coordinates that no bound holds
        short = lacking > 0
        least, most = where(short, factor, least), where(short, most, factor)
        # No level is too low for a factor of 0, or too high for the largest, to be the answer.
        after = (factor + lacking / (growth + _TINY)).clip(0, _BEYOND)
        settled = (abs(after - factor) <= _CLOSE * after) | (abs(lacking) <= _CLOSE * abs(wanted))
        if settled.all():
            break
        between = where(least > 0, least**0.5 * most**0.5, most / 2)  # the bracket can be very wide
        good = (after > least) & (after < most)
        factor = where(settled, factor, where(good, after, between))
    return point
