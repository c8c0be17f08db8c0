"""Linear bounds of every layer over balls around images: interval propagation and CROWN.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715) pushes an interval through the layers one by one. CROWN
(Zhang et al. 2018, arXiv:1811.00866) replaces each activation by two lines that enclose it on its interval and carries
linear functions of a layer back to the image, where their extremes over the ball are known in closed form.

Floating point: all is computed in float64, and every bound of a neuron is moved outward by `SLACK` relative to one plus
its size. Rounding in a float64 sum of a million terms is at worst 1e-10, and about 1e-13 in practice, of the sum of
their magnitudes: the slack covers networks whose inner terms exceed their sums by up to four orders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from benchmark.certificates.ball import Ball
from benchmark.certificates.coefficients import Coefficients, Dense, Patches, add, simplest, to_dense
from benchmark.certificates.graph import Graph
from benchmark.certificates.operations import (
    Activation,
    ChannelMax,
    Convolution,
    Elementwise,
    Input,
    Linear,
    Operation,
    Reshape,
    Sum,
)

Method = Literal["crown", "ibp"]

Use = Literal["signs", "positive", "all"]
"""What of a layer's interval counts: where its sign is open; where it is positive too (ReLU, then a maximum); all."""

USES: Final[tuple[Use, ...]] = get_args(Use)

SLACK: Final = 1e-9
"""How far a bound is moved outward, relative to one plus its size."""

CPU_ELEMENTS: Final = 2**19
"""Coefficients held at once on the CPU: larger tensors leave the cache and the allocator's free lists."""

CUDA_ELEMENTS: Final = 2**27
"""Coefficients held at once on an accelerator (1 GiB a tensor)."""

AFFORDABLE: Final = 2**25
"""Coefficients a sample, for all neurons of a layer, above which the layer keeps its interval bounds.

The second convolution of a LeNet with 12,544 neurons (2.9e7) is below: CROWN bounds of its unsettled neurons triple the
time of a trial, and the radii grow by a third in linf and to twice their size in l1.
"""


@dataclass(frozen=True, eq=False)
class Interval:
    """Bounds of one layer's outputs, each of shape (n, *shape of the layer)."""

    lower: Tensor
    upper: Tensor

    def widened(self) -> Interval:
        """Moved outward by the slack."""
        return Interval(
            self.lower - SLACK * (1 + self.lower.abs()),
            self.upper + SLACK * (1 + self.upper.abs()),
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
    rounding = 1e-14 * (1 + z.lower.abs() + z.upper.abs())
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


@dataclass(frozen=True, eq=False)
class LinearBound:
    """Lower bounds of linear functions of one layer, as linear functions of earlier layers, valid on a ball.

    Attributes:
        rows: Coefficients by layer: on the image (layer 0), and on the non-linear layers they were stopped at.
        constant: Shape (n or 1, rows).
    """

    rows: Mapping[int, Coefficients]
    constant: Tensor

    def smallest(self, ball: Ball, intervals: Sequence[Interval] = ()) -> Tensor:
        """The bound's minimum over each ball and, for other layers than the image, their intervals: (n, rows)."""
        total = self.constant
        for i, rows in self.rows.items():
            if i == 0:
                total = total + rows.smallest(ball)
            else:
                total = total + rows.positive().dot(intervals[i].lower) + rows.negative().dot(intervals[i].upper)
        return total

    def on_image(self) -> Tensor:
        """The coefficients on the image, flat: (n or 1, rows, d)."""
        return to_dense(self.rows[0]).data.flatten(2)


def backward(graph: Graph, node: int, rows: Coefficients, relaxations: Mapping[int, Relaxation]) -> LinearBound:
    """Carry linear functions of a layer back towards the image, keeping lower bounds of them.

    Args:
        graph: The classifier.
        node: The layer the functions are of.
        rows: Their coefficients.
        relaxations: Enclosing lines of the non-linear layers to pass; at others the functions stop.

    Returns:
        A linear lower bound of each function.
    """
    pending: dict[int, Coefficients] = {node: rows}
    stopped: dict[int, Coefficients] = {}
    constant = rows.data.new_zeros(1, 1)
    for i in range(node, -1, -1):
        if i not in pending:
            continue
        at = pending.pop(i)
        operation = graph.nodes[i].operation
        read = graph.nodes[i].inputs
        if isinstance(operation, Input) or (isinstance(operation, Activation | ChannelMax) and i not in relaxations):
            stopped[i] = at
            continue
        back, added = _through(at, operation, relaxations.get(i), graph.nodes[read[0]].shape)
        constant = constant + added
        for j in read:
            pending[j] = simplest(add(pending[j], back) if j in pending else back)
    return LinearBound(stopped, constant)


def _through(
    at: Coefficients, operation: Operation, lines: Relaxation | None, before: torch.Size
) -> tuple[Coefficients, Tensor]:
    """Coefficients on what a layer reads, of shape ``before``, and each function's constant."""
    match operation:
        case Activation() | ChannelMax():
            assert lines is not None
            return _through_lines(at, operation, lines)
        case Linear():
            return to_dense(at).through(operation, before)
        case Convolution() | Elementwise():
            return at.through(operation, before)
        case Reshape():
            return to_dense(at).reshaped(before), at.data.new_zeros(1, 1)
        case _:
            return at, at.data.new_zeros(1, 1)


def _through_lines(
    at: Coefficients, operation: Activation | ChannelMax, lines: Relaxation
) -> tuple[Coefficients, Tensor]:
    added = at.negative().dot(lines.upper_offset)
    if lines.lower_offset is not None:
        added = added + at.positive().dot(lines.lower_offset)
    copies = operation.size if isinstance(operation, ChannelMax) else 1
    return at.scaled(lines.lower_slope, lines.upper_slope, copies), added


class LayerBounds:
    """Intervals of every layer of a graph over a batch of balls, computed layer by layer.

    Attributes:
        intervals: One a layer.
        relaxations: For each non-linear layer its enclosing lines.
    """

    def __init__(self, graph: Graph, ball: Ball, method: Method = "crown") -> None:
        self.graph = graph
        self.ball = ball
        self.intervals: list[Interval] = [Interval(*ball.bounds)]
        self.relaxations: dict[int, Relaxation] = {}
        affine = _affine_of_image(graph)
        uses = _to_refine(graph)
        for i, node in enumerate(graph.nodes[1:], start=1):
            if isinstance(node.operation, Activation | ChannelMax):
                self.relaxations[i] = Relaxation.of(node.operation, self.intervals[node.inputs[0]])
            interval = self._propagate(i)
            if i in uses and (method == "crown" or i in affine) and (cost := row_cost(graph, i)) <= AFFORDABLE:
                if i in affine or uses[i] == "all":
                    interval = self._refine(i, cost).cut(interval)
                else:
                    interval = self._refine_some(i, interval, uses[i], cost)
            self.intervals.append(interval)

    def _propagate(self, i: int) -> Interval:
        """Interval arithmetic from the layers read."""
        node = self.graph.nodes[i]
        read = [self.intervals[j] for j in node.inputs]
        match node.operation:
            case Sum():
                lower = sum((r.lower for r in read[1:]), start=read[0].lower)
                upper = sum((r.upper for r in read[1:]), start=read[0].upper)
                return Interval(lower, upper).widened()
            case Linear() | Convolution(selects=False) | Elementwise() as layer:
                middle = layer.value((read[0].lower + read[0].upper) / 2)
                radius = layer.spread((read[0].upper - read[0].lower) / 2)
                return Interval(middle - radius, middle + radius).widened()
            case Input():
                return read[0]
            case monotone:
                return Interval(monotone.value(read[0].lower), monotone.value(read[0].upper))

    @property
    def _budget(self) -> int:
        return CPU_ELEMENTS if self.ball.x.device.type == "cpu" else CUDA_ELEMENTS

    def _refine_some(self, i: int, interval: Interval, use: Use, cost: int) -> Interval:
        """CROWN bounds of the neurons that are not settled: a ReLU whose input has one sign is exact already."""
        shape = self.graph.nodes[i].shape
        lower, upper = interval.lower.clone(), interval.upper.clone()
        open_ = (upper > 0) if use == "positive" else (upper > 0) & (lower < 0)
        step = max(1, self._budget // (cost // shape.numel()))
        places = open_.nonzero()
        for begin in range(0, len(places), step):
            rows = places[begin : begin + step]
            # The choice is in the order of the samples, so that a piece needs the lines of few of them.
            first, last = int(rows[0, 0]), int(rows[-1, 0]) + 1
            lines = {k: select(r, slice(first, last)) for k, r in self.relaxations.items() if k < i}
            local = rows.clone()
            local[:, 0] -= first
            smallest = backward(self.graph, i, _chosen(shape, local), lines).smallest(self.ball[first:last])
            low, high = smallest.flatten().chunk(2)
            found = Interval(low, -high).widened()
            at = rows.unbind(dim=1)
            lower[at] = torch.maximum(lower[at], found.lower)
            upper[at] = torch.minimum(upper[at], found.upper)
        return Interval(lower, upper)

    def _refine(self, i: int, cost: int) -> Interval:
        """CROWN bounds of every neuron of a layer, in pieces that fit the memory."""
        shape = self.graph.nodes[i].shape
        budget = self._budget
        samples = max(1, budget // cost)
        row_share = min(1.0, budget / cost)
        lower, upper = [], []
        for begin in range(0, len(self.ball.x), samples):
            piece = slice(begin, begin + samples)
            ball = self.ball[piece]
            lines = {k: select(r, piece) for k, r in self.relaxations.items() if k < i}
            smallest = [
                backward(self.graph, i, rows, lines).smallest(ball)
                for rows in neurons(shape, ball.x, step=max(1, int(row_share * shape[0])), both_signs=True)
            ]
            low, high = zip(*(s.chunk(2, dim=1) for s in smallest), strict=True)
            lower.append(torch.cat(low, dim=1).expand(len(ball.x), -1))
            upper.append(-torch.cat(high, dim=1).expand(len(ball.x), -1))
        n = len(self.ball.x)
        return Interval(torch.cat(lower).view(n, *shape), torch.cat(upper).view(n, *shape)).widened()


def select(lines: Relaxation, piece: slice | Tensor) -> Relaxation:
    """The lines of some samples."""
    return Relaxation(
        lines.lower_slope[piece],
        lines.upper_slope[piece],
        None if lines.lower_offset is None else lines.lower_offset[piece],
        lines.upper_offset[piece],
    )


def neurons(
    shape: torch.Size, like: Tensor, *, step: int | None = None, both_signs: bool = False
) -> Iterator[Coefficients]:
    """Each neuron of a layer as a row, in pieces; a piece of both signs holds its rows, then their negatives.

    Args:
        shape: Shape of the layer for one sample.
        like: Gives the type and the device.
        step: Channels, or neurons of a flat layer, in a piece; all by default.
        both_signs: Whether each row's negative is wanted too.
    """
    step = step or shape[0]
    for begin in range(0, shape[0], step):
        eye = torch.eye(shape[0], dtype=torch.float64, device=like.device)[begin : begin + step]
        if both_signs:
            eye = torch.cat([eye, -eye])
        if len(shape) == 3:
            yield Patches(eye.view(1, len(eye), 1, 1, shape[0], 1, 1), (shape[1], shape[2]), (shape[1], shape[2]))
        else:
            yield Dense(eye.view(1, len(eye), *shape))


def _chosen(shape: torch.Size, rows: Tensor) -> Coefficients:
    """Chosen neurons of a layer as rows, then their negatives.

    Args:
        shape: Shape of the layer for one sample.
        rows: For each neuron its sample and its place in the layer, shape (k, 1 + dimensions of the layer).
    """
    eye = torch.eye(shape[0], dtype=torch.float64, device=rows.device)[rows[:, 1]]
    both, twice = torch.cat([eye, -eye]), torch.cat([rows, rows])
    if len(shape) == 3:
        size = (shape[1], shape[2])
        return Patches(
            both.view(-1, 1, 1, 1, shape[0], 1, 1), size, size, chosen=(twice[:, 0], twice[:, 2], twice[:, 3])
        )
    return Dense(both[:, None], twice[:, 0])


def _affine_of_image(graph: Graph) -> set[int]:
    """Layers that are affine functions of the image."""
    out = {0}
    for i, node in enumerate(graph.nodes):
        if (
            node.inputs
            and not isinstance(node.operation, Activation | ChannelMax)
            and all(j in out for j in node.inputs)
        ):
            out.add(i)
    return out


def _to_refine(graph: Graph) -> dict[int, Use]:
    """Affine layers whose interval a non-linear layer reads, directly or passed on, and what of it counts."""
    uses: dict[int, Use] = {}
    for i in graph.nonlinear():
        operation = graph.nodes[i].operation
        use: Use = "signs" if isinstance(operation, Activation) and operation.kind == "relu" else "all"
        if isinstance(operation, ChannelMax) and operation.rectified:
            use = "positive"
        j = graph.nodes[i].inputs[0]
        while _passes_bounds(graph, j):
            above = graph.nodes[j].operation
            if use == "all" and isinstance(above, Activation) and above.kind == "relu":
                use = "positive"
            j = graph.nodes[j].inputs[0]
        if not isinstance(graph.nodes[j].operation, Input):
            uses[j] = max(use, uses.get(j, "signs"), key=USES.index)
    return uses


def _passes_bounds(graph: Graph, i: int) -> bool:
    operation = graph.nodes[i].operation
    if isinstance(operation, Convolution):
        return operation.selects
    return isinstance(operation, Reshape | Activation | ChannelMax)


def row_cost(graph: Graph, node: int) -> int:
    """Coefficients a sample, at the widest layer, that `backward` holds for all neurons of a layer and both signs."""
    shape = graph.nodes[node].shape
    windows: dict[int, tuple[float, float]] = {node: (1, 1) if len(shape) == 3 else (math.inf, math.inf)}
    widest = 1
    for i in range(node, 0, -1):
        if i not in windows:
            continue
        height, width = windows[i]
        operation = graph.nodes[i].operation
        if isinstance(operation, Convolution):
            height = (height - 1) * operation.stride[0] + operation.window[0]
            width = (width - 1) * operation.stride[1] + operation.window[1]
        elif isinstance(operation, Linear | Reshape):
            height = width = math.inf
        for j in graph.nodes[i].inputs:
            before = graph.nodes[j].shape
            known = windows.get(j, (0, 0))
            windows[j] = (max(height, known[0]), max(width, known[1]))
            full = math.prod(before[1:])
            seen = windows[j][0] * windows[j][1] if len(before) == 3 else math.inf
            widest = max(widest, before[0] * int(min(seen, full)))
    return 2 * math.prod(shape) * widest
