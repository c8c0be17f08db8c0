"""Searches on gradients that are estimated from scores: where they start, how they end, and what they cost."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Callable
from functools import reduce
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import AttackResult, Effort, spent
from benchmark.attacks.engine.budget import EOT_REPEATS
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Best, Rows
from benchmark.attacks.engine.shrinking import shrink
from benchmark.attacks.engine.starts import SHARE, bisect, far_images, nearest_by_class, number_of_starts
from benchmark.modes import same_draws
from benchmark.threat import Norm
from benchmark.twin import is_randomised

QUERIES: Final[dict[Effort, int]] = {"quick": 4_000, "standard": 10_000, "thorough": 40_000}
"""Images that the model is shown for each sample, at most, besides those of the pool."""

PROBES: Final = 40
"""Images an estimate, besides the one at which it is made."""

_TO_SEE: Final = 2
"""Images shown for a sample to see whether the model is randomised."""

_HALVINGS: Final = 8
_NEXT: Final = 3
"""Classes of the pool of which the nearest image is tried, before far images, until one is adversarial for sure."""

BATCH: Final = 512
_AT_ONCE: Final = 2**24
"""Values of probed images held at once."""

_SPREAD: Final = (1e-3, 0.05)
"""How far apart the images of an estimate are, a value; of a randomised model, whose noise drowns small differences."""


class EstimatingOracle(Oracle):
    """Gradients of the margin, estimated from differences of scores; nothing is differentiated.

    Args:
        model: The classifier.
        generator: Source of what is drawn.
        repeats: Calls averaged an image; more than 1 of a randomised model.
    """

    def __init__(self, model: nn.Module, generator: torch.Generator, *, repeats: int) -> None:
        super().__init__(model, batch_size=BATCH, repeats=repeats)
        self.generator = generator
        self.spread = _SPREAD[repeats > 1]

    @property
    def cost(self) -> int:
        """Images that the model is shown for each gradient of a sample, at most."""
        return PROBES * self.repeats + self.once

    @property
    def once(self) -> int:
        """Images for each margin, at most: one of a randomised model's is confirmed by as many calls again."""
        return 2 * self.repeats if self.repeats > 1 else 1

    def gradients(self, x: Tensor, y: Tensor, target: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Margins (n,), and estimated gradients (n, d)."""
        return self.margins(x, y), self.estimate(x, y)

    @abstractmethod
    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        """Gradients of the margin at images (n, c, h, w), from `slopes` in `PROBES` / 2 directions; shape (n, d)."""

    def slopes(self, x: Tensor, y: Tensor, directions: Callable[[int], Tensor]) -> Tensor:
        """Symmetric differences of the margin along directions.

        Args:
            x: Images, shape (n, c, h, w).
            y: Labels, shape (n,).
            directions: A number k -> k directions of each image, shape (n, k, d), asked for until `PROBES` / 2 are had.

        Returns:
            The sum over the directions of slope times direction, shape (n, d).
        """
        flat, count = x.flatten(1), PROBES // 2
        total, done = torch.zeros_like(flat), 0
        while done < count:
            some = min(count - done, max(1, _AT_ONCE // (2 * flat.numel())))
            along = directions(some)
            apart = self.spread * along
            ahead, behind = (self._probed(flat[:, None] + sign * apart, x, y) for sign in (1, -1))
            slope = (ahead - behind).div_(2 * self.spread).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            total += torch.einsum("nk,nkd->nd", slope, along)
            done += some
        return total

    def _probed(self, probes: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Margins of probes (n, k, d) around images; no positive one is asked for again. Shape (n, k)."""
        images, labels = probes.reshape(-1, *x.shape[1:]), y.repeat_interleave(probes.shape[1])
        margins = self._batched(lambda i, j: self._new_margin(images[i:j], labels[i:j]), len(images))
        return margins.view(probes.shape[:2])


def repeats_of(model: nn.Module, x: Tensor, budget: int) -> int:
    """Calls to average an image: several of a randomised model (expectation over transformation)."""
    return EOT_REPEATS if budget > _TO_SEE and is_randomised(model, x[:2]) else 1


def by_estimates(
    make: type[EstimatingOracle],
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
    """The engine's shrinking search on estimated gradients.

    Probed images may leave the box by what they are apart; examples never do.

    Args:
        make: The oracle that estimates.
        model: Images -> logits.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm whose distance is to be small.
        effort: How much to spend.
        seed: Of what is drawn.
        pool: Images to start from.
        queries: Images that the model is shown for each sample, at most, besides those of the pool; by default as the
            effort says.
    """
    budget = spent(queries, QUERIES[effort])
    with same_draws(x.device, seed):
        generator = torch.Generator(x.device).manual_seed(seed)
        oracle = make(model, generator, repeats=repeats_of(model, x, budget))

        def search(rows: Rows, best: Best, left: int) -> None:
            own = make(model, generator, repeats=oracle.repeats)  # what an oracle remembers belongs to one search
            rows.delta = best.delta[rows.sample].clone()
            shrink(own, rows, norm, steps=left // own.cost)
            best.merge(rows, 0)

        return from_boundary(oracle, search, x, y, norm=norm, pool=pool, budget=budget, generator=generator)


def from_boundary(
    oracle: Oracle,
    search: Callable[[Rows, Best, int], None],
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    pool: Tensor | None,
    budget: int,
    generator: torch.Generator,
) -> AttackResult:
    """Search from the boundary (see `_Start`); ``search`` is given a row for each sample that has an example.

    Args:
        oracle: The model.
        search: Goes on with the rows, puts what is nearer into the best so far, and may show the model so many images
            of each sample.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm whose distance is to be small.
        pool: Images to start from.
        budget: Images that the model is shown for each sample, the start included.
        generator: Source of what is drawn.
    """
    begun = _Start(oracle, x, y, norm, budget)
    bests = begun.examples(x if pool is None else pool, generator)
    best, share = bests[0], budget // SHARE
    farther = best.images(x, begun.attacked)

    def go(one: Best, queries: int) -> None:
        rows = torch.isfinite(one.distance).nonzero().squeeze(1)
        if len(rows) and queries > 0:
            search(Rows(rows, begun.x, begun.y), one, queries)

    for one in bests if len(bests) > 1 else ():
        go(one, min(share, budget - begun.asked))
        begun.asked += share
        best.absorb(one)
    go(best, budget - begun.asked)
    return AttackResult(best.images(x, begun.attacked), fallback=farther)


class _Start:
    """The samples that are classified correctly, brought to the boundary, with every image that is shown counted.

    Attributes:
        attacked: Their indices, shape (m,).
        x: Their images, shape (m, c, h, w).
        y: Their labels, shape (m,).
        asked: Images shown for a sample so far, at most.
    """

    def __init__(self, oracle: Oracle, x: Tensor, y: Tensor, norm: Norm, budget: int) -> None:
        self._oracle, self._norm, self._budget = oracle, norm, budget
        self._once = 2 * oracle.repeats if oracle.repeats > 1 else 1  # of a randomised model examples are confirmed
        self.asked = (_TO_SEE if budget > _TO_SEE else 0) + self._once * (1 + oracle.reject)
        self.attacked = oracle.attacked(x, oracle.margins(x, y))
        self.x, self.y = x[self.attacked], y[self.attacked]

    def examples(self, pool: Tensor, generator: torch.Generator) -> list[Best]:
        """Examples on the boundary on the way to the nearest image of another class, then of each further class.

        Where an image does not hold the next class's is gone to at once, then far images; further classes have examples
        of their own as far as the budget is worth it.
        """
        if not len(self.attacked):
            return [Best.empty(self.x, self._norm)]
        count, classes = number_of_starts(self._budget), self._oracle.predicted(pool)
        near, there = nearest_by_class(self.x, pool, classes, self.y, self._norm, count=max(_NEXT, count))
        far = far_images(self.x, generator)
        everywhere = torch.ones((len(far), len(self.x)), dtype=torch.bool, device=pool.device)
        candidates = list(zip([*pool[near], *far], [*there, *everywhere], strict=True))
        lost, held = torch.ones_like(everywhere[0]), []
        for images, known in candidates:
            held.append(self._held(images, lost & known))
            lost[held[-1].sample] = False
        found = [self._at_boundary(reduce(operator.add, held))]
        return found + [self._at_boundary(self._held(*candidate)) for candidate in candidates[1:count]]

    def _held(self, images: Tensor, some: Tensor) -> Rows:
        """Rows of some samples (m,), bool, at images (m, c, h, w), as far as these are adversarial."""
        rows = Rows(some.nonzero().squeeze(1), self.x, self.y, start=images[some])
        if len(rows.sample) and self.asked + self._once <= self._budget:
            self.asked += self._once
            rows.offer(self._oracle.margins(rows.images(), rows.y), self._norm)
        return rows[torch.isfinite(rows.distance).nonzero().squeeze(1)]

    def _at_boundary(self, rows: Rows) -> Best:
        """The rows' examples, bisected as far as the budget allows."""
        best = Best.empty(self.x, self._norm)
        steps = min(_HALVINGS, (self._budget - self.asked) // self._once - 1)
        if len(rows.sample) and steps > 0:
            self.asked += self._once * (steps + 1)
            bisect(self._oracle, rows, self._norm, steps=steps)
        best.merge(rows, 0)
        return best
