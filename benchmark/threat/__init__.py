"""Threat models: the norms, distances in them, and the image box [0, 1].

All images are float32 tensors of shape (n, c, h, w) with values in [0, 1]. A distance is taken in float64 on the
float32 images, in the norm it is named after.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from benchmark.threat.rowwise import dots, light, tensor, where

Norm = Literal["linf", "l2", "l1"]
"""The norms of a threat model."""

NORMS: Final[tuple[Norm, ...]] = get_args(Norm)

DUAL: Final[dict[Norm, Norm]] = {"linf": "l1", "l2": "l2", "l1": "linf"}
"""The dual norm: 1/p + 1/q = 1."""


def norms_of(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each row of ``delta``.

    Args:
        delta: Perturbations, shape (n, ...).
        norm: Which norm.

    Returns:
        Shape (n,), in ``delta``'s dtype.
    """
    flat = delta.flatten(1)
    if norm == "linf":
        return flat.abs().amax(dim=1)
    if norm == "l2":
        lengths: Tensor = torch.linalg.vector_norm(flat, dim=1)
        return lengths
    return flat.abs().sum(dim=1)


def distances(x: Tensor, x_adv: Tensor, norm: Norm) -> Tensor:
    """Distance of each adversarial example from its image, measured in float64.

    Args:
        x: Clean images, shape (n, c, h, w).
        x_adv: Perturbed images, the same shape.
        norm: Which norm.

    Returns:
        Shape (n,), float64.
    """
    return norms_of(x_adv.double() - x.double(), norm)


def in_box(x: Tensor) -> Tensor:
    """Whether each image is finite and inside [0, 1], with no tolerance. Shape (n,), bool."""
    flat = x.flatten(1)
    return (torch.isfinite(flat) & (flat >= 0) & (flat <= 1)).all(dim=1)


def project_ball_(delta: Tensor, norm: Norm, eps: Tensor) -> Tensor:
    """Project each row onto the ball of its radius, in place (Euclidean projection).

    Args:
        delta: Perturbations, shape (n, d), contiguous; overwritten.
        norm: Whose ball.
        eps: Radii, shape (n,), >= 0.

    Returns:
        ``delta``.
    """
    radius = eps.to(delta.dtype)[:, None]
    if norm == "linf":
        return torch.minimum(torch.maximum(delta, -radius, out=delta), radius, out=delta)
    if norm == "l2":
        length = torch.linalg.vector_norm(delta, dim=1, keepdim=True)
        return delta.mul_((radius / length.clamp_(min=1e-30)).clamp_(max=1))
    size = delta.abs()
    size.sub_(_soft_threshold(size, radius[:, 0])[:, None]).clamp_(min=0)
    total = size.sum(dim=1, keepdim=True)
    size.mul_((radius / total.clamp_(min=1e-30)).clamp_(max=1))
    return delta.sign_().mul_(size)


def _soft_threshold(size: Tensor, radius: Tensor, *, iterations: int = 30) -> Tensor:
    """The t >= 0 with ``sum(max(size - t, 0)) == radius``, 0 inside the ball; shapes (n, d), (n,) -> (n,).

    The left side is convex, piecewise linear and falling, so Newton's method from the left never overshoots and is
    exact after finitely many steps, each O(d) (Michelot 1986); a handful suffice, no sorting is needed.
    """
    wanted = light(radius)
    threshold = 0 * wanted
    above = size.clone()
    for _ in range(iterations):
        excess = light(above.sum(dim=1)) - wanted
        count = light(above.sign_().sum(dim=1))
        step = excess * (excess > 0) / (count + (count == 0))
        if not (step > 1e-6 * threshold).any():
            break
        threshold = threshold + step
        torch.sub(size, tensor(threshold)[:, None], out=above).clamp_(min=0)
    return tensor(threshold)


def cheapest_point(
    gradient: Tensor,
    level: Tensor,
    low: Tensor,
    high: Tensor,
    norm: Norm,
    *,
    iterations: int = 50,
    guess: Tensor | None = None,
) -> Tensor:
    """The smallest perturbation, between bounds, on which a linear function reaches a level; in closed form.

    Solves ``min ‖d‖ subject to <gradient, d> >= level and low <= d <= high`` for each row. With the bounds of the box
    this is the projection onto a hyperplane intersected with the box (Croce & Hein 2020, arXiv:1907.02044, section
    3.1). Where the bounds do not allow the level, the row is their corner of the largest value.

    Args:
        gradient: Shape (n, d).
        level: Wanted value, shape (n,).
        low: Lower bounds, shape (n, d).
        high: Upper bounds, shape (n, d), >= ``low``.
        norm: Which norm is to be small.
        iterations: Most points that Newton's method looks at (linf and l2); all are needed for the last digits of a few
            rows only.
        guess: About the norm of the result, shape (n,), where Newton's method starts (linf and l2); the norm of the
            point nearest to 0 if left out.

    Returns:
        Perturbations, shape (n, d).
    """
    level = level.to(gradient.dtype)
    if norm == "l1":
        return _fill_best_first(gradient, level, low, high)
    at = norms_of(torch.zeros_like(gradient).clamp_(low, high), norm) if guess is None else guess.to(gradient.dtype)
    if norm == "linf":
        return _fill_evenly(gradient, gradient.sign(), level, low, high, at=at, iterations=iterations)
    at = at / norms_of(gradient, norm).clamp_(min=1e-12)
    return _fill_evenly(gradient, gradient, level, low, high, at=at, iterations=iterations)


_BEYOND: Final = 1e30
"""Farther than any bound."""

_CLOSE: Final = 5e-7
"""Relative change that is rounding: a few units in the last place of float32."""

_TINY: Final = 1e-37
"""Added to a growth that can be 0."""

_STEEPEST: Final = 64
"""Coordinates of a row that are put in order at first; in a descent one row in fifty needs more."""


def _fill_best_first(gradient: Tensor, level: Tensor, low: Tensor, high: Tensor, *, most: int = _STEEPEST) -> Tensor:
    """For l1: from the point nearest to 0, whole coordinates in the order of their slope, the last one partly.

    Mostly a few coordinates are enough; only rows that the ``most`` steepest leave short look at all of them.
    """
    nearest = torch.zeros_like(gradient).clamp_(low, high)
    lacking = tensor(light(level) - dots(gradient, nearest))[:, None]
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
            point[rows] = _fill_best_first(gradient[rows], level[rows], low[rows], high[rows], most=gradient.shape[1])
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
    index = torch.arange(d, dtype=torch.int32)
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
def _fill_evenly(
    gradient: Tensor, direction: Tensor, level: Tensor, low: Tensor, high: Tensor, *, at: Tensor, iterations: int
) -> Tensor:
    """For linf and l2: every coordinate goes along its direction by a common factor, between its bounds.

    The gain rises piecewise linearly with the factor; Newton's method, kept inside a bracket that every evaluation
    narrows, finds the factor, exactly once it is on the right piece. Each step is O(d).
    """
    rate = gradient * direction
    reached, point = torch.empty_like(rate), torch.empty_like(rate)
    wanted, factor = light(level), light(at)
    least, most = wanted * 0 - np.inf, wanted * 0 + np.inf
    for left in reversed(range(iterations)):
        torch.mul(direction, tensor(factor)[:, None], out=reached)
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
