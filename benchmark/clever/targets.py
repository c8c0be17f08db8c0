"""Which classes a CLEVER score is taken against."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from benchmark.errors import InputError, UnknownNameError

Targets = Literal["untargeted", "top2", "random", "least"] | int
"""A rule, or the index of a class."""

RULES: Final = ("untargeted", "top2", "random", "least")


MOST_TARGETS: Final = 20
"""Classes that an untargeted score is taken over at most, unless it is said otherwise."""


def choose_targets(
    logits: Tensor, labels: Tensor, targets: Targets, *, seed: int = 0, first: int = 0, most: int = MOST_TARGETS
) -> Tensor:
    """The target classes of each image.

    Args:
        logits: Shape (n, k).
        labels: The class c of each image, shape (n,).
        targets: ``"untargeted"`` for all other classes, or the ``most`` likeliest of them; ``"top2"`` for the most
            likely, ``"least"`` for the least likely, ``"random"`` for one that is neither (as in the released code; any
            other where k < 4), or an index.
        seed: Of the random targets.
        first: Index of the first image: the draw depends on the image's own index only.
        most: Classes of ``"untargeted"`` at most: each costs a backward pass a point, and of a thousand classes the
            nearest is among the likeliest.

    Returns:
        Shape (n, T), int64, with T = min(k − 1, most) for ``"untargeted"`` and 1 otherwise.

    Raises:
        UnknownNameError: If the rule is unknown.
        InputError: If the index is no class, or is the label of a correctly classified image.
    """
    n, k = logits.shape
    others = torch.arange(k, device=logits.device).expand(n, k)
    others = others[others != labels[:, None]].view(n, k - 1)
    if most < 1:
        raise InputError(f"An untargeted score is taken over at least 1 class, got most_targets={most}.")
    if targets == "untargeted" and k - 1 <= most:
        return others
    if isinstance(targets, str):
        if targets not in RULES:
            raise UnknownNameError("rule for CLEVER targets", targets, RULES)
        ranked = others.gather(1, logits.gather(1, others).argsort(dim=1, descending=True, stable=True))
        if targets == "random":
            return _random(ranked, seed, first)
        if targets == "untargeted":
            return ranked[:, :most]
        return ranked[:, :1] if targets == "top2" else ranked[:, -1:]
    return _fixed(logits, labels, targets, first)


def _fixed(logits: Tensor, labels: Tensor, target: int, first: int) -> Tensor:
    n, k = logits.shape
    if not 0 <= target < k:
        raise InputError(f"The target class {target} is none of the model's {k} classes; give one from 0 to {k - 1}.")
    clash = (labels == target) & (logits.argmax(dim=1) == labels)
    if clash.any():
        row = first + int(clash.nonzero()[0])
        raise InputError(
            f"The target class {target} is the label of image {row}: there is no distance to the class it is in. "
            f"Leave such images out, or use one of {', '.join(RULES)}."
        )
    return torch.full((n, 1), target, device=logits.device)


def _random(ranked: Tensor, seed: int, first: int) -> Tensor:
    """One of the classes ranked between the first and the last, drawn by the seed and the image's index."""
    n, others = ranked.shape
    low, high = (1, others - 1) if others > 2 else (0, others)
    picks = [int(np.random.default_rng((seed, first + i, 1)).integers(low, high)) for i in range(n)]
    return ranked.gather(1, torch.tensor(picks, device=ranked.device)[:, None])
