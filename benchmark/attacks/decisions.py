"""What attacks by decisions share: questions that are counted, where to start, the way to the boundary, its normal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize

from benchmark.attacks import AttackResult, Effort, spent
from benchmark.attacks.engine.budget import EOT_REPEATS
from benchmark.attacks.engine.starts import SHARE, far_images, nearest_by_class, number_of_starts
from benchmark.modes import same_draws
from benchmark.threat import Norm, get_norm, norms_of

QUERIES: Final[dict[Effort, int]] = {"quick": 2_500, "standard": 10_000, "thorough": 40_000}
"""Images that the model is shown for each sample, at most, besides those of the pool."""

BATCH: Final = 512
_AT_ONCE: Final = 2**24
"""Values of noise held at once."""

HALVINGS: Final = 24
"""Bisections of the way to the boundary at most: they end with `at_boundary`, but not before `_FEWEST_HALVINGS`."""

_FEWEST_HALVINGS: Final = 10

_ASKED: Final = 5
"""Times that images at the boundary are shown, to see whether the model repeats itself."""

_LARGE: Final = 16
"""Side from which on noise is drawn at half the size, too."""


def spread(size: Tensor, norm: Norm, values: int) -> Tensor:
    """The l2 norm of the noise that is tried at the boundary, at a distance ``size`` (n,) from the clean images."""
    each = size / (values if norm == "linf" else 2 * values**0.5)
    return each.clamp(min=1e-4).mul(values**0.5)


def at_boundary(low: Tensor, high: Tensor, norm: Norm, values: int) -> bool:
    """Whether images at distances ``high`` (n,) are so near a boundary beyond ``low`` that noise falls on both sides.

    Else most answers are the same, and the normal that they show is chance. Across the boundary noise reaches 1/√d of
    its l2 norm; a step of length 1 in linf moves all d values, and is √d long.
    """
    reach = spread(high, norm, values) / values**0.5
    return bool(((high - low) * (values**0.5 if norm == "linf" else 1) <= reach).all())


class Decisions:
    """Labels, asked for in batches, the questions counted a sample.

    Args:
        model: Images -> labels (n,), int64.
        y: Labels of the samples, shape (n,).
        votes: Calls an image, of which most decide; more than 1 of a randomised model.
        asked: Images shown for each sample so far.
    """

    def __init__(self, model: nn.Module, y: Tensor, *, votes: int = 1, asked: int = 0) -> None:
        self.model, self.y, self.votes, self.asked = model, y, votes, asked

    def of(self, rows: Tensor) -> Decisions:
        """Those about some of the samples (m,), counted on from here."""
        return Decisions(self.model, self.y[rows], votes=self.votes, asked=self.asked)

    def classes(self, images: Tensor) -> Tensor:
        """Labels of each call, shape (votes, n)."""
        parts = torch.split(images, BATCH)
        return torch.stack([torch.cat([self.model(part) for part in parts]) for _ in range(self.votes)])

    def wrong(self, images: Tensor) -> Tensor:
        """Whether each of some images of each sample, (n, q, c, h, w), is given another class; (n, q)."""
        n, q = images.shape[:2]
        self.asked += q * self.votes
        if not n * q:
            return torch.zeros((n, q), dtype=torch.bool, device=images.device)
        given = self.classes(images.flatten(0, 1)).view(self.votes, n, q)
        return 2 * ((given != self.y[:, None]) & (given >= 0)).sum(dim=0) > self.votes

    def one(self, images: Tensor) -> Tensor:
        """The same of one image of each sample, (n, c, h, w); (n,)."""
        return self.wrong(images[:, None])[:, 0]


def votes_of(decisions: Decisions, near: Tensor) -> int:
    """Calls to decide on an image: several of a model that gives an image at its boundary (n, c, h, w) two labels."""
    seen = [decisions.one(near) for _ in range(_ASKED)]
    return 1 if all(torch.equal(seen[0], again) for again in seen[1:]) else EOT_REPEATS


def starts(
    decisions: Decisions, x: Tensor, pool: Tensor, *, norm: Norm, seed: int, count: int
) -> tuple[Tensor, Tensor]:
    """The nearest images of the pool with other classes, each of another one; where there is none a far image.

    Images of the pool are counted for nobody.

    Args:
        decisions: The labels.
        x: Images, shape (n, c, h, w).
        pool: Images to start from.
        norm: The norm to be small.
        seed: Of what is drawn.
        count: Starts a sample, at most.

    Returns:
        Starts, the nearest first, shape (count, n, c, h, w), and whether they are there, shape (count, n).
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    classes = decisions.classes(pool).mode(dim=0).values
    chosen, found = nearest_by_class(x, pool, classes, decisions.y, norm, count=count)
    start = pool[chosen]
    for far in far_images(x, generator):
        if bool(found[0].all()):
            break
        wins = ~found[0] & decisions.one(far)
        start[0, wins], found[0] = far[wins], found[0] | wins
    return start, found


def to_boundary(decisions: Decisions, x: Tensor, far: Tensor, norm: Norm) -> Tensor:
    """Bisect from adversarial images (n, c, h, w) to the boundary: along the line; in linf by a shrinking ball."""
    delta, values = (far - x).flatten(1), x[0].numel()
    high = norms_of(delta, norm)
    whole, low = high.clamp(min=1e-30), torch.zeros_like(high)

    def at(distance: Tensor) -> Tensor:
        limit = distance[:, None]
        moved = delta.clamp(-limit, limit) if norm == "linf" else delta * (limit / whole[:, None])
        return (x.flatten(1) + moved).clamp_(0, 1).view_as(x)

    for turn in range(HALVINGS):
        if turn >= _FEWEST_HALVINGS and at_boundary(low, high, norm, values):
            break
        middle = (low + high) / 2
        holds = decisions.one(at(middle))
        high, low = torch.where(holds, middle, high), torch.where(holds, low, middle)
    return at(high)


def _noises(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Directions of l2 norm 1, (n, count, d): white noise, and of larger images every other one drawn at half the size.

    Normals of boundaries mostly vary slowly over the image (GeoDA, arXiv:2003.06468): with a quarter of the dimensions
    an estimate needs a quarter of the directions. White noise sees the rest.
    """
    n, c, height, width = images.shape
    noise = normalize(torch.randn((n, count, c * height * width), generator=generator, device=images.device), dim=2)
    if min(height, width) < _LARGE or count < 2:
        return noise
    few, small = count // 2, (-(-height // 2), -(-width // 2))
    drawn = torch.randn((n * few, c, *small), generator=generator, device=images.device)
    slow = functional.interpolate(drawn, size=(height, width), mode="bicubic").view(n, few, -1)
    noise[:, :few] = normalize(slow, dim=2)
    return noise


def normal(decisions: Decisions, current: Tensor, reach: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Which noises lead beyond the boundary, less the mean (Chen, Jordan & Wainwright 2020, equations 9 and 16).

    Args:
        decisions: The labels.
        current: Images at the boundary, shape (n, c, h, w).
        reach: l2 norm of the noises, shape (n,).
        count: Noises a sample.
        generator: Source of the noises.

    Returns:
        Estimates of the direction that leads across, of l2 norm 1, shape (n, d).
    """
    n, flat = len(current), current.flatten(1)
    weighted, plain = torch.zeros_like(flat), torch.zeros_like(flat)
    total = torch.zeros(n, device=flat.device)
    block = max(1, _AT_ONCE // flat.numel())
    for done in range(0, count, block):
        some = min(block, count - done)
        noise = _noises(current, some, generator)
        tried = (flat[:, None] + noise * reach[:, None, None]).clamp_(0, 1)
        noise = tried - flat[:, None]
        across = decisions.wrong(tried.view(n, some, *current.shape[1:])).to(flat.dtype) * 2 - 1
        weighted += torch.einsum("nk,nkd->nd", across, noise)
        plain += noise.sum(dim=1)
        total += across.sum(dim=1)
    mean = total / count
    less = torch.where(mean.abs() == 1, 0.0, mean)  # all on one side: their own mean is the direction
    return normalize(weighted - less[:, None] * plain, dim=1, eps=1e-30)


class Walk(Protocol):
    """Comes nearer by decisions."""

    def __call__(
        self, decisions: Decisions, x: Tensor, near: Tensor, *, norm: Norm, queries: int, generator: torch.Generator
    ) -> Tensor:
        """Examples near images (m, c, h, w), from some at the boundary, with at most so many queries in all."""


def by_decisions(
    walk: Walk,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    effort: Effort,
    seed: int,
    pool: Tensor | None,
    queries: int | None = None,
) -> AttackResult:
    """Walk from the nearest image of another class, for every sample that is classified correctly.

    Args:
        walk: The attack itself.
        model: Images -> labels.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm whose distance is to be small.
        effort: How much to spend.
        seed: Of what is drawn.
        pool: Images to start from; ``x`` if there is none.
        queries: Images that the model is shown for each sample, besides those of the pool; by default as the effort
            says.
    """
    budget = spent(queries, QUERIES[effort])
    adversarials, others = x.clone(), x if pool is None else pool
    if not len(x):
        return AttackResult(adversarials)
    farther = x.clone()
    with same_draws(x.device, seed):
        everyone = Decisions(model, y)
        wrong = everyone.one(x)
        if everyone.asked < budget and not torch.equal(wrong, everyone.one(x)):
            everyone.votes = EOT_REPEATS
            wrong = everyone.one(x)
        attacked = (~wrong).nonzero().squeeze(1)
        decisions = everyone.of(attacked)
        count = number_of_starts(budget)
        start, there = starts(decisions, x[attacked], others, norm=norm, seed=seed, count=count)
        started = there[0].nonzero().squeeze(1)
        rows, start, there = attacked[started], start[:, started], there[:, started]
        adversarials[rows] = farther[rows] = start[0]
        if len(rows) and decisions.asked + HALVINGS * decisions.votes + _ASKED < budget:
            decisions = decisions.of(started)
            generator = torch.Generator(x.device).manual_seed(seed)
            near = _approach(decisions, x[rows], start[0], norm=norm, budget=budget)
            go = partial(walk, norm=norm, generator=generator)
            if count > 1:
                others, known, share = start[1:], there[1:], budget // SHARE
                near = _nearest_of(decisions, go, x[rows], near, others=others, there=known, norm=norm, share=share)
            adversarials[rows] = go(decisions, x[rows], near, queries=budget)
    return AttackResult(adversarials, fallback=farther)


def _approach(decisions: Decisions, x: Tensor, start: Tensor, *, norm: Norm, budget: int) -> Tensor:
    """Images at the boundary on the way to the starts; there it shows whether decisions need votes."""
    near = to_boundary(decisions, x, start, norm)
    if decisions.votes == 1:
        decisions.votes = votes_of(decisions, near)
        if decisions.votes > 1:
            far = decisions.asked + HALVINGS * decisions.votes > budget
            return start if far else to_boundary(decisions, x, start, norm)
    return near


def _nearest_of(
    decisions: Decisions,
    go: Callable[..., Tensor],
    x: Tensor,
    near: Tensor,
    *,
    others: Tensor,
    there: Tensor,
    norm: Norm,
    share: int,
) -> Tensor:
    """Walk a share of the budget from the first start and from each other one; the nearest that was reached.

    Args:
        decisions: The labels.
        go: The attack itself.
        x: Images, shape (n, c, h, w).
        near: At the boundary on the way to the first start, shape of ``x``.
        others: Further starts, shape (k, n, c, h, w).
        there: Whether they are there, shape (k, n).
        norm: The norm to be small.
        share: Images shown of each sample from each start.
    """
    best = go(decisions, x, near, queries=decisions.asked + share)
    for start, some in zip(others, there, strict=True):
        rows = some.nonzero().squeeze(1)
        if not len(rows):
            continue
        own = decisions.of(rows)
        until = own.asked + share
        reached = go(own, x[rows], to_boundary(own, x[rows], start[rows], norm), queries=until)
        decisions.asked = own.asked
        apart = get_norm(norm).distance
        nearer = apart(x[rows], reached) < apart(x[rows], best[rows])
        best[rows[nearer]] = reached[nearer]
    return best
