"""HopSkipJump: the smallest distance by decisions alone."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.threat import Norm, get_norm, norms_of

QUERIES: Final[dict[Effort, int]] = {"quick": 2_500, "standard": 10_000, "thorough": 40_000}
"""Images that the model is shown for each sample, at most, besides those of the pool."""

_FIRST: Final = 100
"""Directions of the first estimate; of the k-th, √k times as many, as published."""

_BATCH: Final = 512
_AT_ONCE: Final = 2**24
"""Values of noise held at once."""

_HALVINGS: Final = 12
_STRETCHES: Final = 6
_SHRUNK: Final = 1e-6
"""Lead by which the last example stays beyond the boundary, as a share of its perturbation."""


class _Decisions:
    """Labels, asked for in batches, the questions counted a sample."""

    def __init__(self, model: nn.Module, y: Tensor) -> None:
        self.model, self.y = model, y
        self.asked = 0

    def wrong(self, images: Tensor) -> Tensor:
        """Whether each of some images of each sample, (n, q, c, h, w), is given another class; (n, q)."""
        n, q = images.shape[:2]
        self.asked += q
        flat = images.flatten(0, 1)
        labels = torch.cat([self.model(part) for part in torch.split(flat, _BATCH)]) if len(flat) else self.y[:0]
        return labels.view(n, q) != self.y[:, None]


def hopskipjump(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """Chen, Jordan & Wainwright 2020, algorithm 2, for all samples at once.

    From the boundary on the way to the nearest image of another class, the boundary's normal is estimated from labels
    of noisy images, a step is taken along it and halved until its end is adversarial, and bisection returns to the
    boundary. In linf steps go along the sign of the normal and the way back shrinks the ball, as published.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    own = torch.cat([model(part) for part in torch.split(x, _BATCH)]) if len(x) else y
    attacked = (own == y).nonzero().squeeze(1)
    if not len(attacked):
        return AttackResult(x.clone())
    others = x if pool is None else pool
    start, found = _starts(model, x[attacked], y[attacked], others, norm=norm, generator=generator)
    rows = attacked[found]
    adversarials = x.clone()
    if len(rows):
        adversarials[rows] = _walk(
            model, x[rows], y[rows], start[found], norm=norm, queries=QUERIES[effort], generator=generator
        )
    return AttackResult(adversarials)


def _walk(
    model: nn.Module, x: Tensor, y: Tensor, start: Tensor, *, norm: Norm, queries: int, generator: torch.Generator
) -> Tensor:
    decisions = _Decisions(model, y)
    shape, d = x.shape[1:], x[0].numel()
    current = _to_boundary(decisions, x, start, norm)
    best, distance = current.clone(), get_norm(norm).distance(x, current)
    k = 0
    while True:
        k += 1
        count = int(_FIRST * k**0.5)
        if decisions.asked + count + _STRETCHES + _HALVINGS + 1 > queries:
            break
        size = norms_of((current - x).flatten(1), norm).clamp(min=1e-12)
        spread = size / d if norm == "linf" else size / d**0.5 / 2
        spread = spread.clamp(min=1e-4)
        normal = _normal(decisions, current, spread, count, generator)
        direction = normal.sign() if norm == "linf" else normal
        length = size / k**0.5
        moved, done = current.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for _ in range(_STRETCHES):
            tried = (current.flatten(1) + direction * length[:, None]).clamp_(0, 1).view(-1, *shape)
            holds = decisions.wrong(tried[:, None])[:, 0] & ~done
            moved[holds] = tried[holds]
            done |= holds
            length = torch.where(done, length, length / 2)
        current = _to_boundary(decisions, x, moved, norm)
        apart = get_norm(norm).distance(x, current)
        nearer = apart < distance
        best[nearer], distance[nearer] = current[nearer], apart[nearer]
    return best


def _normal(decisions: _Decisions, current: Tensor, spread: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The estimated normal of the boundary, of length 1, (n, d): which noises lead beyond it, less the mean."""
    n, flat = len(current), current.flatten(1)
    reach = (spread * flat.shape[1] ** 0.5)[:, None, None]
    weighted, plain = torch.zeros_like(flat), torch.zeros_like(flat)
    total = torch.zeros(n, device=flat.device)
    block = max(1, _AT_ONCE // flat.numel())
    for done in range(0, count, block):
        some = min(block, count - done)
        noise = torch.randn((n, some, flat.shape[1]), generator=generator, device=flat.device)
        tried = (flat[:, None] + normalize(noise, dim=2) * reach).clamp_(0, 1)
        noise = tried - flat[:, None]
        beyond = decisions.wrong(tried.view(n, some, *current.shape[1:])).to(flat.dtype) * 2 - 1
        weighted += (beyond[:, :, None] * noise).sum(dim=1)
        plain += noise.sum(dim=1)
        total += beyond.sum(dim=1)
    mean = total / count
    less = torch.where(mean.abs() == 1, 0.0, mean)  # all on one side: their own mean is the direction
    return normalize(weighted - less[:, None] * plain, dim=1, eps=1e-30)


def _to_boundary(decisions: _Decisions, x: Tensor, far: Tensor, norm: Norm) -> Tensor:
    """Bisect from adversarial images (n, c, h, w) to the boundary: along the line; in linf by a shrinking ball."""
    delta = (far - x).flatten(1)
    largest = delta.abs().amax(dim=1) if norm == "linf" else torch.ones(len(x), device=x.device)
    low, high = torch.zeros_like(largest), largest

    def at(part: Tensor) -> Tensor:
        moved = delta.clamp(-part[:, None], part[:, None]) if norm == "linf" else delta * part[:, None]
        return (x.flatten(1) + moved).clamp_(0, 1).view_as(x)

    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        holds = decisions.wrong(at(middle)[:, None])[:, 0]
        high, low = torch.where(holds, middle, high), torch.where(holds, low, middle)
    lead = at(high * (1 + _SHRUNK))
    return torch.where(decisions.wrong(lead[:, None]).view(-1, 1, 1, 1), lead, at(high))


def _starts(
    model: nn.Module, x: Tensor, y: Tensor, pool: Tensor, *, norm: Norm, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The nearest image of the pool with another class, else the first of some far images; and whether there is one."""
    classes = torch.cat([model(part) for part in torch.split(pool, _BATCH)])
    apart = get_norm(norm).pairwise(x, pool).masked_fill(classes[None, :] == y[:, None], torch.inf)
    distance, which = apart.min(dim=1)
    start, found = pool[which].clone(), torch.isfinite(distance)
    noise = torch.rand(x.shape, generator=generator, device=x.device)
    for far in ((x < 0.5).to(x.dtype), 1 - x, torch.zeros_like(x), torch.ones_like(x), noise):
        wins = ~found & (model(far) != y)
        start[wins], found = far[wins], found | wins
    return start, found


ATTACK = Attack(
    name="hopskipjump",
    version=1,
    title="HopSkipJump: the boundary's normal from decisions alone",
    paper="Chen, Jordan & Wainwright 2020, arXiv:1904.02144",
    run=hopskipjump,
    norms=("linf", "l2"),
    access="decisions",
    default=False,
)
