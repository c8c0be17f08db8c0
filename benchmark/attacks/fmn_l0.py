"""FMN in l0: gradient steps, projected onto the largest few changes, a few that follow success and failure."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import Oracle, find_batch_size, frozen
from benchmark.attacks.engine.shrinking import cosine
from benchmark.attacks.sigma_zero import keep_fewer, take_back
from benchmark.threat import Norm
from benchmark.verification import needed_lead

_STEPS: Final[dict[Effort, int]] = {"quick": 100, "standard": 300, "thorough": 1000}
_STEP: Final = (1.0, 0.01)
"""Length of a step in l2, at the start and the end."""

_PACE: Final = (0.3, 0.01)
"""How fast the number of changes shrinks and grows, at the start and the end."""


def fmn_l0(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """Pintor et al. 2021, algorithm 1 for p = 0: the budget is a number of changes, at least one less than the best.

    In ``l0_pixels`` a change is a pixel, and those of the greatest length over the channels are kept. Needless changes
    are taken back in the end. It draws no random numbers, so ``seed`` has no effect.
    """
    with frozen(model) as classifier:
        oracle = Oracle(classifier, batch_size=find_batch_size(classifier, x), noise=needed_lead(classifier, x, y))
        steps, delta = _STEPS[effort], torch.zeros_like(x)
        best, fewest = x.clone(), torch.full((len(x),), torch.inf, device=x.device)
        places = x[0].numel() if norm == "l0" else x[0, 0].numel()
        budget = torch.full((len(x),), float(places), device=x.device)
        for k in range(steps):
            margin, gradient = oracle.gradients(x + delta, y)
            keep_fewer(x, delta, margin, norm=norm, best=best, fewest=fewest)
            pace = cosine(_PACE, k, steps)
            fewer = torch.minimum(torch.minimum(budget - 1, (budget * (1 - pace)).floor()), fewest - 1)
            more = torch.minimum(torch.maximum(budget + 1, (budget * (1 + pace)).floor()), fewest - 1)
            budget = torch.where(margin > 0, fewer, more).clamp(1, places)
            step = normalize(gradient, eps=1e-30).view_as(x) * cosine(_STEP, k, steps)
            delta = (x + delta + step).clamp_(0, 1) - x
            delta = _largest(delta, budget, norm)
        keep_fewer(x, delta, oracle.margins(x + delta, y), norm=norm, best=best, fewest=fewest)
        take_back(oracle, x, y, norm=norm, best=best, fewest=fewest)
    return AttackResult(best)


def _largest(delta: Tensor, count: Tensor, norm: Norm) -> Tensor:
    """Keep each row's ``count`` (n,) largest changes, of values or of pixels."""
    size = delta.abs().flatten(1) if norm == "l0" else delta.square().sum(dim=1).flatten(1)
    order = size.argsort(dim=1, descending=True, stable=True)
    place = torch.arange(size.shape[1], device=delta.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, place)
    kept = (rank < count[:, None]).view(len(delta), -1, *delta.shape[2:]).expand_as(delta)
    return torch.where(kept, delta, 0.0)


ATTACK = Attack(
    name="fmn-l0",
    version=1,
    title="FMN in ℓ₀: projected onto the largest changes, needless ones taken back",
    paper="Pintor et al. 2021, arXiv:2102.12827",
    run=fmn_l0,
    norms=("l0", "l0_pixels"),
    default=False,
)
