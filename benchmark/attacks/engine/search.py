"""The curve engine: several families of attacks from several starts, each sample's nearest example kept.

No family is best on every model and norm, so the engine runs diverse ones, lets each start where others ended, and
finishes every example by a polish that can only shorten it. Method and figures: ``docs/engine.md``.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from functools import partial, reduce

import torch
from torch import Tensor, nn

from benchmark import flags
from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.budget import (
    AGAIN,
    BLIND,
    BUDGETS,
    FAR,
    FEWEST_CHECKED,
    FOLLOWED,
    INSIDE,
    KICK,
    LONGER,
    MISLED,
    PATIENCE,
    PROBED,
    PROMISING,
    TRIED,
    WORTHWHILE,
    Budget,
    stated_work,
)
from benchmark.attacks.engine.convolutions import faster_convolutions
from benchmark.attacks.engine.corners import corner_of, random_corner
from benchmark.attacks.engine.gradient_free import random_search, single_step
from benchmark.attacks.engine.linearised import descend, linearise, polish
from benchmark.attacks.engine.oracle import Oracle, frozen
from benchmark.attacks.engine.reliability import (
    STRONGER,
    Checks,
    look_at_outputs,
    oracle_of,
    reliability_flags,
    share_of,
    share_of_several,
)
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import shrink
from benchmark.attacks.engine.sparse import NORMS as SPARSE
from benchmark.attacks.engine.sparse import Fewest
from benchmark.attacks.engine.sparse_search import fewest_changes
from benchmark.attacks.engine.stages import (
    aim,
    displaced,
    donated,
    kicked,
    neighbours,
    race,
    search_blindly,
    searches,
)
from benchmark.attacks.engine.state import Search, origins
from benchmark.flags import zero_gradients_are_many
from benchmark.modes import same_draws
from benchmark.threat import Norm


def engine(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """The registered attack; see `benchmark.attacks.AttackFunction`."""
    return nearest_examples(Oracle, model, x, y, y, norm=norm, effort=effort, seed=seed, pool=pool)


def nearest_examples(
    kind: type[Oracle],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    goal: Tensor,
    *,
    norm: Norm,
    effort: Effort,
    seed: int,
    pool: Tensor | None,
) -> AttackResult:
    """Look for the nearest image that meets each sample's goal.

    Args:
        kind: What a goal is: to leave a class (`Oracle`), or to be given one (`AimedOracle`).
        model: Images -> logits.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        goal: The class to leave, or to be given, shape (n,).
        norm: The norm to be small.
        effort: How much to spend.
        seed: Of what is drawn.
        pool: Images to start from; ``x`` if there is none.
    """
    with frozen(model) as classifier, same_draws(x.device, seed):
        outputs = look_at_outputs(classifier, x)
        oracle = oracle_of(classifier, x, y, kind=kind, outputs=outputs)
        margin = oracle.margins(x, goal)
        attacked = oracle.attacked(x, margin)
        if not len(attacked):
            return AttackResult(x.clone(), reliability_flags(outputs, Checks()))
        samples = _Samples(
            oracle,
            x[attacked],
            goal[attacked],
            margin[attacked].neg().clamp_(min=1e-12),
            x if pool is None else pool,
            effort,
            outputs.gradients,
        )
        with faster_convolutions(classifier, x):
            if norm in SPARSE:
                fewest, checks = _fewest(samples, norm, seed)
                candidates, farther = x.clone(), x.clone()
                candidates[attacked], farther[attacked] = fewest.best, fewest.first
                return AttackResult(candidates, reliability_flags(outputs, checks), fallback=farther)
            search, checks = _nearest(samples, norm, seed)
    candidates, fallback = search.best.images(x, attacked), search.start.images(x, attacked)
    origin = origins(search.best, attacked, len(x))
    return AttackResult(candidates, reliability_flags(outputs, checks), origin, fallback)


@dataclass(frozen=True, eq=False)
class _Samples:
    """The samples that do not meet their goals yet, and what all searches for them share."""

    oracle: Oracle
    x: Tensor
    goal: Tensor
    scale: Tensor
    pool: Tensor
    effort: Effort
    gradients: bool

    def generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.x.device).manual_seed(seed)

    def searched(self, norm: Norm, seed: int) -> tuple[Search, Checks]:
        """One search for the nearest examples, and what it saw of the model."""
        generator = self.generator(seed)
        search = Search(self.oracle, self.x, self.goal, norm=norm, scale=self.scale, generator=generator)
        return search, (_run if self.gradients else _run_blindly)(search, self.pool, BUDGETS[self.effort])


def _nearest(samples: _Samples, norm: Norm, seed: int) -> tuple[Search, Checks]:
    """By distances that are lengths; under `thorough` by two searches, which are compared."""
    search, checks = samples.searched(norm, seed)
    if samples.effort == "thorough":
        other, _ = samples.searched(norm, seed + 1)
        checks = replace(checks, seeds=(search.best.distance.clone(), other.best.distance))
        search.best.absorb(other.best)
    return search, checks


def _fewest(samples: _Samples, norm: Norm, seed: int) -> tuple[Fewest, Checks]:
    """By the number of changes, from what is nearest in l1; checks are of that search."""
    start, checks, guided = None, Checks(attacked=len(samples.x)), samples.gradients
    if guided:
        search, checks = samples.searched("l1", seed)
        guided = not zero_gradients_are_many(checks.zero_gradients)
        # Blind searches change many places by little: whole images of other classes are the better start then.
        start = search.best.images(samples.x) if guided else None
    fewest = Fewest(samples.oracle, samples.x, samples.goal, norm, start=start)
    fewest_changes(
        fewest,
        samples.pool,
        effort=samples.effort,
        generator=samples.generator(seed),
        gradients=guided,
    )
    unbroken = int(torch.isinf(fewest.count).sum()) if samples.oracle.attainable else 0
    return fewest, replace(checks, unbroken=unbroken)


def _run(search: Search, pool: Tensor, budget: Budget) -> Checks:
    search.run("linearised", search.clean(), partial(linearise, steps=budget.linearise))
    near = neighbours(search, pool, budget.neighbours)
    if search.norm == "linf":
        _two_phases(search, near, budget)
    else:
        _from_clean(search, budget)
    misled = _improve(search, budget)
    checks = replace(_check(search, budget), misled=misled)
    search.run("polish", search.resume(search.found()), partial(polish, steps=budget.polish))
    return checks


def _run_blindly(search: Search, pool: Tensor, budget: Budget) -> Checks:
    """For a model without gradients: random search alone, from the boundary on the way to other images."""
    search_blindly(search, pool, budget.neighbours, steps=BLIND * budget.random)
    unbroken = len(search.x) - len(search.found()) if search.oracle.attainable else 0
    return Checks(unbroken=unbroken, attacked=len(search.x))


def _two_phases(search: Search, near: Rows, budget: Budget) -> None:
    """For linf: short searches from every start, then longer ones from those that came nearest."""
    rough = partial(shrink, steps=budget.shrink // 2, step=(0.5, 0.1), rate=(0.3, 0.01))
    search.run("shrinking", near, rough)
    known = search.known()
    starts = [(search.clean(), known), (search.clean(), 3 * known)]
    starts += [
        (search.clean(rival), 1.5 * known)
        for rival in search.oracle.ranked(search.x, search.y)[:, 1 : budget.rivals].unbind(dim=1)
    ]
    rows = reduce(operator.add, [start[0] for start in starts])
    search.run("shrinking", rows, partial(rough, radius=torch.cat([start[1] for start in starts])))
    aimed = aim(search, budget)
    if len(aimed.sample):
        nearest, longer = (near + rows).nearest(1) + aimed.nearest(1), 1
    else:  # there is one class to reach, perhaps a far one
        nearest, longer = (near + rows).nearest(2), FAR
    finer = partial(shrink, steps=longer * budget.refine, step=(0.2, 0.005), rate=(0.03, 0.001))
    search.run("shrinking", nearest, finer)
    count, steps = min(longer, 2), longer * budget.descent // 2
    search.run("descent", nearest.nearest(count), partial(descend, steps=steps))


def _from_clean(search: Search, budget: Budget) -> None:
    """For l2 and l1: short searches of several kinds; the nearest rows go on."""
    rows = (searches(search, budget) + aim(search, budget)).nearest(budget.finished)
    race(search, "descent", rows, steps=budget.descent, kept=max(1, budget.finished // 2))


def _check(search: Search, budget: Budget) -> Checks:
    """What a single step and a search without gradients find on some samples that the gradient searches did not."""
    found = search.found()
    _, gradient = search.oracle.gradients(search.x, search.y)
    zero = float((gradient == 0).all(dim=1).float().mean())
    blind = zero_gradients_are_many(zero)  # the search without gradients is then all there is
    few = min(budget.checked, max(FEWEST_CHECKED, len(found) // 5))
    count, steps = (len(found), BLIND * budget.random) if blind else (few, budget.random)
    some = found[:: max(1, len(found) // max(1, count))][:count]
    before = search.best.distance[some].clone()
    single = search.rows(some)
    free = search.resume(some)
    free.best.copy_(search.start.delta[some])
    free.distance.copy_(search.start.distance[some])
    search.run("single-step", single, single_step)
    search.run("gradient-free", free, partial(random_search, steps=steps, generator=search.generator))
    return Checks(
        before=before,
        single_step=single.distance,
        gradient_free=free.distance,
        zero_gradients=zero,
        non_finite_gradients=search.oracle.non_finite,
        unbroken=len(search.x) - len(found) if search.oracle.attainable else 0,
        attacked=len(search.x),
    )


def _improve(search: Search, budget: Budget) -> float:
    """Go on from each sample's best, round by round; a sample that a round has not helped leaves.

    A round descends from the best, from the perturbations of other samples, and from the best after a random kick:
    iterated local search (Lourenço, Martin & Stützle 2003, arXiv:math/0102188), which ends far nearer than as many
    independent searches. In linf it also goes on from corners, in l2 and l1 from displaced parts of the best.

    Returns:
        Share of the samples that a random search brought 3 % nearer in the first round, or, in linf, long ones 0.2 %
        afterwards, whichever is larger. In linf with the gradient steps that follow it, in l2 and l1 by itself.
    """
    active = search.found()
    finish = partial(descend, steps=budget.descent)
    promise = misled = 0.0
    for k in range(budget.rounds):
        before = search.best.distance[active].clone()
        rows = search.resume(active)
        if search.norm == "l2":  # where descents alone end up to 0.6 % farther, on networks that are not robust
            step, rate = (0.3, 0.003), (0.03, 0.0005)
            search.run("shrinking", rows, partial(shrink, steps=budget.refine, step=step, rate=rate))
        search.run("descent", rows, finish)
        race(search, "exchange", donated(search, active, budget), steps=budget.descent, kept=1)
        if search.norm == "linf":
            _corners(search, active, 0)
            gains = _corners(search, active, budget.flips)
            if not k:
                promise, misled = share_of(gains < 1 - WORTHWHILE), share_of_several(gains < STRONGER)
        else:
            moved = [displaced(search, active, budget) for _ in range(budget.moves)]
            if not k:
                misled = share_of_several(torch.stack(moved).amin(dim=0) < STRONGER)
        for _ in range(round(KICK[search.norm][1] * budget.kicks)):
            search.run("kick", kicked(search, active), finish)
        active = active[search.best.distance[active] < before * (1 - WORTHWHILE)]
        if len(active) <= min(budget.left, len(search.found()) // 10):
            break
    if search.norm != "linf":
        return misled
    return max(misled, _where_gradients_mislead(search, budget, promising=promise > PROMISING))


def _where_gradients_mislead(search: Search, budget: Budget, *, promising: bool) -> float:
    """Random searches from the best corner, then gradients, for whom that helps; a few samples try long ones first.

    Where short ones promised nothing, even fewer try: short ones may miss what long ones find (on TRADES' network they
    bring 7 % of 100 samples nearer, long ones 28 %). Fewer than `PROBED` samples are then let be, for their cost.

    Returns:
        Share of the samples that are 0.2 % nearer for it.
    """
    everyone = search.found()
    start = search.best.distance[everyone].clone()
    if not promising:
        few = everyone[::PROBED]
        if len(everyone) < PROBED or not (_corners(search, few, LONGER * budget.flips) < 1 - MISLED).any():
            return 0.0
    tried = everyone[::TRIED]
    if share_of(_corners(search, tried, LONGER * budget.flips) < 1 - MISLED) <= flags.MANY:
        return 0.0
    active, idle = everyone, torch.zeros_like(everyone)
    for _ in range(budget.restarts):
        gained = _corners(search, active, AGAIN * budget.flips) < 1 - WORTHWHILE
        idle = torch.where(gained, 0, idle + 1)
        active, idle = active[idle < PATIENCE], idle[idle < PATIENCE]
        if not len(active):
            break
    return share_of_several(search.best.distance[everyone] < start * (1 - MISLED))


def _corners(search: Search, sample: Tensor, steps: int) -> Tensor:
    """Go on from the corner of a slightly smaller ball, by random search first; each distance ÷ what it was, (m,)."""
    before = search.best.distance[sample].clone()
    rows = search.resume(sample)
    radius = rows.distance * INSIDE
    rows.delta = corner_of(rows.delta).mul_(radius[:, None])
    if steps:
        search.run("corner", rows, partial(random_corner, radius=radius, steps=steps, generator=search.generator))
    step, rate = (0.3, 0.01), (0.03, 0.001)
    search.run("corner", rows, partial(shrink, steps=FOLLOWED, step=step, rate=rate, radius=radius))
    return search.best.distance[sample] / before


ATTACK = Attack(
    name="engine",
    version=5,
    title="Curve engine: diverse minimum-norm searches, per-sample minimum, polished",
    paper="this project",
    run=engine,
    norms=(*KICK, *SPARSE),
    work=stated_work,
    newer=dict.fromkeys(SPARSE, 7),
)
