"""ZOO: the engine's shrinking search on a gradient that is measured from scores, some coordinates at a time."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from benchmark.attacks import Attack
from benchmark.attacks.estimation import PROBES, EstimatingOracle, by_estimates


class CoordinateOracle(EstimatingOracle):
    """Slopes along single coordinates, remembered until their turn comes again.

    It belongs to one search: its rows are the same at each call.
    """

    _known: Tensor | None = None
    """What was last measured, shape (n, d); 0 where nothing was."""

    def estimate(self, x: Tensor, y: Tensor) -> Tensor:
        """The symmetric differences of Chen et al. 2017, of the next coordinates of each image; shape (n, d)."""
        n, d = len(x), x[0].numel()
        if self._known is None:
            self._known = torch.zeros((n, d), device=x.device)
            self._order = torch.rand((n, d), generator=self.generator, device=x.device).argsort(dim=1)
            self._next = 0
        turn = (self._next + torch.arange(min(d, PROBES // 2), device=x.device)) % d
        self._next = (self._next + len(turn)) % d
        asked, begun = self._order[:, turn], 0

        def units(count: int) -> Tensor:
            nonlocal begun
            some = asked[:, begun : begun + count]
            begun += count
            along = torch.zeros((n, count, d), device=x.device)
            along[:, : some.shape[1]].scatter_(2, some[:, :, None], 1.0)  # fewer where the image has fewer
            return along

        measured = self.slopes(x, y, units)
        self._known.scatter_(1, asked, measured.gather(1, asked))
        return self._known


ATTACK = Attack(
    name="zoo",
    version=2,
    title="ZOO: a shrinking search on differences of scores, coordinate by coordinate",
    paper="after Chen et al. 2017, arXiv:1708.03999",
    run=partial(by_estimates, CoordinateOracle),
    norms=("linf", "l2"),
    access="scores",
    default=False,
)
