"""Threat models: norms (one a file in `norms`), goals, distances, and the image box [0, 1].

All images are float32 tensors of shape (n, c, h, w) with values in [0, 1]. A distance is taken in float64 on the
float32 images, in the norm it is named after. A norm is given by its name; an unknown one is an error everywhere.
Importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import benchmark.threat.norms  # noqa: F401 - the package first, so that below its name becomes the function's for good
from benchmark.threat.geometry import Geometry
from benchmark.threat.goals import Threat
from benchmark.threat.names import Norm, dual, get_norm, norm_names, norms, symbol

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Geometry",
    "Norm",
    "Threat",
    "cheapest_point",
    "distances",
    "dual",
    "get_norm",
    "in_box",
    "norm_names",
    "norms",
    "norms_of",
    "project_ball_",
    "symbol",
]


def norms_of(delta: Tensor, norm: Norm) -> Tensor:
    """The norm of each row of ``delta``.

    Args:
        delta: Perturbations, shape (n, ...).
        norm: Which norm.

    Returns:
        Shape (n,), in ``delta``'s dtype.

    Raises:
        UnknownNameError: If there is no such norm.
    """
    return get_norm(norm).size(delta)


def distances(x: Tensor, x_adv: Tensor, norm: Norm) -> Tensor:
    """Distance of each adversarial example from its image, measured in float64.

    Args:
        x: Clean images, shape (n, c, h, w).
        x_adv: Perturbed images, the same shape.
        norm: Which norm.

    Returns:
        Shape (n,), float64.
    """
    return get_norm(norm).distance(x, x_adv)


def in_box(x: Tensor) -> Tensor:
    """Whether each image is finite and inside [0, 1], with no tolerance. Shape (n,), bool."""
    flat = x.flatten(1)
    return ((flat >= 0) & (flat <= 1)).all(dim=1)  # NaN is neither


def project_ball_(delta: Tensor, norm: Norm, eps: Tensor) -> Tensor:
    """Project each row onto the ball of its radius, in place (Euclidean projection).

    Args:
        delta: Perturbations, shape (n, ...), contiguous; overwritten.
        norm: Whose ball.
        eps: Radii, shape (n,), >= 0.

    Returns:
        ``delta``.
    """
    return get_norm(norm).project_(delta, eps)


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

    Raises:
        InputError: If the norm has no such step.
    """
    return get_norm(norm).cheapest_point(gradient, level, low, high, iterations=iterations, guess=guess)
