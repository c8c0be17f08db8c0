"""FAB-T, the targeted Fast Adaptive Boundary attack, from the package of its authors."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import Oracle, frozen
from benchmark.attacks.engine.reliability import oracle_of
from benchmark.threat import Norm, distances
from benchmark.twin import mean_logits

_NAMES: Final[dict[Norm, str]] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
_STEPS: Final[dict[Effort, int]] = {"quick": 20, "standard": 50, "thorough": 100}
_MOST_TARGETS: Final = 9


def fab_t(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """FAB-T against each of the nine most likely other classes; the nearest example of each sample is kept.

    The class's own ``perturb`` is made for one eps and attacks survivors only; here each target attacks every sample.
    It draws no random numbers, so ``seed`` has no effect.
    """
    from pyautoattack.fab_pt import FABAttack_PT

    with frozen(model) as alone, torch.no_grad():
        oracle = oracle_of(alone, x, y)
        classifier = _Expected(oracle).eval()
        logits = classifier(x)
        attack = FABAttack_PT(classifier, norm=_NAMES[norm], n_iter=_STEPS[effort], device=x.device, targeted=True)
        best = x.clone()
        nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        if not bool((logits.argmax(dim=1) == y).any()):
            return AttackResult(best)
        for rank in range(2, min(_MOST_TARGETS, logits.shape[1] - 1) + 2):
            attack.target_class = rank
            candidate = attack.attack_single_run(x, y, is_targeted=True).clamp(0, 1)
            adversarial = classifier(candidate).argmax(dim=1) != y
            distance = torch.where(adversarial, distances(x, candidate, norm), torch.inf)
            nearer = distance < nearest
            best[nearer] = candidate[nearer]
            nearest = torch.minimum(nearest, distance)
    return AttackResult(best)


class _Expected(nn.Module):
    """The logits that the package is shown: of a randomised model their mean over several calls."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.model, self.repeats = oracle.model, oracle.repeats

    def forward(self, x: Tensor) -> Tensor:
        return mean_logits(self.model, x, self.repeats)


ATTACK = Attack(
    name="fab-t",
    version=2,
    title="FAB-T: targeted Fast Adaptive Boundary attack, nine targets",
    paper="Croce & Hein 2020, arXiv:1907.02044",
    run=fab_t,
    norms=tuple(_NAMES),
    default=False,
)
