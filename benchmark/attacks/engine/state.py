"""The state of one run of the engine: the samples, the nearest examples so far, and rows to start searches from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Best, Rows
from benchmark.threat import Norm

FAMILIES: Final = (
    "linearised",
    "neighbour",
    "shrinking",
    "primal-dual",
    "descent",
    "polish",
    "single-step",
    "gradient-free",
    "aimed",
    "exchange",
    "kick",
    "corner",
    "ascent",
    "displaced",
)


def origins(best: Best, sample: Tensor, n: int) -> list[str]:
    """The family that found each example, of ``n`` samples, of which ``sample`` (m,) were attacked; or empty."""
    found = [""] * n
    for i, family, distance in zip(sample.tolist(), best.origin.tolist(), best.distance.tolist(), strict=True):
        if math.isfinite(distance):
            found[i] = FAMILIES[family]
    return found


class Search:
    """One run of the engine on samples that the model classifies correctly.

    Attributes:
        oracle: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,); targets, if the oracle is aimed.
        norm: The norm to be small.
        scale: How far the label leads on each clean image, shape (n,).
        best: The nearest examples so far.
        start: What was known before the searches from other images: for the check without gradients.
        until: A sample with an example within this distance needs no further search.
    """

    def __init__(
        self,
        oracle: Oracle,
        x: Tensor,
        y: Tensor,
        *,
        norm: Norm,
        scale: Tensor,
        generator: torch.Generator,
        until: float = 0.0,
    ) -> None:
        self.oracle, self.x, self.y, self.norm, self.scale = oracle, x, y, norm, scale
        self.best = Best.empty(x, norm)
        self.start = Best.empty(x, norm)
        self.generator, self.until = generator, until

    def run(self, family: str, rows: Rows, search: Callable[[Oracle, Rows, Norm], None]) -> Rows:
        """Run a family's searches, keep what they found; returns the rows, without those of samples that are done."""
        rows = rows[self.best.distance[rows.sample] > self.until]
        if len(rows.sample):
            search(self.oracle, rows, self.norm)
            self.best.merge(rows, FAMILIES.index(family))
        return rows

    def left(self) -> Tensor:
        """Indices of the samples that are not done."""
        return (self.best.distance > self.until).nonzero().squeeze(1)

    def found(self) -> Tensor:
        """Indices of the samples that are not done and have an example."""
        return (torch.isfinite(self.best.distance) & (self.best.distance > self.until)).nonzero().squeeze(1)

    def rows(self, sample: Tensor) -> Rows:
        """One row for each of some samples, from the clean image."""
        return Rows(sample, self.x, self.y)

    def clean(self, target: Tensor | None = None) -> Rows:
        """One row for each sample that is not done, from the clean image, perhaps aimed at a target class, (n,)."""
        left = self.left()
        return Rows(left, self.x, self.y, target=None if target is None else target[left])

    def resume(self, sample: Tensor) -> Rows:
        """One row for each of some samples, from its best example."""
        rows = self.rows(sample)
        rows.delta.copy_(self.best.delta[sample])
        rows.best.copy_(rows.delta)
        rows.distance.copy_(self.best.distance[sample])
        return rows

    def known(self) -> Tensor:
        """The best distance of each sample, or the median one where none is known; shape (n,)."""
        found = torch.isfinite(self.best.distance)
        typical = self.best.distance[found].median() if bool(found.any()) else torch.ones((), device=self.x.device)
        return torch.where(found, self.best.distance, typical)
