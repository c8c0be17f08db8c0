"""Threat models: the norms, distances in them, and the image box [0, 1].

All images are float32 tensors of shape (n, c, h, w) with values in [0, 1]. A distance is taken in float64 on the
float32 images, in the norm it is named after.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import torch
from torch import Tensor

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
        return flat.square().sum(dim=1).sqrt()
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
    threshold = _soft_threshold(size, radius)
    size.sub_(threshold).clamp_(min=0)
    total = size.sum(dim=1, keepdim=True)
    size.mul_((radius / total.clamp_(min=1e-30)).clamp_(max=1))
    return delta.copysign_(delta).sign_().mul_(size)


def _soft_threshold(size: Tensor, radius: Tensor, *, iterations: int = 30) -> Tensor:
    """The t >= 0 with ``sum(max(size - t, 0)) == radius``, 0 inside the ball; shapes (n, d), (n, 1) -> (n, 1).

    The left side is convex, piecewise linear and falling, so Newton's method from the left never overshoots and is
    exact after finitely many steps, each O(d) (Michelot 1986); a handful suffice, no sorting is needed.
    """
    threshold = torch.zeros_like(radius)
    excess = size.sum(dim=1, keepdim=True).sub_(radius)
    count = torch.full_like(radius, size.shape[1])
    for _ in range(iterations):
        step = excess.clamp_(min=0).div_(count)
        if not bool((step > 1e-6 * threshold).any()):
            break
        threshold.add_(step)
        above = size - threshold
        excess = above.clamp_(min=0).sum(dim=1, keepdim=True).sub_(radius)
        count = above.count_nonzero(dim=1).to(size.dtype)[:, None].clamp_(min=1)
    return threshold


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
    wanted = level.to(gradient.dtype)[:, None]
    if norm == "l1":
        return _fill_best_first(gradient, wanted, low, high)
    direction = gradient if norm == "l2" else gradient.sign()
    if guess is None:
        guess = norms_of(torch.zeros_like(gradient).clamp_(low, high), norm)
    at = guess.to(gradient.dtype) / norms_of(direction, norm).clamp(min=1e-12)
    return _fill_evenly(gradient, direction, wanted, low, high, at=at[:, None], iterations=iterations)


_BEYOND: Final = 1e30
"""Farther than any bound."""


def _fill_best_first(gradient: Tensor, wanted: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """For l1: from the point nearest to 0, whole coordinates in the order of their slope, the last one partly."""
    nearest = torch.zeros_like(gradient).clamp_(low, high)
    lacking = wanted - (gradient * nearest).sum(dim=1, keepdim=True)
    order = _steepest_first(gradient.abs())
    slope = gradient.gather(1, order)
    # The bound that the slope points to; torch.where takes five times as long.
    room = gradient.sign().mul_(_BEYOND).clamp_(low, high).sub_(nearest).gather(1, order)
    gains = slope * room
    share = lacking.sub(gains.cumsum(dim=1)).add_(gains).div_(slope.abs_().clamp_(min=1e-30)).clamp_(min=0)
    # Where the slope is 0 nothing is gained: as near to 0 as the bounds allow.
    step = torch.minimum(share, room.abs()).mul_(room.sign_()).mul_(gains.sign_())
    return nearest.scatter_add_(1, order, step)


def _steepest_first(slope: Tensor) -> Tensor:
    """Indices that sort each row of non-negative numbers in descending order, shape (n, d).

    On the CPU numpy's vectorised sort of float64 takes an eighth of the time of torch's `argsort`: the bits that a
    float32 leaves free there hold the index.
    """
    if slope.device.type != "cpu" or slope.dtype != torch.float32:
        return slope.argsort(dim=1, descending=True)
    keys = slope.double().neg_()
    bits = keys.view(torch.int64).bitwise_or_(torch.arange(slope.shape[1]))
    keys.numpy().sort(axis=1)
    return bits.bitwise_and_(2**29 - 1)


def _fill_evenly(
    gradient: Tensor, direction: Tensor, wanted: Tensor, low: Tensor, high: Tensor, *, at: Tensor, iterations: int
) -> Tensor:
    """For linf and l2: every coordinate goes along its direction by a common factor, between its bounds.

    The gain rises piecewise linearly with the factor; Newton's method, kept inside a bracket that every evaluation
    narrows, finds the factor, exactly once it is on the right piece. Each step is O(d).
    """
    rate = gradient * direction
    least, most = torch.zeros_like(wanted), torch.full_like(wanted, _BEYOND)
    reached, point = torch.empty_like(rate), torch.empty_like(rate)
    exact = 1e-7 * wanted.abs()
    for left in reversed(range(iterations)):
        torch.mul(direction, at, out=reached)
        torch.clamp(reached, low, high, out=point)
        if not left:
            break
        lacking = wanted - torch.linalg.vecdot(gradient, point)[:, None]
        free = reached.eq_(point)  # 1.0 or 0.0: coordinates that no bound holds
        growth = torch.linalg.vecdot(free, rate)[:, None]
        short = lacking > 0
        least, most = torch.where(short, at, least), torch.where(short, most, at)
        newton = at + lacking / growth.clamp_(min=1 / _BEYOND)
        between = torch.where(least > 0, least.sqrt() * most.sqrt(), most / 2)  # the bracket can be very wide
        after = torch.where((newton > least) & (newton < most), newton, between)
        after = torch.where(lacking.abs() <= exact, at, after)
        if not bool(((after - at).abs() > 1e-7 * after).any()):
            break
        at = after
    return point
