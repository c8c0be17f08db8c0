"""The engine's stages: from a search's state to rows that have been searched, or are to be."""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import partial, reduce
from itertools import cycle, islice

import torch
from torch import Tensor

from benchmark.attacks.engine.budget import KICK, LARGEST_POOL, NOISE, PRIMAL_DUAL, SHORTER, Budget
from benchmark.attacks.engine.displaced import displace
from benchmark.attacks.engine.exchange import donate
from benchmark.attacks.engine.gradient_free import random_search
from benchmark.attacks.engine.linearised import REGION, descend, linearise
from benchmark.attacks.engine.primal_dual import primal_dual
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import geometric, shrink
from benchmark.attacks.engine.starts import bisect, far_images, nearest_other
from benchmark.attacks.engine.state import Search
from benchmark.threat import norms_of


def neighbours(search: Search, pool: Tensor, count: int) -> Rows:
    """Go to the boundary on the way to the nearest images that meet the goal; to far images if there are none."""
    pool = pool[:: max(1, len(pool) // LARGEST_POOL)]
    met = search.oracle.met_by(search.oracle.predicted(pool), search.y)
    near = nearest_other(search.x, pool, met, search.norm, count=count + (search.norm == "linf"))
    sample, which = (near >= 0).nonzero(as_tuple=True)
    rows = Rows(sample, search.x, search.y, start=pool[near[sample, which]])
    search.run("neighbour", rows, bisect)
    lost = torch.isinf(search.best.distance).nonzero().squeeze(1)
    if len(lost):
        for images in far_images(search.x[lost], search.generator):
            search.run("neighbour", Rows(lost, search.x, search.y, start=images), bisect)
    search.start = replace(search.best, delta=search.best.delta.clone(), distance=search.best.distance.clone())
    return rows


def search_blindly(search: Search, pool: Tensor, count: int = 1, *, steps: int) -> None:
    """For a model without gradients: random search alone, from the boundary on the way to other images."""
    near = neighbours(search, pool, count)
    random = partial(random_search, steps=steps, generator=search.generator)
    search.run("gradient-free", near.nearest(1), random)


def searches(search: Search, budget: Budget) -> Rows:
    """Searches from the clean image and from noisy ones, primal–dual and shrinking in turn; the rows to go on with.

    Several of a sample's searches go on, as the nearest so far need not end nearest.
    """
    kept = search.rows(search.left()[:0])
    for i, noise in enumerate((0.0, *islice(cycle(NOISE), budget.noisy))):
        rows = search.clean()
        rows.delta = torch.rand(rows.delta.shape, generator=search.generator, device=rows.x.device)
        rows.delta.mul_(2 * noise).sub_(noise)
        if i % 2:
            rows = search.run("shrinking", rows, partial(shrink, steps=budget.search, step=(1.0, 0.01)))
        else:
            step, ratio = PRIMAL_DUAL[search.norm][noise > 0]
            rows = search.run(
                "primal-dual",
                rows,
                partial(
                    primal_dual,
                    steps=budget.search,
                    scale=search.scale[rows.sample],
                    known=search.known()[rows.sample],
                    step=(step, 0.003),
                    dual_ratio=ratio,
                ),
            )
        rows = search.run("descent", rows, partial(descend, steps=budget.settle))
        kept = (kept + rows).nearest(budget.finished)
    return kept


def aim(search: Search, budget: Budget) -> Rows:
    """Short descents from the clean image towards each of the likeliest other classes; the two nearest rows."""
    targets = search.oracle.ranked(search.x, search.y)[:, : budget.targets].unbind(dim=1)
    at_once = max(1, search.oracle.batch_size // len(search.x))  # as many as fill a batch, to bound the memory
    kept = search.rows(search.left()[:0])
    for i in range(0, len(targets) if len(search.left()) else 0, at_once):
        rows = reduce(operator.add, [search.clean(target) for target in targets[i : i + at_once]])
        linearise(search.oracle, rows, search.norm, steps=2)
        rows = search.run("aimed", rows, partial(descend, steps=budget.aim, region=(0.3, 0.03)))
        kept = (kept + rows).nearest(2)
    return kept


def race(search: Search, family: str, rows: Rows, *, steps: int, kept: int) -> None:
    """Descend from each row for a third of the steps, and for the rest from each sample's ``kept`` nearest alone.

    How near a descent will end is mostly seen by then: of the gain of two of the others' perturbations nine tenths are
    those of the one that is nearer after five steps of twenty.
    """
    first = max(1, steps // 3)
    wide, narrow = REGION
    middle = geometric(REGION, first / max(1, steps - 1))
    rows = search.run(family, rows, partial(descend, steps=first, region=(wide, middle)))
    search.run(family, rows.nearest(kept), partial(descend, steps=steps - first, region=(middle, narrow)))


def displaced(search: Search, sample: Tensor, budget: Budget) -> Tensor:
    """Move parts of the samples' best perturbations at random, made slightly shorter, and descend from there.

    Returns:
        What the moves alone, without a gradient, made of the distances: each ÷ what it was, shape (m,).
    """
    before = search.best.distance[sample].clone()
    rows = search.resume(sample)
    radius = rows.distance * SHORTER
    rows.distance.fill_(torch.inf)  # the descent is to go on from what was moved
    moves = partial(displace, radius=radius, steps=budget.trials, generator=search.generator)
    search.run("displaced", rows, moves)
    gains = search.best.distance[sample] / before
    search.run("displaced", rows, partial(descend, steps=budget.descent))
    return gains


def donated(search: Search, sample: Tensor, budget: Budget) -> Rows:
    """Rows of some samples at the most promising of other samples' perturbations."""
    return donate(
        search.oracle, search.x, search.y, search.best, sample, donors=budget.donors, generator=search.generator
    )


def kicked(search: Search, sample: Tensor) -> Rows:
    """One row for each of some samples, at its best perturbation plus Gaussian noise."""
    rows = search.rows(sample)
    best = search.best.delta[sample]
    noise = torch.randn(best.shape, generator=search.generator, device=best.device)
    typical = norms_of(best, "l2") / best.shape[1] ** 0.5
    rows.delta = best.addcmul_(noise, (KICK[search.norm][0] * typical)[:, None])
    return rows
