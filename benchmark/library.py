"""Robustness curves of any torch module, with no workspace and no database."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.attacks import Effort, get_attack
from benchmark.curve import RobustnessCurve
from benchmark.errors import InputError
from benchmark.threat import NORMS, Norm, in_box
from benchmark.verification import verify


def robustness_curve(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    seed: int = 0,
    effort: Effort = "standard",
    attack: str = "engine",
    pool: Tensor | None = None,
) -> RobustnessCurve:
    """The robustness curve of a classifier: each sample's smallest adversarial distance, with its example.

    Args:
        model: Any classifier of images in [0, 1], shape (n, c, h, w) -> logits (n, k), on the device of ``x``. Its mode
            and its parameters are left as they were.
        x: Images, shape (n, c, h, w), float32.
        y: Labels, shape (n,), int64.
        norm: ``"linf"``, ``"l2"`` or ``"l1"``.
        seed: The same seed gives the same distances on the same machine; the global random state is not touched.
        effort: ``"quick"``, ``"standard"`` or ``"thorough"``.
        attack: A registered attack's name.
        pool: More images of the dataset to start searches from, shape (m, c, h, w); ``x`` itself by default.

    Returns:
        The curve; every finite distance above 0 is proven by `RobustnessCurve.adversarials`.

    Raises:
        InputError: If images, labels or norm are not of this form, or the model's logits are not finite.
        UnknownNameError: If there is no such attack.

    Example:
        >>> curve = robustness_curve(model, x, y, norm="linf")  # doctest: +SKIP
        >>> curve.robust_accuracy(8 / 255)  # doctest: +SKIP
    """
    _check(x, y, norm, pool)
    x = x.contiguous()  # another layout would be rounded otherwise by the processor's libraries
    result = get_attack(attack).run(model, x, y, norm=norm, effort=effort, seed=seed, pool=pool)
    verdict = verify(model, x, y, result.adversarials)
    held = verdict.holds.to(x.device).view(-1, *[1] * (x.ndim - 1))
    return RobustnessCurve(
        distances=verdict.distances[norm].numpy(),
        norm=norm,
        adversarials=torch.where(held, result.adversarials, x).cpu().numpy(),
        flags=result.flags,
        origin=tuple(result.origin),
    )


def _check(x: Tensor, y: Tensor, norm: str, pool: Tensor | None) -> None:
    if norm not in NORMS:
        raise InputError(f"The norm {norm!r} is unknown; choose one of {', '.join(NORMS)}.")
    if x.ndim != 4 or len(x) == 0 or x.dtype != torch.float32:
        raise InputError(
            f"Images have shape {tuple(x.shape)} and type {x.dtype}; they must be at least one, float32, (n, c, h, w)."
        )
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise InputError(f"Labels have shape {tuple(y.shape)} and type {y.dtype}; needed: ({len(x)},), int64.")
    if pool is not None and pool.shape[1:] != x.shape[1:]:
        raise InputError(f"The pool's images have shape {tuple(pool.shape[1:])}, the images {tuple(x.shape[1:])}.")
    outside = ~in_box(x)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise InputError(
            f"{int(outside.sum())} images have values outside [0, 1], first image {row} "
            f"({float(x[row].min()):.3g} to {float(x[row].max()):.3g}). Scale images to [0, 1]."
        )
