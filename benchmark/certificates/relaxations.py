"""Lines that enclose an activation or a maximum on an interval (Zhang et al. 2018, arXiv:1811.00866)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from benchmark.certificates.operations import Activation, ChannelMax

SLACK: Final = 1e-9
"""How far a bound is moved outward, relative to one plus its size, beside `Graph.rounding`."""


@dataclass(frozen=True, eq=False)
class Interval:
    """Bounds of one layer's outputs, each of shape (n, *shape of the layer)."""

    lower: Tensor
    upper: Tensor

    def widened(self, error: Tensor) -> Interval:
        """Moved outward by the slack and what rounding can do, of the shape of the layer or of the bounds."""
        return Interval(
            self.lower - SLACK * (1 + self.lower.abs()) - error,
            self.upper + SLACK * (1 + self.upper.abs()) + error,
        )

    def cut(self, other: Interval) -> Interval:
        """What both allow."""
        return Interval(torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper))


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Lines that enclose a layer on its interval: ``lower_slope * z + lower_offset <= f(z) <= upper_slope * z + ...``.

    For a `ChannelMax` the slopes belong to the channels it reads and the offsets to those it writes.

    Attributes:
        lower_slope: Shape (n, *shape).
        upper_slope: Shape (n, *shape).
        lower_offset: Shape (n, *shape), or None for 0.
        upper_offset: Shape (n, *shape).
    """

    lower_slope: Tensor
    upper_slope: Tensor
    lower_offset: Tensor | None
    upper_offset: Tensor

    @staticmethod
    def of(operation: Activation | ChannelMax, z: Interval) -> Relaxation:
        """CROWN's lines for an activation whose input lies in ``z``."""
        if isinstance(operation, ChannelMax):
            return _rectified_max_lines(operation, z) if operation.rectified else _max_lines(operation, z)
        return _relu_lines(z) if operation.kind == "relu" else _softplus_lines(operation, z)


def _relu_lines(z: Interval) -> Relaxation:
    """Upper: the chord. Lower: the identity or 0, whichever leaves the smaller area (the adaptive slope)."""
    low, high = z.lower.clamp(max=0), z.upper.clamp(min=0)
    chord = high / (high - low).clamp(min=1e-300)
    return Relaxation((high > -low).to(low.dtype), chord, None, -chord * low)


def _softplus_lines(operation: Activation, z: Interval) -> Relaxation:
    """Softplus is convex: the chord above it, the tangent at the interval's middle below it."""
    low, high = operation.value(z.lower), operation.value(z.upper)
    width = z.upper - z.lower
    middle = (z.lower + z.upper) / 2
    tangent = operation.slope(middle)
    # On a tiny interval the difference quotient is all rounding; there the slope at the upper end serves, with an
    # offset that puts the line above both ends, hence above the convex function between them.
    chord = torch.where(width > 1e-6, (high - low) / width.clamp(min=1e-6), operation.slope(z.upper))
    above = torch.maximum(low - chord * z.lower, high - chord * z.upper)
    below = operation.value(middle) - tangent * middle
    rounding = 1e-14 * (1 + z.lower.abs() + z.upper.abs()) + operation.switch
    return Relaxation(tangent, chord, below - rounding, above + rounding)


def _max_lines(operation: ChannelMax, z: Interval) -> Relaxation:
    """Lines for ``max(z_1 ... z_s)``.

    Lower: the ``z_i`` with the largest lower bound ``b``. Upper: where ``u_i > b`` its excess over ``b`` is at most
    ``(u_i - b)/(u_i - l_i) * (z_i - l_i)``, and the sum of the excesses bounds the largest; or the constant ``max u``
    where that is lower at the middle. Both are exact where one input dominates.
    """
    lower, upper = (operation.windows(t) for t in (z.lower, z.upper))
    base, winner = lower.max(dim=2, keepdim=True)
    select = torch.zeros_like(lower).scatter_(2, winner, 1.0)
    excess = (upper - base).clamp(min=0)
    slope = excess / (upper - lower).clamp(min=1e-300)
    offset = base.squeeze(2) - (slope * lower).sum(dim=2)
    top = upper.amax(dim=2)
    # At the middle of the intervals the sloped bound is b + sum(excess) / 2.
    flat = excess.sum(dim=2) / 2 >= top - base.squeeze(2)
    slope = torch.where(flat[:, :, None], 0.0, slope)
    return Relaxation(select.flatten(1, 2), slope.flatten(1, 2), None, torch.where(flat, top, offset))


def _rectified_max_lines(operation: ChannelMax, z: Interval) -> Relaxation:
    """Lines for the maximum of ReLUs: those of the maximum through those of the ReLUs (no slope is negative)."""
    relu = _relu_lines(z)
    largest = _max_lines(operation, Interval(z.lower.clamp(min=0), z.upper.clamp(min=0)))
    above = operation.windows(largest.upper_slope * relu.upper_offset).sum(dim=2)
    return Relaxation(
        largest.lower_slope * relu.lower_slope,
        largest.upper_slope * relu.upper_slope,
        None,
        largest.upper_offset + above,
    )


def select(lines: Relaxation, piece: slice | Tensor) -> Relaxation:
    """The lines of some samples."""
    return Relaxation(
        lines.lower_slope[piece],
        lines.upper_slope[piece],
        None if lines.lower_offset is None else lines.lower_offset[piece],
        lines.upper_offset[piece],
    )
