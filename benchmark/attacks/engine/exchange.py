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
"""Recipients whose draws are held in memory at once."""


def donate(
    oracle: Oracle,
    x: Tensor,
    y: Tensor,
    best: Best,
    recipients: Tensor,
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
        best: What is known of the samples; those with no example take no part.
        recipients: Indices of the samples to find starts for, shape (m,).
        donors: How many other samples each tries, drawn at random, half of them of its own label as far as
            there are so many.
        generator: Source of the draws.
        kept: How many of them become starts.

    Returns:
        At most ``kept`` rows a sample, not all of them adversarial.
    """
    found = torch.isfinite(best.distance)
    recipient, donor = _couples(y, found, recipients[found[recipients]], donors, generator)
    at_once = max(oracle.batch_size, len(x))  # couples whose images are held in memory
    margins = []
    for i in range(0, len(recipient), at_once):
        rows = _rows(x, y, best, recipient[i : i + at_once], donor[i : i + at_once])
        margins.append(oracle.margins(rows.images(), rows.y))
    if not margins:
        return _rows(x, y, best, recipient, donor)
    by_margin = torch.cat(margins).argsort(descending=True, stable=True)
    order = by_margin[recipient[by_margin].argsort(stable=True)]
    # Rows of one recipient now lie together, the best first: a row is kept if that `kept` places before is another's.
    ranked = recipient[order]
    chosen = torch.ones_like(ranked, dtype=torch.bool)
    chosen[kept:] = ranked[kept:] != ranked[:-kept]
    return _rows(x, y, best, recipient[order[chosen]], donor[order[chosen]])


def _couples(
    y: Tensor, found: Tensor, sample: Tensor, donors: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which of the samples tries whose perturbation: indices of recipients and donors, both of shape (m,)."""
    recipients, chosen = [], []
    for some in torch.split(sample, _BLOCK):
        draw = torch.rand((len(some), len(y)), generator=generator, device=y.device)
        draw[:, ~found] = -torch.inf
        draw[torch.arange(len(some), device=y.device), some] = -torch.inf
        same_class = draw.masked_fill(y[some, None] != y[None, :], -torch.inf).topk(min(donors // 2, len(y)), dim=1)
        sooner = torch.where(
            torch.isfinite(same_class.values), same_class.values + 1, draw.gather(1, same_class.indices)
        )
        draw.scatter_(1, same_class.indices, sooner)
        first = draw.topk(min(donors, len(y)), dim=1)
        row, place = torch.isfinite(first.values).nonzero(as_tuple=True)
        recipients.append(some[row])
        chosen.append(first.indices[row, place])
    nobody = torch.zeros(0, dtype=torch.int64, device=y.device)
    return torch.cat([nobody, *recipients]), torch.cat([nobody, *chosen])


def _rows(x: Tensor, y: Tensor, best: Best, recipient: Tensor, donor: Tensor) -> Rows:
    """Rows of the recipients at the donors' perturbations, made as long as the recipients' own."""
    rows = Rows(recipient, x, y)
    given = best.delta[donor]
    length = best.distance[recipient] / norms_of(given, best.norm).clamp(min=1e-12)
    rows.delta = given.mul_(length[:, None])
    return rows
