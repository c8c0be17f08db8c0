"""σ-zero: the fewest values, or pixels, that change the class, by a smooth stand-in for the number of changes."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import frozen
from benchmark.attacks.engine.reliability import oracle_of
from benchmark.attacks.engine.sparse import NORMS, Fewest, smooth
from benchmark.results import Work
from benchmark.threat import Norm

_STEPS: Final[dict[Effort, int]] = {"quick": 100, "standard": 300, "thorough": 1000}


def sigma_zero(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """σ-zero, then changes that are not needed are taken back, the smallest first.

    It draws no random numbers, so ``seed`` has no effect.
    """
    with frozen(model) as classifier:
        oracle = oracle_of(classifier, x, y)
        fewest = Fewest(oracle, x, y, norm)
        smooth(fewest, steps=_STEPS[effort])
        fewest.take_back()
    return AttackResult(fewest.best, fallback=fewest.first)


def _work(norm: Norm, effort: Effort) -> Work:
    """Each step is a pass forward and back; taking changes back is a twentieth more forward."""
    steps = _STEPS[effort]
    return Work(forward=1.05 * steps + 10, backward=steps, steps=steps + 20, operations=60)


ATTACK = Attack(
    name="sigma-zero",
    version=2,
    title="σ-zero: gradient descent on a smooth count of changes, needless changes taken back",
    paper="Cinà et al. 2024, arXiv:2402.01879",
    run=sigma_zero,
    norms=NORMS,
    work=_work,
)
