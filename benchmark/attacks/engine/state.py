"""The state of one run of the engine: the samples, the nearest examples so far, and rows to start searches from."""

from __future__ import annotations

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
)


class Search:
    """One run of the engine on samples that the model classifies correctly.

    Attributes:
        oracle: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm to be small.
        scale: How far the label leads on each clean image, shape (n,).
        best: The nearest examples so far.
        start: What was known before the searches from other images: for the check without gradients.
    """

    def __init__(
        self, oracle: Oracle, x: Tensor, y: Tensor, *, norm: Norm, scale: Tensor, generator: torch.Generator
    ) -> None:
        self.oracle, self.x, self.y, self.norm, self.scale = oracle, x, y, norm, scale
        self.best = Best.empty(x, norm)
        self.start = Best.empty(x, norm)
        self.everyone = torch.arange(len(x), device=x.device)
        self.generator = generator

    def run(self, family: str, rows: Rows, search: Callable[[Oracle, Rows, Norm], None]) -> None:
        """Run a family's searches and keep what they found."""
        if not len(rows.sample):
            return
        search(self.oracle, rows, self.norm)
        self.best.merge(rows, FAMILIES.index(family))

    def found(self) -> Tensor:
        """Indices of the samples with an example."""
        return torch.isfinite(self.best.distance).nonzero().squeeze(1)

    def rows(self, sample: Tensor) -> Rows:
        """One row for each of some samples, from the clean image."""
        return Rows(sample, self.x, self.y)

    def clean(self, target: Tensor | None = None) -> Rows:
        """One row a sample, from the clean image, aimed at a target class (n,) if there is one."""
        return Rows(self.everyone, self.x, self.y, target=target)

    def ranked(self) -> Tensor:
        """The other classes of each sample, likeliest first, shape (n, k - 1)."""
        logits = self.oracle.logits(self.x).scatter(1, self.y[:, None], -torch.inf)
        return logits.argsort(dim=1, descending=True)[:, :-1]

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
