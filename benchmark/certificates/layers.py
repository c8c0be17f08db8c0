"""The layers of a graph while it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

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


@dataclass(frozen=True, eq=False)
class Node:
    """One layer of a graph.

    Attributes:
        operation: What it computes.
        inputs: Indices of the nodes it reads.
        shape: Shape of its output for one sample.
    """

    operation: Operation
    inputs: tuple[int, ...]
    shape: torch.Size


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the images, by the layer that gives it."""

    node: int


Arguments = Mapping[str, Any]
Rule = Callable[["Layers", Arguments, torch.Size], Value | None]
"""Layers so far, the call's arguments, the shape of one sample afterwards."""


class Layers:
    """The layers of a graph while it is made; the first is the image."""

    def __init__(self, shape: torch.Size, device: torch.device) -> None:
        self.device = device
        self.nodes = [Node(Input(), (), shape)]

    def shape(self, value: Value) -> torch.Size:
        """Shape of one sample."""
        return self.nodes[value.node].shape

    def append(self, operation: Operation, *read: Value) -> Value:
        """Add a layer; bounds know flat layers and those of (c, h, w), so that others are flat meanwhile."""
        shape = self.shape(read[0])
        if len(shape) not in {1, 3} and isinstance(operation, Elementwise | Activation | Sum):
            if isinstance(operation, Elementwise):
                parts = (t.expand(shape).reshape(-1) for t in (operation.scale, operation.shift))
                operation = Elementwise(*parts)
            flat = [self.shaped(value, torch.Size((shape.numel(),))) for value in read]
            return self.shaped(self.append(operation, *flat), shape)
        held: Any = {k: v.detach().to(self.device) for k, v in vars(operation).items() if isinstance(v, Tensor)}
        operation = replace(operation, **held)
        self.nodes.append(Node(operation, tuple(v.node for v in read), self._after(operation, self.shape(read[0]))))
        return Value(len(self.nodes) - 1)

    @staticmethod
    def _after(operation: Operation, before: torch.Size) -> torch.Size:
        match operation:
            case Linear() | Convolution():
                return operation.after(before)
            case Reshape() | Gather():
                return operation.shape
            case Pad():
                top, bottom, left, right = operation.sides
                return torch.Size((before[0], before[1] + top + bottom, before[2] + left + right))
            case ChannelMax():
                return torch.Size((before[0] // operation.size, *before[1:]))
            case _:
                return before

    def shaped(self, value: Value, shape: torch.Size) -> Value:
        """The same numbers in another shape."""
        return value if self.shape(value) == shape else self.append(Reshape(shape), value)

    def broadcast(self, value: Value, shape: torch.Size) -> Value:
        """Repeated as an operation with a larger partner repeats it."""
        before = self.shape(value)
        if before == shape:
            return value
        places = torch.arange(before.numel(), device="cpu").view(before).expand(shape).flatten()
        return self.append(Gather(places, torch.zeros(len(places), dtype=torch.float64, device="cpu"), shape), value)

    def affine(self, value: Value, scale: Any, shift: Any, shape: torch.Size) -> Value | None:
        """``scale * value + shift``, broadcast to ``shape``; numbers, or tensors of two samples or of one."""
        parts = [of_sample(wide(t).cpu(), shape) for t in (scale, shift)]
        if parts[0] is None or parts[1] is None:
            return None
        return self.append(Elementwise(parts[0], parts[1]), self.broadcast(value, shape))

    def non_negative(self, value: Value) -> bool:
        """Whether a layer is known to have no negative output."""
        node = self.nodes[value.node]
        match node.operation:
            case Activation() | Input():
                return True
            case Sum() | Reshape() | Pad() | ChannelMax(rectified=False):
                return all(self.non_negative(Value(i)) for i in node.inputs)
            case Gather() as layer:
                return bool((layer.shift >= 0).all()) and self.non_negative(Value(node.inputs[0]))
            case ChannelMax():
                return True
            case _:
                return False


def of_sample(t: Tensor, shape: torch.Size) -> Tensor | None:
    """A constant per channel, (c, 1, 1), where it is one, else per entry of the sample; None if samples differ."""
    if t.ndim > len(shape):
        t = t.reshape(t.shape[t.ndim - len(shape) - 1 :]) if t.shape[: t.ndim - len(shape) - 1].numel() == 1 else t
        if t.ndim != len(shape) + 1 or not all(torch.equal(t[0], other) for other in t[1:]):
            return None
        t = t[0]
    elif t.ndim == len(shape) and len(shape) and t.shape[0] == 2 * shape[0]:  # samples that were merged
        first, second = t.chunk(2)
        if not torch.equal(first, second):
            return None
        t = first
    narrow = (shape[0], *[1] * (len(shape) - 1))
    try:
        return t.expand(narrow) if t.numel() in {1, shape[0]} else t.expand(shape)
    except RuntimeError:
        try:
            return t.expand(shape)
        except RuntimeError:
            return None


def wide(value: Any) -> Tensor:
    """A number or tensor in float64; a number is never rounded to float32 on the way."""
    return (
        value.detach().double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64, device="cpu")
    )


def two(value: Any) -> tuple[int, int]:
    """Rows and columns of what may be given as one number."""
    values = [int(v) for v in value] if isinstance(value, Sequence) else [int(value)]
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])
