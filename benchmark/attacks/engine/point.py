"""The engine at one ε: is there an adversarial example within it, for the samples for which nobody knows yet?

The same families as for the curve, but aimed at the ball's radius and stopped at a sample's first example: ascents from
the clean image, from the way to the nearest image of another class and towards the likeliest classes, other samples'
perturbations, and random searches followed by ascents.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmark.attacks import AttackResult
from benchmark.attacks.engine.budget import EOT_REPEATS, LARGEST_POOL
from benchmark.attacks.engine.convolutions import faster_convolutions
from benchmark.attacks.engine.corners import random_corner
from benchmark.attacks.engine.oracle import Oracle, find_batch_size, frozen
from benchmark.attacks.engine.reliability import Checks, look_at_outputs, reliability_flags
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import cosine, sparse_ascent
from benchmark.attacks.engine.starts import nearest_other
from benchmark.modes import same_draws
from benchmark.threat import Norm, norms_of, project_ball_
from benchmark.verification import needed_lead

NORMS: Final = ("linf", "l2", "l1")
"""The norms in which the families have steps."""

_RIVALS: Final = 4
"""Likeliest other classes that ascents aim at."""

_DONORS: Final = 16
"""Perturbations of other samples that each tries."""

_ROUNDS: Final = 4
"""Random searches from the most promising point."""

_FLIPS: Final = 200
"""Passes of each of them in linf, where they need no gradient."""

_STEPS: Final = 20
"""Steps of each ascent."""

_SPARSITY: Final = (0.1, 0.005)
"""Share of the coordinates that a step in l1 moves, at the start and the end."""


@dataclass
class _Point:
    """What is known of each sample: the most promising perturbation within the ball so far, and its margin.

    Attributes:
        oracle: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The ball's norm.
        eps: Its radius.
        delta: Perturbations, shape (n, d).
        margin: Their margins, shape (n,): positive where the sample is broken.
        generator: Source of all draws.
        gradients: Whether the model's outputs have any; without them only forward passes are made.
    """

    oracle: Oracle
    x: Tensor
    y: Tensor
    norm: Norm
    eps: float
    delta: Tensor
    margin: Tensor
    generator: torch.Generator
    gradients: bool

    def left(self) -> Tensor:
        """Indices of the samples that are not broken."""
        return (self.margin <= 0).nonzero().squeeze(1)

    def rows(self, sample: Tensor, delta: Tensor | None = None, target: Tensor | None = None) -> Rows:
        """One row for each of some samples, from perturbations (m, d), shortened to the ball."""
        rows = Rows(sample, self.x, self.y, target=target)
        if delta is not None:
            rows.delta = self.within(delta.clone())
        return rows

    def within(self, delta: Tensor) -> Tensor:
        """The perturbations (m, d), projected onto the ball in place."""
        return project_ball_(delta, self.norm, torch.full((len(delta),), self.eps, device=delta.device))

    def look(self, rows: Rows, margin: Tensor) -> None:
        """Keep what is more promising than what is known; margins of the rows' perturbations, shape (m,)."""
        highest = torch.full_like(self.margin, -torch.inf).scatter_reduce_(0, rows.sample, margin, "amax")
        wins = ((margin >= highest[rows.sample]) & (margin > self.margin[rows.sample])).nonzero().squeeze(1)
        self.margin[rows.sample[wins]] = margin[wins]
        self.delta[rows.sample[wins]] = rows.delta[wins]

    def ascend(self, rows: Rows, *, steps: int = _STEPS, step: tuple[float, float] = (0.5, 0.02)) -> None:
        """Follow the margin's gradient inside the ball; rows whose sample is broken leave."""
        for k in range(steps if self.gradients else 0):
            rows = _kept(rows, self.margin[rows.sample] <= 0)
            if not len(rows.sample):
                return
            images = rows.images()
            margin, gradient = self.oracle.gradients(images, rows.y, rows.target)
            self.look(rows, margin)
            length = self.eps * cosine(step, k, steps)
            if self.norm == "l1":
                count = max(1, int(cosine(_SPARSITY, k, steps) * gradient.shape[1]))
                rows.delta.add_(sparse_ascent(rows, gradient, count).mul_(length))
                rows.clip_()
            else:
                direction = gradient.sign() if self.norm == "linf" else normalize(gradient, eps=1e-30)
                rows.delta.add_(direction, alpha=length)
            self.within(rows.delta)
        rows = _kept(rows, self.margin[rows.sample] <= 0)
        if len(rows.sample):
            self.look(rows, self.oracle.margins(rows.images(), rows.y))


def _kept(rows: Rows, these: Tensor) -> Rows:
    if bool(these.all()):
        return rows
    chosen = copy.copy(rows)
    for name in ("sample", "x", "y", "target", "delta", "best", "distance"):
        setattr(chosen, name, getattr(rows, name)[these])
    return chosen


def attack_within(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, eps: float, seed: int, pool: Tensor | None
) -> AttackResult:
    """Look for adversarial examples within ε.

    Args:
        model: Classifier in eval mode, images in [0, 1] -> logits (n, k).
        x: Images, shape (n, c, h, w), float32.
        y: Labels, shape (n,), int64.
        norm: One of `NORMS`.
        eps: The radius, in the norm's own unit, > 0.
        seed: The same seed gives the same result on the same machine.
        pool: Images of the same dataset to start from, or None for ``x`` itself.

    Returns:
        Candidates; the clean image where there is none.
    """
    with frozen(model) as classifier, same_draws(x.device, seed):
        outputs = look_at_outputs(classifier, x)
        oracle = Oracle(
            classifier,
            batch_size=find_batch_size(classifier, x),
            repeats=EOT_REPEATS if outputs.randomised else 1,
            probabilities=outputs.probabilities,
            noise=0.0 if outputs.randomised else needed_lead(classifier, x, y),
        )
        generator = torch.Generator(x.device).manual_seed(seed)
        zero = torch.zeros_like(x.flatten(1))
        point = _Point(oracle, x, y, norm, eps, zero, oracle.margins(x, y), generator, outputs.gradients)
        attacked = point.margin <= 0
        with faster_convolutions(classifier, x):
            for rows in _starts(point, x if pool is None else pool):
                point.ascend(rows)
            for _ in range(_ROUNDS):
                _exchange(point)
                _shake(point)
    adversarials = x.clone()
    broken = attacked & (point.margin > 0)
    adversarials[broken] = (x.flatten(1) + point.delta).clamp_(0, 1).view_as(x)[broken]
    flags = reliability_flags(outputs, Checks(non_finite_gradients=oracle.non_finite))
    return AttackResult(adversarials, flags)


def _starts(point: _Point, pool: Tensor) -> Iterator[Rows]:
    """Rows to ascend from, the cheapest to break with first; each yield sees only who is left."""
    if not len(point.left()):
        return
    yield point.rows(point.left())
    left = point.left()
    if len(left):
        pool = pool[:: max(1, len(pool) // LARGEST_POOL)]
        predicted = point.oracle.logits(pool).argmax(dim=1)
        near = nearest_other(point.x[left], point.y[left], pool, predicted, point.norm, count=1)[:, 0]
        left, near = left[near >= 0], near[near >= 0]
        yield point.rows(left, pool[near].flatten(1) - point.x[left].flatten(1))
    left = point.left()
    if len(left):
        logits = point.oracle.logits(point.x[left]).scatter(1, point.y[left, None], -torch.inf)
        ranked = logits.argsort(dim=1, descending=True)[:, : min(_RIVALS, logits.shape[1] - 1)]
        yield reduce(operator.add, [point.rows(left, target=target) for target in ranked.unbind(dim=1)])


def _exchange(point: _Point) -> None:
    """Try other samples' perturbations, those of broken ones first, and ascend from the best of them."""
    left = point.left()
    if not len(left) or len(point.x) == 1:
        return
    worth = point.margin + torch.where(point.margin > 0, 1e6, 0.0)
    chance = torch.rand((len(left), len(point.x)), generator=point.generator, device=point.x.device)
    chance = chance + (worth > 0).float() * 0.5
    chance[torch.arange(len(left), device=left.device), left] = -1
    donors = chance.topk(min(_DONORS, len(point.x) - 1), dim=1).indices
    best, margin = point.delta[left].clone(), torch.full((len(left),), -torch.inf, device=left.device)
    for donor in donors.unbind(dim=1):
        rows = point.rows(left, point.delta[donor])
        given = point.oracle.margins(rows.images(), rows.y)
        point.look(rows, given)
        best = torch.where((given > margin)[:, None], rows.delta, best)
        margin = torch.maximum(margin, given)
    open_ = point.margin[left] <= 0
    point.ascend(point.rows(left[open_], best[open_]), steps=_STEPS // 2, step=(0.3, 0.02))


def _shake(point: _Point) -> None:
    """Leave the basin of the best point: in linf by a random search of corners, else by noise; then ascend."""
    left = point.left()
    if not len(left):
        return
    rows = point.rows(left, point.delta[left])
    if point.norm == "linf":
        radius = torch.full_like(rows.distance, point.eps)
        random_corner(point.oracle, rows, "linf", radius=radius, steps=_FLIPS, generator=point.generator)
        met = torch.isfinite(rows.distance)
        rows.delta = torch.where(met[:, None], rows.best, rows.delta)
        point.look(rows, point.oracle.margins(rows.images(), rows.y))
    else:
        noise = torch.randn(rows.delta.shape, generator=point.generator, device=rows.x.device)
        length = norms_of(rows.delta, "l2") / norms_of(noise, "l2")
        rows.delta = point.within(rows.delta + noise * 2 * length[:, None])
    point.ascend(_kept(rows, point.margin[left] <= 0), step=(0.3, 0.01))
