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
