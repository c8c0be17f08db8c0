"""Robustness curves of any torch module, with no workspace and no database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from benchmark.attacks import EFFORTS, Effort, get_attack, run_attack
from benchmark.curve import RobustnessCurve
from benchmark.errors import InputError
from benchmark.inputs import prepared
from benchmark.threat import Norm
from benchmark.verification import verify


def robustness_curve(
    model: nn.Module | Callable[[Tensor], Any],
    x: Tensor | ArrayLike,
    y: Tensor | ArrayLike,
    *,
    norm: Norm,
    seed: int = 0,
    effort: Effort = "standard",
    attack: str = "engine",
    pool: Tensor | ArrayLike | None = None,
) -> RobustnessCurve:
    """The robustness curve of a classifier: each sample's smallest adversarial distance, with its example.

    Args:
        model: Any classifier of images in [0, 1], shape (n, c, h, w) -> logits (n, k): a module, a TorchScript module
            or a plain function. Its mode and its parameters are left as they were.
        x: Images, shape (n, c, h, w), floats in [0, 1]: a tensor, an array or nested lists. They are read as float32,
            on the model's device, and never changed.
        y: Class indices, shape (n,), integers from 0.
        norm: The name of a norm that the attack has: ``"linf"``, ``"l2"``, ``"l1"``, ``"l0"`` (values) or
            ``"l0_pixels"`` for the engine.
        seed: The same seed gives the same distances on the same machine; the global random state is not touched.
        effort: ``"quick"``, ``"standard"`` or ``"thorough"``.
        attack: A registered attack's name.
        pool: More images of the dataset to start searches from, shape (m, c, h, w); ``x`` itself by default.

    Returns:
        The curve; every finite distance above 0 is proven by `RobustnessCurve.adversarials`.

    Raises:
        InputError: If images or labels are not of this form, the attack is none in this norm, or the model's logits are
            not finite.
        UnsupportedModelError: If the model returns no logits of at least two classes, or its answer for an image
            depends on the other images of the batch.
        UnknownNameError: If there is no such norm or attack.

    Example:
        >>> curve = robustness_curve(model, x, y, norm="linf")  # doctest: +SKIP
        >>> curve.robust_accuracy(8 / 255)  # doctest: +SKIP
    """
    if effort not in EFFORTS:
        raise InputError(f"The effort {effort!r} is unknown; choose one of {', '.join(EFFORTS)}.")
    chosen = get_attack(attack)
    chosen.check(norm)
    with prepared(model, x, y, pool=pool) as given:
        result = run_attack(chosen, given.model, given.x, given.y, norm=norm, effort=effort, seed=seed, pool=given.pool)
        verdict = verify(given.model, given.x, given.y, result.adversarials)
        held = verdict.holds.to(given.x.device).view(-1, *[1] * (given.x.ndim - 1))
        adversarials = torch.where(held, result.adversarials, given.x).cpu().numpy()
    return RobustnessCurve(
        distances=verdict.distances[norm].numpy(),
        norm=norm,
        adversarials=adversarials,
        flags=result.flags,
        origin=tuple(result.origin),
    )
