"""Gradient norms of logit differences, from one Jacobian a point.

For T targets a point costs one forward and T backward passes: each row of the Jacobian of (f_c − f_j), j = 1 … T, is
one backward pass over a batch of points. Every norm is taken of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.errors import InputError, UnsupportedModelError
from benchmark.threat import Norm, dual, norms_of

CPU_ELEMENTS: Final = 3 * 2**20
"""Numbers that a pass keeps for its backward passes on the CPU: with more they leave the caches."""

CUDA_ELEMENTS: Final = 2**28
"""The same on an accelerator (1 GiB)."""

TINY: Final = 1e-12
"""Norms above this, and below its reciprocal, are right when they are taken in float32."""

MOST_POINTS: Final = 4096
"""Points a pass at most."""


def points_a_pass(model: nn.Module, image: Tensor) -> int:
    """How many points to pass at once, by what one image makes autograd keep.

    Args:
        model: Classifier in eval mode.
        image: Shape (1, c, h, w).
    """
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape[:1] == (1,):  # not the weights
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(image.detach().requires_grad_())
    room = CPU_ELEMENTS if image.device.type == "cpu" else CUDA_ELEMENTS
    return max(1, min(MOST_POINTS, room // (image.numel() + sum(kept.values()))))


def cotangents(label: int, targets: Sequence[int], classes: int, like: Tensor) -> Tensor:
    """Rows that select f_c − f_j from the logits; shape (T, classes), type and device of ``like``."""
    rows = torch.zeros(len(targets), classes, dtype=like.dtype, device=like.device)
    rows[:, label] = 1
    rows[range(len(targets)), list(targets)] -= 1
    return rows


def difference_gradients(model: nn.Module, points: Tensor, rows: Tensor) -> Iterator[Tensor]:
    """The gradient of each logit difference at each point.

    Args:
        model: Classifier in eval mode.
        points: Shape (m, c, h, w).
        rows: Cotangents, shape (T, classes).

    Yields:
        T times the gradients, shape (m, c, h, w).

    Raises:
        UnsupportedModelError: If the logits do not depend differentiably on the images.
        InputError: If a gradient is not finite.
    """
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(points)
    if not logits.requires_grad:
        raise UnsupportedModelError(
            "CLEVER needs gradients, but the model's logits carry none: something in it detaches from the images "
            "(argmax, rounding, numpy, no_grad). Wrap that part in models_zoo.preprocessing.bpda, or leave CLEVER out."
        )
    for i, row in enumerate(rows):
        with torch.enable_grad():
            combined = (logits * row).sum()  # as grad's own argument, the row has torch load sympy: a third of a second
        (gradient,) = torch.autograd.grad(combined, points, retain_graph=i + 1 < len(rows), allow_unused=True)
        if gradient is None:
            raise UnsupportedModelError(
                "CLEVER needs gradients, but the model's logits do not depend on the images through any "
                "differentiable path. Wrap the part that cuts it in models_zoo.preprocessing.bpda, or leave CLEVER out."
            )
        yield gradient


def dual_norms(model: nn.Module, points: Tensor, rows: Tensor, norms: Sequence[Norm]) -> Tensor:
    """‖∇f_c − ∇f_j‖_q at each point for the dual q of each norm.

    Args:
        model: Classifier in eval mode.
        points: Shape (m, c, h, w).
        rows: Cotangents, shape (T, classes).
        norms: The threat models' norms, Q of them.

    Returns:
        Shape (T, Q, m), float64.

    Raises:
        UnsupportedModelError: As `difference_gradients`.
        InputError: If a gradient is not finite.
    """
    found = torch.stack(
        [
            torch.stack([_length(gradient, dual(norm)) for norm in norms])
            for gradient in difference_gradients(model, points, rows)
        ]
    )
    if not torch.isfinite(found).all():
        raise InputError(
            "The model's gradients are not finite near an image: arithmetic failed, which is no robustness. "
            "Look for square roots or divisions at zero, or overflow in half precision."
        )
    return found


def _length(gradient: Tensor, norm: Norm) -> Tensor:
    """The norm of each gradient in float64; sums of float32 lose what is below 1e-19 or above 1e19 when squared."""
    fast = norms_of(gradient, norm)
    if bool(((fast > TINY) & (fast < 1 / TINY)).all()):
        return fast.double()
    return norms_of(gradient.double(), norm)
