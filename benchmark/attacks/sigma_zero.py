"""σ-zero: the fewest values, or pixels, that change the class, by a smooth stand-in for the number of changes."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import Oracle, find_batch_size, frozen
from benchmark.threat import Norm, norms_of
from benchmark.verification import needed_lead

_STEPS: Final[dict[Effort, int]] = {"quick": 100, "standard": 300, "thorough": 1000}
_SMOOTH: Final = 1e-3
"""σ: a change is counted as δ² / (δ² + σ)."""
_THRESHOLD: Final = 0.3
"""First share of the largest change below which changes are set to 0; it follows success and failure."""
_PACE: Final = 0.01


def sigma_zero(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """σ-zero, then changes that are not needed are taken back, the smallest first.

    Cinà et al. 2024, algorithm 1: normalised gradients of the margin's hinge plus the smooth count, Adam, a cosine step
    and a threshold that rises on success. In ``l0_pixels`` the count and the threshold are of a pixel's length over its
    channels, so that pixels, not values, become few. It draws no random numbers, so ``seed`` has no effect.
    """
    with frozen(model) as classifier:
        noise = needed_lead(classifier, x, y)
        oracle = Oracle(classifier, batch_size=find_batch_size(classifier, x), noise=noise)
        steps = _STEPS[effort]
        best, fewest = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
        delta = torch.zeros_like(x)
        mean, square = torch.zeros_like(x), torch.zeros_like(x)
        threshold = torch.full((len(x), 1, 1, 1), _THRESHOLD, device=x.device)
        for k in range(steps):
            margin, gradient = oracle.gradients(x + delta, y)
            keep_fewer(x, delta, margin, norm=norm, best=best, fewest=fewest)
            adversarial = (margin > 0).view(-1, 1, 1, 1)
            rate = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * k / steps, device=x.device)))
            slope = torch.where(adversarial, 0.0, -gradient.view_as(x)) + _count_slope(delta, norm)
            slope = slope / slope.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-30)
            mean.lerp_(slope, 0.1)
            square.lerp_(slope.square(), 0.001)
            step = (mean / (1 - 0.9 ** (k + 1))) / ((square / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
            delta = (x + delta - rate * step).clamp_(0, 1) - x
            threshold = (threshold + torch.where(adversarial, 1.0, -1.0) * _PACE * rate).clamp(0, 1)
            delta = torch.where(_size(delta, norm) < threshold, 0.0, delta)
        keep_fewer(x, delta, oracle.margins(x + delta, y), norm=norm, best=best, fewest=fewest)
        take_back(oracle, x, y, norm=norm, best=best, fewest=fewest)
    return AttackResult(best)


def _size(delta: Tensor, norm: Norm) -> Tensor:
    """What is compared with the threshold, shape (n, 1 or c, h, w)."""
    return delta.abs() if norm == "l0" else delta.abs().amax(dim=1, keepdim=True)


def _count_slope(delta: Tensor, norm: Norm) -> Tensor:
    """Gradient of the smooth count, divided by the number of values."""
    length = delta.square() if norm == "l0" else delta.square().sum(dim=1, keepdim=True)
    return 2 * delta * _SMOOTH / (length + _SMOOTH).square() / delta[0].numel()


def keep_fewer(x: Tensor, delta: Tensor, margin: Tensor, *, norm: Norm, best: Tensor, fewest: Tensor) -> None:
    """Keep the perturbations that are adversarial and change less than ``best``, of which ``fewest`` is the number."""
    count = norms_of(delta, norm)
    fewer = (margin > 0) & (count < fewest)
    best[fewer], fewest[fewer] = (x + delta)[fewer], count[fewer]


def take_back(oracle: Oracle, x: Tensor, y: Tensor, *, norm: Norm, best: Tensor, fewest: Tensor) -> None:
    """Undo one change after the other, the smallest first, where the example holds without it."""
    found = torch.isfinite(fewest)
    if not bool(found.any()):
        return
    size = _size(best - x, norm).flatten(1)
    order = torch.where(size > 0, size, torch.inf).argsort(dim=1)
    for k in range(int(fewest[found].max())):
        undone = torch.zeros_like(size, dtype=torch.bool).scatter_(1, order[:, k : k + 1], value=True)
        undone = undone.view(len(x), -1, *x.shape[2:]).expand_as(x)
        tried = torch.where(undone, x, best)
        keep_fewer(x, tried - x, oracle.margins(tried, y), norm=norm, best=best, fewest=fewest)


ATTACK = Attack(
    name="sigma-zero",
    version=1,
    title="σ-zero: gradient descent on a smooth count of changes, needless changes taken back",
    paper="Cinà et al. 2024, arXiv:2402.01879",
    run=sigma_zero,
    norms=("l0", "l0_pixels"),
)
