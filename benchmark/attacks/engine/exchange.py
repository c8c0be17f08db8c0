"""Exchange: a perturbation that was found for one sample is a start for the others.

Directions that cross a network's boundary early are shared by many images (universal perturbations,
Moosavi-Dezfooli et al. 2017, arXiv:1610.08401), and a basin that one sample's search happened to fall into is mostly
there for others as well. Trying a stranger's perturbation costs one forward pass, finding it anew costs a search.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Best, Rows
from benchmark.threat import norms_of

_BLOCK = 1000
"""Takers whose draws are held in memory at once."""


def donate(
    oracle: Oracle,
    x: Tensor,
    y: Tensor,
    best: Best,
    takers: Tensor,
    *,
    donors: int,
    generator: torch.Generator,
    kept: int = 2,
) -> Rows:
    """Starts for each sample: the perturbations of other samples, scaled to its own distance, that lead farthest.

    Args:
        oracle: The model; one forward pass for each sample and donor.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        best: What is known of the samples; those with no example neither give nor take.
        takers: Indices of the samples to find starts for, shape (m,).
        donors: How many other samples each tries, drawn at random, half of them of its own label as far as
            there are so many.
        generator: Source of the draws.
        kept: How many of them become starts.

    Returns:
        At most ``kept`` rows a sample, not all of them adversarial.
    """
    found = torch.isfinite(best.distance)
    taker, giver = _couples(y, found, takers[found[takers]], donors, generator)
    at_once = max(oracle.batch_size, len(x))  # couples whose images are held in memory
    margins = []
    for i in range(0, len(taker), at_once):
        rows = _rows(x, y, best, taker[i : i + at_once], giver[i : i + at_once])
        margins.append(oracle.margins(rows.images(), rows.y))
    if not margins:
        return _rows(x, y, best, taker, giver)
    by_margin = torch.cat(margins).argsort(descending=True, stable=True)
    order = by_margin[taker[by_margin].argsort(stable=True)]
    # Rows of one taker now lie together, the best first: a row is kept if the one `kept` places before is another's.
    ranked = taker[order]
    chosen = torch.ones_like(ranked, dtype=torch.bool)
    chosen[kept:] = ranked[kept:] != ranked[:-kept]
    return _rows(x, y, best, taker[order[chosen]], giver[order[chosen]])


def _couples(
    y: Tensor, found: Tensor, sample: Tensor, donors: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which of the samples tries whose perturbation: indices of takers and givers, both of shape (m,)."""
    takers, givers = [], []
    for some in torch.split(sample, _BLOCK):
        draw = torch.rand((len(some), len(y)), generator=generator, device=y.device)
        draw[:, ~found] = -torch.inf
        draw[torch.arange(len(some), device=y.device), some] = -torch.inf
        kin = draw.masked_fill(y[some, None] != y[None, :], -torch.inf).topk(min(donors // 2, len(y)), dim=1)
        sooner = torch.where(torch.isfinite(kin.values), kin.values + 1, draw.gather(1, kin.indices))
        draw.scatter_(1, kin.indices, sooner)
        first = draw.topk(min(donors, len(y)), dim=1)
        row, place = torch.isfinite(first.values).nonzero(as_tuple=True)
        takers.append(some[row])
        givers.append(first.indices[row, place])
    nobody = torch.zeros(0, dtype=torch.int64, device=y.device)
    return torch.cat([nobody, *takers]), torch.cat([nobody, *givers])


def _rows(x: Tensor, y: Tensor, best: Best, taker: Tensor, giver: Tensor) -> Rows:
    """Rows of the takers at the givers' perturbations, made as long as the takers' own."""
    rows = Rows(taker, x, y)
    given = best.delta[giver]
    length = best.distance[taker] / norms_of(given, best.norm).clamp(min=1e-12)
    rows.delta = given.mul_(length[:, None])
    return rows
