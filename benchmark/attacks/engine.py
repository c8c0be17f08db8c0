"""The curve engine: several families of attacks from several starts, each sample's nearest example kept.

No family is best on every model and norm, so the engine runs diverse ones, lets each start where others ended, and
finishes every example by a polish that can only shorten it. Method and figures: ``docs/engine.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.linearised import descend, linearise, polish
from benchmark.attacks.oracle import Oracle, frozen
from benchmark.attacks.primal_dual import primal_dual
from benchmark.attacks.rows import Best, Rows
from benchmark.attacks.shrinking import shrink
from benchmark.attacks.starts import bisect, nearest_other
from benchmark.results import Flag
from benchmark.threat import Norm

FAMILIES: Final = ("linearised", "neighbour", "shrinking", "primal-dual", "descent", "polish")


@dataclass(frozen=True)
class Budget:
    """Steps of each family at one effort.

    Attributes:
        linearise: Linearisations from the clean image.
        neighbours: Starts near images of other classes.
        shrink: Steps of each shrinking search.
        primal_dual: Steps of each primal–dual search.
        descent: Steps of the descent along the boundary that follows a search.
        endgame: Shrinking steps of each round of the endgame.
        rounds: Most rounds of the endgame.
        polish: Linearisations of the final polish.
    """

    linearise: int
    neighbours: int
    shrink: int
    primal_dual: int
    descent: int
    endgame: int
    rounds: int
    polish: int


BUDGETS: Final[dict[Effort, Budget]] = {
    "quick": Budget(linearise=5, neighbours=1, shrink=30, primal_dual=40, descent=15, endgame=20, rounds=1, polish=2),
    "standard": Budget(
        linearise=5, neighbours=2, shrink=50, primal_dual=80, descent=20, endgame=30, rounds=2, polish=3
    ),
    "thorough": Budget(
        linearise=9, neighbours=8, shrink=99, primal_dual=250, descent=30, endgame=50, rounds=9, polish=9
    ),
}


class Search:
    """One run of the engine on samples that the model classifies correctly.

    Attributes:
        oracle: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm to be small.
        scale: How far the label leads on each clean image, shape (n,).
        best: The nearest examples so far.
    """

    def __init__(
        self, oracle: Oracle, x: Tensor, y: Tensor, *, norm: Norm, scale: Tensor, generator: torch.Generator
    ) -> None:
        self.oracle, self.x, self.y, self.norm, self.scale = oracle, x, y, norm, scale
        self.best = Best.empty(x, norm)
        self.everyone = torch.arange(len(x), device=x.device)
        self.generator = generator

    def run(self, family: str, rows: Rows, search: Callable[[Oracle, Rows, Norm], None]) -> None:
        """Run a family's searches and keep what they found."""
        search(self.oracle, rows, self.norm)
        self.best.merge(rows, FAMILIES.index(family))

    def found(self) -> Tensor:
        """Indices of the samples with an example."""
        return torch.isfinite(self.best.distance).nonzero().squeeze(1)

    def clean(self) -> Rows:
        """One row a sample, from the clean image."""
        return Rows(self.everyone, self.x, self.y)

    def resume(self, sample: Tensor) -> Rows:
        """One row for each of some samples, from its best example."""
        rows = Rows(sample, self.x, self.y)
        rows.delta.copy_(self.best.delta[sample])
        rows.best.copy_(rows.delta)
        rows.distance.copy_(self.best.distance[sample])
        return rows

    def known(self) -> Tensor:
        """The best distance of each sample, or the median one where none is known; shape (n,)."""
        found = torch.isfinite(self.best.distance)
        typical = self.best.distance[found].median() if bool(found.any()) else torch.ones((), device=self.x.device)
        return torch.where(found, self.best.distance, typical)


def engine(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """The registered attack; see `benchmark.attacks.AttackFunction`."""
    with frozen(model):
        oracle = Oracle(model, batch_size=128)
        margin = oracle.margins(x, y)
        attacked = (margin <= 0).nonzero().squeeze(1)
        adversarials = x.clone()
        origin = [""] * len(x)
        if len(attacked):
            generator = torch.Generator(x.device).manual_seed(seed)
            scale = margin[attacked].neg().clamp_(min=1e-12)
            search = Search(oracle, x[attacked], y[attacked], norm=norm, scale=scale, generator=generator)
            _run(search, x if pool is None else pool, BUDGETS[effort])
            found = torch.isfinite(search.best.distance)
            images = (search.best.x + search.best.delta).clamp_(0, 1).view_as(search.x)
            adversarials[attacked[found]] = images[found]
            for i, family in zip(attacked.tolist(), search.best.origin.tolist(), strict=True):
                origin[i] = FAMILIES[family] if family >= 0 else ""
    flags: tuple[Flag, ...] = ()
    return AttackResult(adversarials, flags, origin)


def _run(search: Search, pool: Tensor, budget: Budget) -> None:
    search.run("linearised", search.clean(), partial(linearise, steps=budget.linearise))
    _neighbours(search, pool, budget)
    if search.norm == "linf":
        for factor in (1.0, 3.0):
            search.run(
                "shrinking", search.clean(), partial(shrink, steps=budget.shrink, radius=search.known() * factor)
            )
    else:
        _primal_dual(search, budget)
    _endgame(search, budget)
    search.run("polish", search.resume(search.found()), partial(polish, steps=budget.polish))


def _neighbours(search: Search, pool: Tensor, budget: Budget) -> None:
    predicted = search.oracle.logits(pool).argmax(dim=1)
    near = nearest_other(search.x, search.y, pool, predicted, search.norm, count=budget.neighbours)
    sample, which = (near >= 0).nonzero(as_tuple=True)
    rows = Rows(sample, search.x, search.y, start=pool[near[sample, which]])
    search.run("neighbour", rows, bisect)
    if search.norm != "l1":
        search.run("shrinking", rows, partial(shrink, steps=budget.shrink))


def _primal_dual(search: Search, budget: Budget) -> None:
    for step, ratio, noise in PRIMAL_DUAL[search.norm]:
        rows = search.clean()
        if noise:
            rows.delta = torch.rand(rows.delta.shape, generator=search.generator, device=rows.x.device)
            rows.delta.mul_(2 * noise).sub_(noise)
        search.run(
            "primal-dual",
            rows,
            partial(
                primal_dual,
                steps=budget.primal_dual,
                scale=search.scale,
                known=search.known(),
                step=(step, 0.003),
                dual_ratio=ratio,
            ),
        )
        search.run("descent", rows, partial(descend, steps=budget.descent))


PRIMAL_DUAL = {
    "l2": ((0.3, 1.0, 0.0), (0.6, 3.0, 0.0), (0.3, 1.0, 0.5)),
    "l1": ((0.3, 0.05, 0.0), (1.0, 0.03, 0.0), (1.0, 0.1, 0.5)),
}


def _endgame(search: Search, budget: Budget) -> None:
    """Go on from each sample's best, round by round, for as long as that pays; samples that stand still leave."""
    active = search.found()
    step, rate = ((2.0, 0.02), (0.05, 0.001)) if search.norm == "l1" else ((0.3, 0.003), (0.03, 0.0005))
    for _ in range(budget.rounds):
        before = search.best.distance[active].clone()
        rows = search.resume(active)
        search.run("shrinking", rows, partial(shrink, steps=budget.endgame, step=step, rate=rate))
        search.run("descent", rows, partial(descend, steps=budget.descent))
        active = active[search.best.distance[active] < before * (1 - 2e-3)]
        if not len(active):
            break


ATTACK = Attack(
    name="engine",
    version=1,
    title="Curve engine: diverse minimum-norm searches, per-sample minimum, polished",
    paper="this project",
    run=engine,
)
