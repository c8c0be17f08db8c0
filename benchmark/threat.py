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
    gradient: Tensor, level: Tensor, low: Tensor, high: Tensor, norm: Norm, *, iterations: int = 50
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
        iterations: Most Newton steps (linf and l2); all are needed for the last digits of a few rows only.

    Returns:
        Perturbations, shape (n, d).
    """
    sign, slope = gradient.sign(), gradient.abs()
    # Turned so that every coordinate gains by growing; the bounds turn with them.
    flipped = sign < 0
    bottom, top = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    wanted = level.to(gradient.dtype)[:, None]
    if norm == "l1":
        point = _fill_best_first(slope, wanted, bottom, top)
    else:
        speed = slope if norm == "l2" else torch.ones_like(slope)
        point = _fill_evenly(slope, speed, wanted, bottom, top, iterations=iterations)
    # Where the slope is 0 nothing is gained: as near to 0 as the bounds allow.
    return torch.where(flipped, -point, torch.where(slope > 0, point, torch.zeros_like(point).clamp_(low, high)))


def _fill_best_first(slope: Tensor, wanted: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
    """For l1: from the point nearest to 0, whole coordinates in the order of their slope, the last one partly."""
    nearest = torch.zeros_like(slope).clamp_(bottom, top)
    order = slope.argsort(dim=1, descending=True)
    by_slope = slope.gather(1, order)
    room = (top - nearest).gather(1, order)
    gains = by_slope * room
    lacking = wanted - (slope * nearest).sum(dim=1, keepdim=True)
    share = lacking.sub(gains.cumsum(dim=1)).add_(gains).div_(by_slope.clamp_(min=1e-30)).clamp_(min=0)
    return nearest.scatter_add_(1, order, torch.minimum(share, room))


def _fill_evenly(
    slope: Tensor, speed: Tensor, wanted: Tensor, bottom: Tensor, top: Tensor, *, iterations: int
) -> Tensor:
    """For linf and l2: every coordinate grows with a common level, times its speed, between its bounds.

    The gain rises piecewise linearly with the level; Newton's method, kept inside a bracket that every evaluation
    narrows, finds the level, exactly once it is on the right piece. Each step is O(d).
    """
    rate = slope * speed
    low = torch.zeros_like(wanted)
    high = torch.maximum(top, -bottom).div_(speed.clamp(min=1e-12)).mul_(slope > 0).amax(dim=1, keepdim=True)
    at = torch.zeros_like(wanted)
    for _ in range(iterations):
        reached = speed * at
        growth = (rate * ((reached >= bottom) & (reached < top))).sum(dim=1, keepdim=True)
        point = reached.clamp_(bottom, top)
        lacking = wanted - (slope * point).sum(dim=1, keepdim=True)
        low = torch.where(lacking > 0, at, low)
        high = torch.where(lacking > 0, high, at)
        newton = at + lacking / growth.clamp(min=1e-30)
        after = torch.where((newton > low) & (newton < high), newton, (low + high) / 2)
        if not bool(((after - at).abs() > 1e-7 * after).any()):
            break
        at = after
    return point
