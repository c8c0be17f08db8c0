"""The largest certified radius, in as few trials as it takes.

A trial's margin falls from ``m`` at radius 0 as the ball grows. What it has lost, ``D(eps)``, is close to a power of
``eps`` over any short range: 1 where no activation is unsettled, 5 and more where many become so. So ``D(eps) = m`` is
solved by regula falsi on logarithms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

EVALUATIONS: Final = 16
"""Balls tried a sample at most."""

BELOW: Final = 3.0
"""The power of ``eps`` assumed after a single trial, if that certified its radius."""

ABOVE: Final = 2.0
"""The same, if the trial was refused."""

EXPONENTS: Final = (0.5, 10.0)
"""Powers believed while no radius was refused, or none certified."""

PATIENCE: Final = 2
"""After so many trials that leave more than half of the bracket its middle is tried."""

WIDEST: Final = 4.0
"""How many times the certified radius is tried next at most."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What balls of some radii showed of each sample.

    Attributes:
        reach: The radius certified, at most the ball's; shape (n,).
        margin: The smallest margin's lower bound, shape (n,).
    """

    reach: Tensor
    margin: Tensor


Evaluate = Callable[[Tensor, Tensor], Trial]
"""Tries some samples, given by their indices, within balls of the given radii."""


def largest_radius(
    evaluate: Evaluate, *, margin: Tensor, first: Tensor, low: Tensor, span: float, tolerance: float
) -> Tensor:
    """The largest radius certified by any trial.

    The search ends where a certified and a refused radius differ by the tolerance, or the margin has fallen to the
    tolerance: it falls ever faster, so that the radius at which it is 0 is no further off.

    Args:
        evaluate: Tries samples.
        margin: Margins at radius 0, shape (n,).
        first: Radii to try first; where 0, the sample is left alone.
        low: Radii certified already.
        span: No ball needs to be larger.
        tolerance: Relative.

    Returns:
        Shape (n,), at least ``low``.
    """
    low, trial_eps = low.clone(), first.clamp(max=span)
    high = torch.full_like(low, torch.inf)
    line = _Line.of(low)
    slow = torch.zeros_like(low, dtype=torch.long)
    for _ in range(EVALUATIONS):
        rows = ((high - low > tolerance * high) | torch.isinf(high)).logical_and(trial_eps > 0).nonzero().squeeze(1)
        if not len(rows):
            break
        eps, width = trial_eps[rows], (high - low)[rows]
        trial = evaluate(rows, eps)
        low[rows] = torch.maximum(low[rows], trial.reach)
        refused = trial.reach < eps
        high[rows] = torch.where(refused | (eps >= span), torch.minimum(high[rows], eps), high[rows])
        lost = ((margin[rows] - trial.margin) / margin[rows]).clamp(min=1e-12)
        high[rows] = torch.where(~refused & (lost >= 1 - tolerance), low[rows], high[rows])
        # A little below the expected radius, so that the trial certifies.
        aim = line.with_point(rows, eps.log(), lost.log()).exp() * (1 - tolerance / 4)
        # Lines that leave more than half of the bracket twice are not followed a third time.
        halved = ~((high - low)[rows] > width / 2)
        slow[rows] = torch.where(halved | (slow[rows] == PATIENCE), 0, slow[rows] + 1)
        aim = torch.where(slow[rows] == PATIENCE, (low[rows].clamp(min=1e-3 * eps) * high[rows]).sqrt(), aim)
        trial_eps[rows] = _within(aim, low[rows], high[rows], tolerance).clamp(max=span)
    return low


def _within(aim: Tensor, low: Tensor, high: Tensor, tolerance: float) -> Tensor:
    """The aim, moved inside the bracket; while that is open, neither too near nor too far."""
    opened = torch.isinf(high)
    step = tolerance / 4 * torch.where(opened, low, high)
    return aim.maximum(low + step).minimum(torch.where(opened, WIDEST * low, high - step))


@dataclass(frozen=True, eq=False)
class _Line:
    """Where each sample's margin is expected to be lost: regula falsi on logarithms, by Illinois' rule.

    Attributes:
        ends: The last trial that kept a margin and the last that lost it, as log radius and log share of the margin
            lost: shape (2, 2, n), NaN before there is one.
        side: Which of the two was the last, shape (n,); -1 before the first.
    """

    ends: Tensor
    side: Tensor

    @staticmethod
    def of(like: Tensor) -> _Line:
        """Before the first trial."""
        return _Line(like.new_full((2, 2, len(like)), torch.nan), torch.full_like(like, -1, dtype=torch.long))

    def with_point(self, rows: Tensor, at: Tensor, lost: Tensor) -> Tensor:
        """Take in a trial of some samples; the expected log radius."""
        side = (lost >= 0).long()
        before = self.ends[side, :, rows]
        self.ends[side, 0, rows], self.ends[side, 1, rows] = at, lost
        # Where the same end moves twice, the other one is taken for half as far off: the line then overshoots.
        self.ends[1 - side, 1, rows] *= torch.where(self.side[rows] == side, 0.5, 1.0)
        self.side[rows] = side
        other = self.ends[1 - side, :, rows]
        both = torch.isfinite(other[:, 0])
        x, y = torch.where(both[:, None], other, before).unbind(dim=1)
        power = (lost - y) / (at - x)
        power = torch.where(torch.isfinite(power), power, torch.where(lost < 0, BELOW, ABOVE))
        power = torch.where(both, power.clamp(min=1e-3), power.clamp(*EXPONENTS))
        return at - lost / power
