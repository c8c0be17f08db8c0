"""Linear bounds of every layer over balls around images: interval propagation and CROWN.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715) pushes an interval through the layers one by one. CROWN
(Zhang et al. 2018, arXiv:1811.00866) replaces each activation by two lines that enclose it on its interval and carries
linear functions of a layer back to the image, where their extremes over the ball are known in closed form.

Floating point: all is computed in float64, and every bound of a neuron is moved outward by `Graph.rounding`, the most
that rounding can do there, and by `SLACK` relative to one plus its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from benchmark.certificates.ball import Ball
from benchmark.certificates.coefficients import Coefficients, Patches, add, simplest, to_dense
from benchmark.certificates.costs import AFFORDABLE, Use, affine_of_image, row_cost, to_refine
from benchmark.certificates.graph import Graph
from benchmark.certificates.operations import (
    Activation,
    ChannelMax,
    Convolution,
    Elementwise,
    Gather,
    Input,
    Linear,
    Operation,
    Pad,
    Reshape,
    Sum,
)
from benchmark.certificates.relaxations import Interval, Relaxation, select
from benchmark.certificates.rows import chosen, neurons

Method = Literal["crown", "ibp"]

CPU_ELEMENTS: Final = 2**19
"""Coefficients held at once on the CPU: larger tensors leave the cache and the allocator's free lists."""

CUDA_ELEMENTS: Final = 2**27
"""Coefficients held at once on an accelerator (1 GiB a tensor)."""


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
        case Pad() if isinstance(at, Patches) and min(operation.sides) >= 0:
            return at.moved(operation, before)
        case Reshape() | Gather() | Pad():
            return to_dense(at).moved(operation, before)
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
        affine = affine_of_image(graph)
        uses = to_refine(graph)
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
                return Interval(lower, upper).widened(self.graph.rounding[i])
            case Linear() | Convolution(selects=False) | Elementwise() as layer:
                middle = layer.value((read[0].lower + read[0].upper) / 2)
                radius = layer.spread((read[0].upper - read[0].lower) / 2)
                return Interval(middle - radius, middle + radius).widened(self.graph.rounding[i])
            case Input():
                return read[0]
            case Activation(kind="softplus") as layer:
                return Interval(layer.value(read[0].lower), layer.value(read[0].upper)).widened(self.graph.rounding[i])
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
            smallest = backward(self.graph, i, chosen(shape, local), lines).smallest(self.ball[first:last])
            low, high = smallest.flatten().chunk(2)
            at = rows.unbind(dim=1)
            found = Interval(low, -high).widened(self.graph.rounding[i][at[1:]])
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
        found = Interval(torch.cat(lower).view(n, *shape), torch.cat(upper).view(n, *shape))
        return found.widened(self.graph.rounding[i])
