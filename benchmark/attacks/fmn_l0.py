"""FMN in l0: gradient steps, projected onto the largest few changes, a few that follow success and failure."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import frozen
from benchmark.attacks.engine.reliability import oracle_of
from benchmark.attacks.engine.sparse import NORMS, Fewest, project
from benchmark.results import Work
from benchmark.threat import Norm

_STEPS: Final[dict[Effort, int]] = {"quick": 100, "standard": 300, "thorough": 1000}


def fmn_l0(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """FMN, then changes that are not needed are taken back. It draws no random numbers, so ``seed`` has no effect."""
    with frozen(model) as classifier:
        oracle = oracle_of(classifier, x, y)
        fewest = Fewest(oracle, x, y, norm)
        project(fewest, steps=_STEPS[effort])
        fewest.take_back()
    return AttackResult(fewest.best, fallback=fewest.first)


def _work(norm: Norm, effort: Effort) -> Work:
    """Each step is a pass forward and back; taking changes back is a twentieth more forward."""
    steps = _STEPS[effort]
    return Work(forward=1.05 * steps + 10, backward=steps, steps=steps + 20, operations=60)


ATTACK = Attack(
    name="fmn-l0",
    version=2,
    title="FMN in ℓ₀: projected onto the largest changes, needless ones taken back",
    paper="Pintor et al. 2021, arXiv:2102.12827",
    run=fmn_l0,
    norms=NORMS,
    work=_work,
    default=False,
)
