"""Robustness curves of any torch module, with no workspace and no database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from benchmark.attacks import EFFORTS, Attack, Effort, get_attack, run_attack
from benchmark.curve import RobustnessCurve
from benchmark.errors import InputError
from benchmark.inputs import prepared
from benchmark.resuming import CHUNK, POOL, Progress, in_parts, key_of, part_seed
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
    chunk: int | None = None,
    progress: Progress = False,
    resume: str | Path | None = None,
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
        chunk: Samples at a time; by default all at once, or 100 where there is progress or resuming. Another chunk is
            another computation, with distances that may differ a little, as from another seed.
        progress: Whether to draw a bar; or a function that is told (samples done, of how many) after each chunk.
        resume: A file that keeps the curve (`RobustnessCurve.load` reads it): what a killed call had done is not done
            again, and a finished curve is read. Only of the same model, images and settings.

    Returns:
        The curve; every finite distance above 0 is proven by `RobustnessCurve.adversarials`.

    Raises:
        InputError: If images or labels are not of this form, the attack is none in this norm, the model's logits are
            not finite, or ``resume`` is a file of something else.
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
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk is {chunk}; it is a number of samples, at least 1.")
    with prepared(model, x, y, pool=pool) as given:
        n = len(given.x)
        size = chunk or (min(CHUNK, n) if progress or resume is not None else n)

        def part(start: int, stop: int) -> RobustnessCurve:
            from_all = given.pool if given.pool is not None or size >= n else given.x[:POOL]
            own = given.x[start:stop], given.y[start:stop]
            return _curve(
                chosen, given.model, *own, norm=norm, effort=effort, seed=part_seed(seed, start), pool=from_all
            )

        return in_parts(
            part,
            n=n,
            chunk=size,
            progress=progress,
            path=None if resume is None else Path(resume),
            key=lambda: key_of(
                given, norm=norm, seed=seed, effort=effort, attack=[attack, chosen.version_in(norm)], chunk=min(size, n)
            ),
        )


def _curve(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    effort: Effort,
    seed: int,
    pool: Tensor | None,
) -> RobustnessCurve:
    """The curve of some samples, all at once."""
    result = run_attack(attack, model, x, y, norm=norm, effort=effort, seed=seed, pool=pool)
    verdict = verify(model, x, y, result.adversarials)
    held = verdict.holds.to(x.device).view(-1, *[1] * (x.ndim - 1))
    adversarials = torch.where(held, result.adversarials, x).cpu().numpy()
    return RobustnessCurve(
        distances=verdict.distances[norm].numpy(),
        norm=norm,
        adversarials=adversarials,
        flags=result.flags,
        origin=tuple(result.origin),
    )
