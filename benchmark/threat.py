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


def cheapest_step(gradient: Tensor, gain: Tensor, room: Tensor, norm: Norm) -> Tensor:
    """The smallest perturbation inside the box that raises a linear function by a wanted amount, in closed form.

    Solves ``min ‖d‖ subject to <gradient, d> >= gain and d inside the box`` for each row: the projection onto
    a hyperplane intersected with the box (Croce & Hein 2020, arXiv:1907.02044, section 3.1). Where the box does not
    allow the gain, the row is the corner of the box with the largest gain.

    Args:
        gradient: Shape (n, d).
        gain: Wanted increase, shape (n,); a row with gain <= 0 gets no perturbation.
        room: How far each coordinate may move in the direction of its gradient's sign, shape (n, d), >= 0.
        norm: Which norm is to be small.

    Returns:
        Perturbations, shape (n, d).
    """
    slope = gradient.abs()
    wanted = gain.to(gradient.dtype)[:, None].clamp(min=0)
    size = _fill_best_first(slope, wanted, room) if norm == "l1" else _fill_evenly(slope, wanted, room, norm)
    return size.mul_(gradient.sign())


def _fill_best_first(slope: Tensor, wanted: Tensor, room: Tensor) -> Tensor:
    """For l1: whole coordinates in the order of their slope, the last one partly."""
    order = slope.argsort(dim=1, descending=True)
    by_slope, by_room = slope.gather(1, order), room.gather(1, order)
    gains = by_slope * by_room
    before = gains.cumsum(dim=1).sub_(gains)
    share = (wanted - before).div_(by_slope.clamp(min=1e-30)).clamp_(min=0)
    filled = torch.minimum(share, by_room)
    return torch.empty_like(filled).scatter_(1, order, filled)


def _fill_evenly(slope: Tensor, wanted: Tensor, room: Tensor, norm: Norm, *, iterations: int = 60) -> Tensor:
    """For linf and l2: every coordinate grows (at speed 1, or its slope) until it meets the box.

    The gain is a concave, piecewise linear, rising function of the level, so Newton's method from level 0 never
    overshoots and is exact after finitely many steps, each O(d).
    """
    speed = torch.ones_like(slope) if norm == "linf" else slope
    rate = slope * speed
    level = torch.zeros_like(wanted)
    size = torch.zeros_like(slope)
    for _ in range(iterations):
        free = speed * level < room
        growth = (rate * free).sum(dim=1, keepdim=True)
        lacking = wanted - (slope * size).sum(dim=1, keepdim=True)
        step = torch.where(growth > 0, lacking / growth.clamp(min=1e-30), torch.zeros_like(level)).clamp_(min=0)
        if not bool((step > 1e-7 * level).any()):
            break
        level = level + step
        size = torch.minimum(speed * level, room)
    return size
