"""Searches on gradients that are estimated from scores: where they start, how they end, and what they cost."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import AttackResult, Effort, spent
from benchmark.attacks.engine.budget import EOT_REPEATS
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Best, Rows
from benchmark.attacks.engine.shrinking import shrink
from benchmark.attacks.engine.starts import bisect, far_images, nearest_other
from benchmark.modes import same_draws
from benchmark.threat import Norm
from benchmark.twin import is_randomised

QUERIES: Final[dict[Effort, int]] = {"quick": 4_000, "standard": 10_000, "thorough": 40_000}
"""Images that the model is shown for each sample, at most, besides those of the pool."""

PROBES: Final = 40
"""Images an estimate, besides the one at which it is made."""

START: Final = 11
"""Images that the model is shown for a sample before a search, if the pool has one to start from."""

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


def repeats_of(model: nn.Module, x: Tensor) -> int:
    """Calls to average an image: several of a randomised model (expectation over transformation)."""
    return EOT_REPEATS if is_randomised(model, x[:2]) else 1


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
        oracle = make(model, generator, repeats=repeats_of(model, x))

        def search(rows: Rows, best: Best, left: int) -> None:
            rows.delta = best.delta[rows.sample].clone()
            shrink(oracle, rows, norm, steps=left // oracle.cost)
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
    """Search from the boundary (see `started`); ``search`` is given a row for each sample that has an example.

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
    best, attacked = started(oracle, x, y, norm=norm, pool=pool, generator=generator)
    found = torch.isfinite(best.distance).nonzero().squeeze(1)
    if len(found):
        search(Rows(found, x[attacked], y[attacked]), best, max(budget - reserve(oracle), 0))
    return AttackResult(best.images(x, attacked))


def started(
    oracle: Oracle, x: Tensor, y: Tensor, *, norm: Norm, pool: Tensor | None, generator: torch.Generator
) -> tuple[Best, Tensor]:
    """Examples on the boundary on the way to the nearest image of another class; where there is none, to far images.

    Returns:
        The nearest of each sample that is classified correctly, and the indices of these, shape (m,).
    """
    attacked = oracle.attacked(x, oracle.margins(x, y))
    images, labels = x[attacked], y[attacked]
    best = Best.empty(images, norm)
    if not len(attacked):
        return best, attacked
    others = x if pool is None else pool
    near = nearest_other(images, others, oracle.met_by(oracle.predicted(others), labels), norm, count=1)[:, 0]
    known = (near >= 0).nonzero().squeeze(1)
    rest = (near < 0).nonzero().squeeze(1)
    starts = [Rows(known, images, labels, start=others[near[known]])]
    starts += [Rows(rest, images, labels, start=far[rest]) for far in far_images(images, generator)]
    for rows in (start for start in starts if len(start.sample)):
        bisect(oracle, rows, norm)
        best.merge(rows, 0)
    return best, attacked


def reserve(oracle: Oracle) -> int:
    """Images that the model is shown for a sample before a search."""
    return START if oracle.repeats == 1 else 2 * START * oracle.repeats
