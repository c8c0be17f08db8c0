"""The curve engine: several families of attacks from several starts, each sample's nearest example kept.

No family is best on every model and norm, so the engine runs diverse ones, lets each start where others ended, and
finishes every example by a polish that can only shorten it. Method and figures: ``docs/engine.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.linearised import linearise, polish
from benchmark.attacks.oracle import Oracle, frozen
from benchmark.attacks.primal_dual import primal_dual
from benchmark.attacks.rows import Best, Rows
from benchmark.attacks.shrinking import shrink
from benchmark.attacks.starts import bisect, nearest_other
from benchmark.results import Flag
from benchmark.threat import Norm

FAMILIES: Final = ("linearised", "neighbour", "shrinking", "primal-dual", "polish")


@dataclass(frozen=True)
class Budget:
    """Steps of each family at one effort.

    Attributes:
        linearise: Linearisations from the clean image.
        neighbours: Starts near images of other classes.
        shrink: Steps of each shrinking search.
        primal_dual: Steps of the primal–dual search.
        polish: Linearisations of the final polish.
    """

    linearise: int
    neighbours: int
    shrink: int
    primal_dual: int
    polish: int


BUDGETS: Final[dict[Effort, Budget]] = {
    "quick": Budget(linearise=5, neighbours=2, shrink=30, primal_dual=100, polish=3),
    "standard": Budget(linearise=10, neighbours=4, shrink=60, primal_dual=300, polish=10),
    "thorough": Budget(linearise=20, neighbours=8, shrink=120, primal_dual=1000, polish=20),
}


@dataclass
class Search:
    """One run of the engine.

    Attributes:
        oracle: The model.
        x: Images that the model classifies correctly, shape (n, c, h, w).
        y: Their labels, shape (n,).
        norm: The norm to be small.
        budget: Steps of each family.
        best: The nearest examples so far.
    """

    oracle: Oracle
    x: Tensor
    y: Tensor
    norm: Norm
    budget: Budget
    best: Best

    def everyone(self) -> Tensor:
        """Indices of all samples."""
        return torch.arange(len(self.x), device=self.x.device)

    def run(self, family: str, rows: Rows, search: Callable[[Rows], None]) -> None:
        """Run a family's searches and keep what they found."""
        search(rows)
        self.best.merge(rows, FAMILIES.index(family))


def engine(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """The registered attack; see `benchmark.attacks.AttackFunction`."""
    budget = BUDGETS[effort]
    with frozen(model):
        oracle = Oracle(model, batch_size=500)
        attacked = (oracle.margins(x, y) <= 0).nonzero().squeeze(1)
        adversarials = x.clone()
        origin = [""] * len(x)
        if len(attacked):
            search = Search(oracle, x[attacked], y[attacked], norm, budget, Best.empty(x[attacked], norm))
            _run(search, x if pool is None else pool)
            found = torch.isfinite(search.best.distance)
            images = (search.best.x + search.best.delta).clamp_(0, 1).view_as(search.x)
            adversarials[attacked[found]] = images[found]
            for i, family in zip(attacked.tolist(), search.best.origin.tolist(), strict=True):
                origin[i] = FAMILIES[family] if family >= 0 else ""
    flags: tuple[Flag, ...] = ()
    return AttackResult(adversarials, flags, origin)


def _run(search: Search, pool: Tensor) -> None:
    oracle, x, y, norm, budget = search.oracle, search.x, search.y, search.norm, search.budget
    everyone = search.everyone()
    search.run("linearised", Rows(everyone, x, y), lambda r: linearise(oracle, r, norm, steps=budget.linearise))
    if norm != "linf":
        search.run(
            "primal-dual", Rows(everyone, x, y), lambda r: primal_dual(oracle, r, norm, steps=budget.primal_dual)
        )
    predicted = oracle.logits(pool).argmax(dim=1)
    near = nearest_other(x, y, pool, predicted, norm, count=budget.neighbours)
    sample, which = (near >= 0).nonzero(as_tuple=True)
    rows = Rows(sample, x, y, start=pool[near[sample, which]])
    search.run("neighbour", rows, lambda r: bisect(oracle, r, norm))
    if norm != "l1":
        search.run("shrinking", rows, lambda r: shrink(oracle, r, norm, steps=budget.shrink))
    found = torch.isfinite(search.best.distance).nonzero().squeeze(1)
    rows = Rows(found, x, y)
    rows.best.copy_(search.best.delta[found])
    rows.distance.copy_(search.best.distance[found])
    search.run("polish", rows, lambda r: polish(oracle, r, norm, steps=budget.polish))


ATTACK = Attack(
    name="engine",
    version=1,
    title="Curve engine: diverse minimum-norm searches, per-sample minimum, polished",
    paper="this project",
    run=engine,
)
