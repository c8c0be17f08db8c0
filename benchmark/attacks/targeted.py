"""The nearest image of a named class: the engine's families, aimed at a target."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.aimed import AimedOracle
from benchmark.attacks.engine.budget import stated_work
from benchmark.attacks.engine.search import nearest_examples
from benchmark.errors import InputError
from benchmark.threat import Norm
from benchmark.threat.goals import TARGETED

CHOICES: Final = ("next", "least-likely", "random", "easiest", "hardest")
"""How a target is chosen for each sample."""


def targeted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    effort: Effort,
    seed: int,
    pool: Tensor | None,
    targets: Tensor | None = None,
) -> AttackResult:
    """The engine, whose every search is for the target's lead over all other classes."""
    if targets is None:
        raise InputError("A targeted attack needs its targets, the class wanted for each sample.")
    return nearest_examples(AimedOracle, model, x, y, targets, norm=norm, effort=effort, seed=seed, pool=pool)


ATTACK = Attack(
    name="targeted",
    version=2,
    title="Targeted: the engine's searches for the nearest image of a named class",
    paper="this project",
    run=targeted,
    norms=("linf", "l2", "l1"),
    goals=(TARGETED, *(f"{TARGETED}-{choice}" for choice in CHOICES)),
    default=False,
    work=stated_work,
)
