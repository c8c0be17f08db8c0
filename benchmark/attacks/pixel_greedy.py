"""A pixel at a time: the one whose best value gains most, until the class changes."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import frozen
from benchmark.attacks.engine.reliability import oracle_of
from benchmark.attacks.engine.sparse import NORMS, Fewest, greedy
from benchmark.threat import Norm

_LOOKED_AT: Final[dict[Effort, int]] = {"quick": 4, "standard": 16, "thorough": 64}
"""Places whose values are tried at each step, the most promising by the gradient first."""

_MOST: Final = 0.5
"""Share of all places that may be changed; what needs more is given up."""


def pixel_greedy(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """The greedy choice from the clean image, then changes that prove needless in the end are taken back.

    It draws no random numbers, so ``seed`` has no effect.
    """
    with frozen(model) as classifier:
        oracle = oracle_of(classifier, x, y)
        fewest = Fewest(oracle, x, y, norm)
        most = torch.full_like(fewest.count, max(1, int(_MOST * fewest.places)))
        greedy(fewest, x, most, looked_at=_LOOKED_AT[effort])
        fewest.take_back()
    return AttackResult(fewest.best, fallback=fewest.first)


ATTACK = Attack(
    name="pixel-greedy",
    version=3,
    title="Pixel-greedy: one place after the other, the one that gains most",
    paper="after Papernot et al. 2016, arXiv:1511.07528",
    run=pixel_greedy,
    norms=NORMS,
    default=False,
    uncounted="it changes one place after the other until the class changes, and how many it takes is the result: each "
    f"costs a backward pass and {2 * _LOOKED_AT['quick']} (quick, one channel) to {3 * _LOOKED_AT['thorough']} forward "
    "passes (thorough, in colour)",
)
