"""The engine at one ε: is there an adversarial example within it, for the samples for which nobody knows yet?

The same families as for the curve, each sample's until its first example within ε. In linf they stay inside the ball:
ascents from the clean image, from the way to the nearest image of another class and towards the likeliest classes,
other samples' perturbations, and random searches followed by ascents. In l2 and l1 that leads to the ball's surface,
and mostly no farther: there searches leave the ball, and come back by descents along the boundary (`point_nearest`).
Where all of this is blind, or has few samples to learn from, what is left is searched for the nearest example as well.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import AttackResult
from benchmark.attacks.engine.budget import LARGEST_POOL
from benchmark.attacks.engine.convolutions import faster_convolutions
from benchmark.attacks.engine.corners import random_corner
from benchmark.attacks.engine.oracle import Oracle, frozen
from benchmark.attacks.engine.point_nearest import search_until
from benchmark.attacks.engine.reliability import (
    Checks,
    look_at_outputs,
    oracle_of,
    reliability_flags,
    share_of,
    share_of_several,
)
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.search import nearest_examples
from benchmark.attacks.engine.shrinking import cosine
from benchmark.attacks.engine.stages import search_blindly
from benchmark.attacks.engine.starts import nearest_other
from benchmark.attacks.engine.state import FAMILIES, Search, origins
from benchmark.flags import zero_gradients_are_many
from benchmark.modes import same_draws
from benchmark.threat import Norm, distances

NORMS: Final = ("linf", "l2", "l1")
"""The norms in which the families have steps."""

_RIVALS: Final = 4
"""Likeliest other classes that ascents aim at."""

_DONORS: Final = 16
"""Perturbations of other samples that each tries."""

_HALVINGS: Final = 6
"""How often the samples that are left are halved to the most promising, each half for twice as many rounds."""

_FLIPS: Final = 200
"""Passes of each random search in linf, which needs no gradient."""

_STEPS: Final = 20
"""Steps of each ascent."""

_FINE: Final = (0.3, 0.01)
"""Their length, of ε, at the start and the end, from a point that is good already."""

_BLIND: Final = 1000
"""Steps of the random search in l2 and l1, where it is all there is."""

_CHECK: Final = 200
"""Steps of the same where it is the check on what searches with gradients have found."""

_CHECKED: Final = (0.1, 2, 10)
"""Share of the samples that are left on which it is run, and how many these are at least and at most."""

_FEW: Final = 4
"""So few samples attacked hardly help each other, and are searched for their nearest examples, too."""

_RISE: Final = 0.02
"""Of the clean lead: how much farther than gradients a random search must come on a sample where they mislead."""


class _Point:
    """The most promising perturbation of each sample within the ball, and the search that takes what breaks it.

    Attributes:
        search: The samples, and the radius of the ball, `Search.until`.
        delta: Perturbations, shape (n, d).
        margin: Their margins, shape (n,): positive where the sample is broken.
        gradients: Whether the model's outputs have any; without them only forward passes are made.
    """

    def __init__(self, search: Search, *, gradients: bool) -> None:
        self.search, self.gradients = search, gradients
        self.delta = torch.zeros_like(search.best.x)
        self.margin = -search.scale

    def left(self, most: int | None = None) -> Tensor:
        """Indices of the samples that are not broken, or of the ``most`` whose margins have risen highest."""
        left = (self.margin <= 0).nonzero().squeeze(1)
        if most is None or len(left) <= most:
            return left
        return left[(self.margin / self.search.scale)[left].topk(most).indices]

    def note(self, family: str) -> None:
        """Put the samples that are broken since the last time down to a family."""
        new = ((self.margin > 0) & torch.isinf(self.search.best.distance)).nonzero().squeeze(1)
        self.search.best.take(new, self.delta[new], torch.ones_like(new, dtype=torch.bool), FAMILIES.index(family))

    def rows(self, sample: Tensor, delta: Tensor | None = None, target: Tensor | None = None) -> Rows:
        """One row for each of some samples, from perturbations (m, d), shortened to the ball."""
        rows = Rows(sample, self.search.x, self.search.y, target=target)
        if delta is not None:
            rows.delta = self.within(delta.clone())
        return rows

    def within(self, delta: Tensor) -> Tensor:
        """The perturbations (m, d), projected onto the ball in place."""
        return delta.clamp_(-self.search.until, self.search.until)

    def look(self, rows: Rows, margin: Tensor) -> None:
        """Keep what is more promising than what is known; margins of the rows' perturbations, shape (m,)."""
        highest = torch.full_like(self.margin, -torch.inf).scatter_reduce_(0, rows.sample, margin, "amax")
        wins = ((margin >= highest[rows.sample]) & (margin > self.margin[rows.sample])).nonzero().squeeze(1)
        self.margin[rows.sample[wins]] = margin[wins]
        self.delta[rows.sample[wins]] = rows.delta[wins]

    def ascend(self, rows: Rows, *, steps: int = _STEPS, step: tuple[float, float] = (0.5, 0.02)) -> None:
        """Follow the margin's gradient inside the ball; rows whose sample is broken leave."""
        for k in range(steps if self.gradients else 0):
            rows = rows[self.margin[rows.sample] <= 0]
            if not len(rows.sample):
                return
            images = rows.images()
            margin, gradient = self.search.oracle.gradients(images, rows.y, rows.target)
            self.look(rows, margin)
            rows.delta.add_(gradient.sign(), alpha=self.search.until * cosine(step, k, steps))
            self.within(rows.delta)
        rows = rows[self.margin[rows.sample] <= 0]
        if len(rows.sample):
            self.look(rows, self.search.oracle.margins(rows.images(), rows.y))


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
        oracle = oracle_of(classifier, x, y, outputs=outputs)
        margin = oracle.margins(x, y)
        attacked = oracle.attacked(x, margin)
        if not len(attacked):
            return AttackResult(x.clone(), reliability_flags(outputs, Checks()), [""] * len(x))
        search = Search(
            oracle,
            x[attacked],
            y[attacked],
            norm=norm,
            scale=margin[attacked].neg().clamp_(min=1e-12),
            generator=torch.Generator(x.device).manual_seed(seed),
            until=eps,
        )
        others = x if pool is None else pool
        flat = _without_gradient(search) if outputs.gradients else torch.zeros_like(attacked, dtype=torch.bool)
        zero = share_of(flat)
        with faster_convolutions(classifier, x):
            if norm == "linf":
                checks = Checks(misled=_inside(_Point(search, gradients=outputs.gradients), others))
            elif outputs.gradients:
                search_until(search)
                checks = _checked(search, others, blind=zero_gradients_are_many(zero))
            else:
                search_blindly(search, others, steps=_BLIND)
                checks = Checks()
        best = search.best
        if norm != "linf":
            best.distance[best.distance > eps] = torch.inf
        seen = replace(checks, zero_gradients=zero, non_finite_gradients=oracle.non_finite)
        found = AttackResult(
            best.images(x, attacked), reliability_flags(outputs, seen), origins(best, attacked, len(x))
        )
        far = torch.isinf(best.distance)
        if not outputs.gradients or zero_gradients_are_many(zero) or len(attacked) <= _FEW:
            far |= far.any()  # those that are broken have something to exchange
        else:
            far &= flat
        if not len(again := attacked[far]):
            return found
        nearest = nearest_examples(
            Oracle, classifier, x[again], y[again], y[again], norm=norm, effort="quick", seed=seed, pool=others
        )
    return _joined(found, nearest, again, distances(x[again], nearest.adversarials, norm) <= eps)


def _joined(found: AttackResult, nearest: AttackResult, sample: Tensor, near: Tensor) -> AttackResult:
    """What was found, and where it has nothing those nearest examples of samples (m,) that are ``near`` (m,)."""
    candidates, origin, fallback = found.adversarials.clone(), list(found.origin), found.adversarials.clone()
    for k, i in enumerate(sample.tolist()):
        if near[k] and nearest.origin[k] and not origin[i]:
            candidates[i], origin[i] = nearest.adversarials[k], nearest.origin[k]
    if nearest.fallback is not None:
        fallback[sample] = nearest.fallback
    return AttackResult(candidates, found.flags, origin, fallback)


def _without_gradient(search: Search) -> Tensor:
    """Which samples' gradient is zero at the clean image, shape (n,), bool."""
    _, gradient = search.oracle.gradients(search.x, search.y)
    return (gradient == 0).all(dim=1)


def _checked(search: Search, pool: Tensor, *, blind: bool) -> Checks:
    """Outside linf: a random search on a few samples that are left, on all of them where gradients are blind."""
    left = search.left()
    share, least, most = _CHECKED
    few = left if blind else left[:: max(1, len(left) // min(max(least, round(share * len(left))), most))][:most]
    if not len(few):
        return Checks()
    before = search.best.distance[few].clone()
    free = Search(
        search.oracle,
        search.x[few],
        search.y[few],
        norm=search.norm,
        scale=search.scale[few],
        generator=search.generator,
        until=search.until,
    )
    search_blindly(free, pool, steps=_BLIND if blind else _CHECK)
    nearer = free.best.distance < before
    search.best.take(few[nearer], free.best.delta[nearer], nearer[nearer], FAMILIES.index("gradient-free"))
    return Checks(before=before, single_step=before, gradient_free=free.best.distance)


def _inside(point: _Point, pool: Tensor) -> float:
    """Searches inside a ball of linf; returns the share of samples on which gradients misled (see `_round`)."""
    for family, rows in _starts(point, pool):
        point.ascend(rows)
        point.note(family)
    misled = _round(point, point.left(), settled=False)
    left = len(point.left())
    for k in range(1, _HALVINGS + 1):
        few = math.ceil(left / 2**k)
        for _ in range(math.ceil(left / 2 / max(1, few))):
            _round(point, point.left(few))
    return misled if point.gradients else 0.0


def _round(point: _Point, sample: Tensor, *, settled: bool = True) -> float:
    """Exchange and random search for some samples.

    Unless they are ``settled``, gradients first go on as they will after the random search: what that gains is then its
    own merit.

    Returns:
        Share of the samples on which the random search came clearly farther than gradients had; 0 if too few.
    """
    if not len(sample):
        return 0.0
    _exchange(point, sample)
    point.note("exchange")
    left = sample[point.margin[sample] <= 0]
    if not settled:
        point.ascend(point.rows(left, point.delta[left]), step=_FINE)
        point.note("ascent")
        left = left[point.margin[left] <= 0]
    before = point.margin[left].clone()
    _search_corners(point, left)
    point.note("corner")
    rise = (point.margin[left] - before) / point.search.scale[left]
    farther = (rise > _RISE) | (point.margin[left] > 0)
    return share_of_several(farther)


def _starts(point: _Point, pool: Tensor) -> Iterator[tuple[str, Rows]]:
    """Rows to ascend from, the cheapest to break with first; each yield sees only who is left."""
    if not len(point.left()):
        return
    yield "ascent", point.rows(point.left())
    left = point.left()
    if len(left):
        pool = pool[:: max(1, len(pool) // LARGEST_POOL)]
        x, oracle = point.search.x[left], point.search.oracle
        met = oracle.met_by(oracle.predicted(pool), point.search.y[left])
        near = nearest_other(x, pool, met, "linf", count=1)[:, 0]
        known = near >= 0
        yield "neighbour", point.rows(left[known], pool[near[known]].flatten(1) - x[known].flatten(1))
    left = point.left()
    if len(left):
        ranked = point.search.oracle.ranked(point.search.x[left], point.search.y[left])[:, :_RIVALS]
        yield "aimed", reduce(operator.add, [point.rows(left, target=target) for target in ranked.unbind(dim=1)])


def _exchange(point: _Point, left: Tensor) -> None:
    """Try other samples' perturbations, those of broken ones first, and ascend from the best of them."""
    if len(point.search.x) == 1:
        return
    worth = point.margin + torch.where(point.margin > 0, 1e6, 0.0)
    search = point.search
    chance = torch.rand((len(left), len(search.x)), generator=search.generator, device=left.device)
    chance = chance + (worth > 0).float() * 0.5
    chance[torch.arange(len(left), device=left.device), left] = -1
    donors = chance.topk(min(_DONORS, len(point.search.x) - 1), dim=1).indices
    best, margin = point.delta[left].clone(), torch.full((len(left),), -torch.inf, device=left.device)
    for donor in donors.unbind(dim=1):
        rows = point.rows(left, point.delta[donor])
        given = point.search.oracle.margins(rows.images(), rows.y)
        point.look(rows, given)
        best = torch.where((given > margin)[:, None], rows.delta, best)
        margin = torch.maximum(margin, given)
    open_ = point.margin[left] <= 0
    point.ascend(point.rows(left[open_], best[open_]), steps=_STEPS // 2, step=(0.3, 0.02))


def _search_corners(point: _Point, left: Tensor) -> None:
    """Leave the basin of the best point by a random search, then ascend."""
    if not len(left):
        return
    rows = point.rows(left, point.delta[left])
    radius = torch.full_like(rows.distance, point.search.until)
    steps, generator = _FLIPS, point.search.generator
    random_corner(point.search.oracle, rows, "linf", radius=radius, steps=steps, generator=generator)
    met = torch.isfinite(rows.distance)
    rows.delta = torch.where(met[:, None], rows.best, rows.delta)
    point.look(rows, point.search.oracle.margins(rows.images(), rows.y))
    point.note("gradient-free")
    point.ascend(rows[point.margin[left] <= 0], step=_FINE)
