"""The nearest image of a named class: the engine's families, aimed at a target."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.aimed import AimedOracle
from benchmark.attacks.engine.budget import EOT_REPEATS
from benchmark.attacks.engine.linearised import descend, linearise, polish
from benchmark.attacks.engine.oracle import Oracle, find_batch_size, frozen
from benchmark.attacks.engine.primal_dual import primal_dual
from benchmark.attacks.engine.rows import Best, Rows
from benchmark.attacks.engine.shrinking import shrink
from benchmark.attacks.engine.starts import bisect, far_images
from benchmark.errors import InputError
from benchmark.modes import same_draws
from benchmark.threat import Norm, get_norm, norms_of
from benchmark.threat.goals import TARGETED
from benchmark.twin import is_randomised
from benchmark.verification import needed_lead

CHOICES: Final = ("next", "least-likely", "random", "easiest", "hardest")
"""How a target is chosen for each sample."""

_STEPS: Final[dict[Effort, int]] = {"quick": 60, "standard": 150, "thorough": 500}
_FAMILIES: Final = ("linearised", "neighbour", "shrinking", "primal-dual", "descent", "polish")


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
    """Searches from the clean image and from the nearest image of the target class; each sample's nearest is kept."""
    if targets is None:
        raise InputError("A targeted attack needs its targets, the class wanted for each sample.")
    with frozen(model) as classifier, same_draws(x.device, seed):
        randomised = is_randomised(classifier, x)
        oracle = AimedOracle(
            classifier,
            batch_size=find_batch_size(classifier, x),
            repeats=EOT_REPEATS if randomised else 1,
            noise=0.0 if randomised else needed_lead(classifier, x, y),
        )
        attacked = (oracle.margins(x, targets) <= 0).nonzero().squeeze(1)
        if not len(attacked):
            return AttackResult(x.clone())
        generator = torch.Generator(x.device).manual_seed(seed)
        images, wanted = x[attacked], targets[attacked]
        others = x if pool is None else pool
        best = _search(oracle, images, wanted, others, norm=norm, steps=_STEPS[effort], generator=generator)
    origin = [""] * len(x)
    for i, family in zip(attacked.tolist(), best.origin.tolist(), strict=True):
        origin[i] = _FAMILIES[family] if family >= 0 else ""
    return AttackResult(best.images(x, attacked), origin=origin)


def _search(
    oracle: Oracle,
    x: Tensor,
    targets: Tensor,
    pool: Tensor,
    *,
    norm: Norm,
    steps: int,
    generator: torch.Generator,
) -> Best:
    best, everyone = Best.empty(x, norm), torch.arange(len(x), device=x.device)

    def keep(rows: Rows, family: str) -> None:
        best.merge(rows, _FAMILIES.index(family))

    def resumed() -> Rows:
        found = torch.isfinite(best.distance).nonzero().squeeze(1)
        rows = Rows(found, x, targets)
        rows.best, rows.distance = best.delta[found].clone(), best.distance[found].clone()
        rows.delta = rows.best.clone()
        return rows

    straight = Rows(everyone, x, targets)
    linearise(oracle, straight, norm, steps=max(5, steps // 10))
    keep(straight, "linearised")
    for near in _starts(oracle, x, targets, pool, best=best, generator=generator):
        keep(near, "neighbour")
        shrink(oracle, near, norm, steps=steps, step=(0.5, 0.01))
        keep(near, "shrinking")
    known = torch.where(torch.isfinite(best.distance), best.distance, norms_of(_farthest(x), norm) / 4)
    clean = Rows(everyone, x, targets)
    shrink(oracle, clean, norm, steps=steps, radius=known)
    keep(clean, "shrinking")
    if norm != "linf":
        rows = Rows(everyone, x, targets)
        scale = oracle.margins(x, targets).neg().clamp(min=1e-12)
        primal_dual(oracle, rows, norm, steps=steps, scale=scale, known=known)
        keep(rows, "primal-dual")
    if not bool(torch.isfinite(best.distance).any()):
        return best
    for region in (0.3, 0.03):
        rows = resumed()
        descend(oracle, rows, norm, steps=steps // 2, region=(region, region / 100))
        keep(rows, "descent")
        rows = resumed()
        shrink(oracle, rows, norm, steps=steps // 2, step=(0.1, 0.002), rate=(0.02, 0.0005))
        keep(rows, "shrinking")
    rows = resumed()
    polish(oracle, rows, norm, steps=10)
    keep(rows, "polish")
    return best


def _starts(
    oracle: Oracle, x: Tensor, targets: Tensor, pool: Tensor, *, best: Best, generator: torch.Generator
) -> list[Rows]:
    """The boundary on the way to the nearest image that the model gives the target; to far images if there is none."""
    predicted = oracle.predicted(pool)
    norm = best.norm
    apart = get_norm(norm).pairwise(x, pool)
    apart.masked_fill_(predicted[None, :] != targets[:, None], torch.inf)
    distance, which = apart.min(dim=1)
    near = torch.isfinite(distance).nonzero().squeeze(1)
    starts = [Rows(near, x, targets, start=pool[which[near]])]
    lost = (torch.isinf(distance) & torch.isinf(best.distance)).nonzero().squeeze(1)
    if len(lost):
        starts += [Rows(lost, x, targets, start=far) for far in far_images(x[lost], generator)]
    starts = [rows for rows in starts if len(rows.sample)]
    for rows in starts:
        bisect(oracle, rows, norm)
    return [rows for rows in (start.nearest(1) for start in starts) if len(rows.sample)]


def _farthest(x: Tensor) -> Tensor:
    return ((x < 0.5).to(x.dtype) - x).flatten(1)


ATTACK = Attack(
    name="targeted",
    version=1,
    title="Targeted: the engine's searches for the nearest image of a named class",
    paper="this project",
    run=targeted,
    norms=("linf", "l2", "l1"),
    goals=(TARGETED, *(f"{TARGETED}-{choice}" for choice in CHOICES)),
    default=False,
)
