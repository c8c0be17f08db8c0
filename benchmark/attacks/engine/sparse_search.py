"""The engine in ℓ₀: from its examples in ℓ₁, by two families more and rounds of exchange and giving up.

What is nearest in ℓ₁ changes few places, and each by part of the box: made as large as the box allows, fewer are
enough. On networks trained against ℓ∞ attacks that is where the rest begins (``docs/attackers.md``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from benchmark.attacks import Effort
from benchmark.attacks.engine.budget import LARGEST_POOL
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.sparse import Fewest, give_back, greedy, smooth
from benchmark.attacks.engine.starts import far_images, nearest_other


@dataclass(frozen=True)
class _Budget:
    """Steps of σ-zero, places a greedy step tries, rounds, and others' changes tried in a round."""

    steps: int
    looked_at: int
    rounds: int
    donors: int


_BUDGETS: Final[dict[Effort, _Budget]] = {
    "quick": _Budget(steps=30, looked_at=6, rounds=1, donors=8),
    "standard": _Budget(steps=100, looked_at=16, rounds=12, donors=16),
    "thorough": _Budget(steps=800, looked_at=48, rounds=16, donors=48),
}

_MOST: Final = 0.5
"""Share of all places that the first greedy search may change."""

_GIVEN_UP: Final = 0.4
"""Share of its changes that a sample gives up in a round, before others are looked for."""


def fewest_changes(
    fewest: Fewest, pool: Tensor, *, effort: Effort, generator: torch.Generator, gradients: bool
) -> None:
    """Look for the fewest changes; what is found is in `Fewest.best`.

    Args:
        fewest: The samples, all classified correctly.
        pool: Images to start from where nothing else has found anything.
        effort: How much to spend.
        generator: Source of all draws.
        gradients: Whether they are a guide; else each place is tried, and changes of the nearest other images are taken
            back.
    """
    budget = _BUDGETS[effort]
    if gradients:
        give_back(fewest, fewest.pushed(), looked_at=budget.looked_at)
        fewest.take_back()
        smooth(fewest, steps=budget.steps)
        fewest.take_back()
    for _ in [None] if gradients else fewest.sweep(generator):
        most = (fewest.count - 1).clamp(max=max(1, _MOST * fewest.places))
        greedy(fewest, fewest.x, most, looked_at=budget.looked_at)
    if not bool(torch.isfinite(fewest.count).all()):
        _from_other_images(fewest, pool, generator)
    fewest.take_back()
    for _ in range(budget.rounds):
        for start in (_given_up(fewest, generator), _donated(fewest, budget.donors, generator)):
            most = torch.where(torch.isfinite(fewest.count), fewest.count - 1, 0.0)
            greedy(fewest, start, most, looked_at=budget.looked_at)
            fewest.take_back()


def _from_other_images(fewest: Fewest, pool: Tensor, generator: torch.Generator) -> None:
    """Whole images of other classes, near and far: their changes are many, and mostly needless."""
    oracle: Oracle = fewest.oracle
    pool = pool[:: max(1, len(pool) // LARGEST_POOL)]
    met = oracle.met_by(oracle.predicted(pool), fewest.y)
    near = nearest_other(fewest.x, pool, met, fewest.norm, count=1)[:, 0]
    others = torch.where((near >= 0).view(-1, 1, 1, 1), pool[near.clamp(min=0)], fewest.x)
    for images in (others, *far_images(fewest.x, generator)):
        fewest.offer(images, oracle.margins(images, fewest.y))


def _given_up(fewest: Fewest, generator: torch.Generator) -> Tensor:
    """The best examples without some of their changes, at least two, drawn at random."""
    changed = fewest.changed(fewest.best)
    draw = torch.rand(changed.shape, generator=generator, device=changed.device).masked_fill(~changed, 2.0)
    share = (_GIVEN_UP * changed.sum(dim=1)).ceil().clamp(min=2)
    order = draw.argsort(dim=1)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(draw.shape[1], device=draw.device).expand_as(order))
    undone = changed & (rank < share[:, None])
    return torch.where(fewest.values(undone), fewest.x, fewest.best)


def _donated(fewest: Fewest, donors: int, generator: torch.Generator) -> Tensor:
    """Of others' changes, cut to one fewer than a sample's own, those that lead farthest; a forward pass each."""
    n = len(fewest.x)
    best, highest = fewest.x.clone(), torch.full_like(fewest.count, -torch.inf)
    changed, size = fewest.changed(fewest.best), fewest.size(fewest.best).flatten(1)
    for _ in range(min(donors, n - 1)):
        shift = torch.randint(1, n, (n,), generator=generator, device=fewest.y.device)
        donor = (torch.arange(n, device=fewest.y.device) + shift) % n
        noise = torch.rand(size.shape, generator=generator, device=size.device)
        order = torch.where(changed[donor], size[donor] + noise, -1.0).argsort(dim=1, descending=True)
        place = torch.arange(size.shape[1], device=size.device).expand_as(order)
        rank = torch.empty_like(order).scatter_(1, order, place)
        taken = changed[donor] & (rank < (fewest.count - 1)[:, None])
        images = torch.where(fewest.values(taken), fewest.best[donor], fewest.x)
        margin = fewest.oracle.margins(images, fewest.y)
        fewest.offer(images, margin)
        better = margin > highest
        best[better], highest[better] = images[better], margin[better]
    return best
