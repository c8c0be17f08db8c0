"""A classifier as the layers of `benchmark.certificates.operations`, lowered from what its forward pass computes.

What the lowering yields is never trusted. The record of the forward pass must reproduce the module's logits, and the
layers those of the record in float64, on the images, inside balls around them and elsewhere; differences count against
the label and its rival, never against the largest logit. Otherwise the model is refused.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmark.certificates.layers import Layers, Node, Value
from benchmark.certificates.lowering import RULES
from benchmark.certificates.moving import LINEAR, MOVES, gathers, matrix, moved, runner
from benchmark.certificates.operations import (
    Activation,
    ChannelMax,
    Convolution,
    Elementwise,
    Gather,
    Input,
    Linear,
    Operation,
    Sum,
)
from benchmark.certificates.record import Call, Record, Ref, in_float64, record
from benchmark.errors import UnsupportedModelError
from benchmark.modes import eval_mode

__all__ = ["Graph", "Node", "check_agreement", "lower", "trace"]

REPLAY: Final = 2.0**-22
"""How far, relative to each class' own logit, the record may be from the module: they are the same operations."""

SHARE: Final = 1e-3
"""The same of the layers and the record in float64, as a share of the label's lead, where rounding would allow more."""

UNIT: Final = 2.0**-52
"""Rounding of a float64 operation, with a factor of two to spare."""

FLOATS: Final = frozenset({torch.float32, torch.float64})


@dataclass(frozen=True, eq=False)
class Graph:
    """A classifier as layers in topological order; the first is the image, the last the logits (k,)."""

    nodes: tuple[Node, ...]

    @property
    def classes(self) -> int:
        """Number of logits."""
        return self.nodes[-1].shape[0]

    def nonlinear(self) -> list[int]:
        """Indices of the layers that are not affine."""
        return [i for i, n in enumerate(self.nodes) if isinstance(n.operation, Activation | ChannelMax)]

    def values(self, x: Tensor) -> list[Tensor]:
        """The output of every layer, in float64, on images of shape (n, c, h, w)."""
        out: list[Tensor] = []
        for node in self.nodes:
            read = [out[i] for i in node.inputs]
            match node.operation:
                case Input():
                    out.append(x.double())
                case Sum():
                    out.append(sum(read[1:], start=read[0]))
                case layer:
                    out.append(layer.value(read[0]))
        return out

    def logits(self, x: Tensor) -> Tensor:
        """The classifier itself, in float64: (n, c, h, w) -> (n, k)."""
        return self.values(x)[-1]

    @cached_property
    def rounding(self) -> tuple[Tensor, ...]:
        """How far rounding can move what is computed of each layer in float64, shape of the layer.

        The absolute values of all terms are carried from pixels of size 1 to the logits, as if nothing cancelled; so
        much, times the unit roundoff and the number of operations on the way, is the classical bound (Higham 2002,
        section 3.1). Where large terms cancel inside the network it grows with them.
        """
        sizes: list[Tensor] = []
        errors: list[Tensor] = []  # not rounding: where torch's softplus turns into the identity
        operations = 16.0 + self.nodes[0].shape.numel()
        out = []
        for node in self.nodes:
            operations += _operations(node.operation)
            sizes.append(_carried(node, [sizes[i] for i in node.inputs], self._device, 1.0))
            errors.append(_carried(node, [errors[i] for i in node.inputs], self._device, 0.0))
            out.append((UNIT * operations * sizes[-1] + errors[-1])[0])
        return tuple(out)

    @property
    def _device(self) -> torch.device | None:
        held = (t for n in self.nodes for t in vars(n.operation).values() if isinstance(t, Tensor))
        return next((t.device for t in held), None)

    def margin_rounding(self, y: Tensor) -> Tensor:
        """`rounding` of the margins ``f_c - f_j``, j in order without the label: (n, k - 1)."""
        error = self.rounding[-1].to(y.device)
        others = torch.arange(len(error), device=y.device) != y[:, None]
        return error[y][:, None] + error.expand(len(y), -1)[others].view(len(y), -1)


def _operations(operation: Operation) -> float:
    """Numbers that a layer adds up, on the way forward or back."""
    match operation:
        case Linear() as layer:
            return float(sum(layer.weight.shape))
        case Convolution(selects=False) as layer:
            outputs, inputs, height, width = layer.weight.shape
            return float((outputs // layer.groups + inputs) * height * width)
        case ChannelMax() as layer:
            return float(layer.size)
        case _:
            return 4.0


def _carried(  # noqa: PLR0911 a layer a line
    node: Node, read: list[Tensor], device: torch.device | None, own: float
) -> Tensor:
    """Absolute values carried through a layer as if nothing cancelled; ``own`` is 1 if its constants count, else 0."""
    match node.operation:
        case Input():
            return torch.full((1, *node.shape), own, dtype=torch.float64, device=device)
        case Sum():
            return sum(read[1:], start=read[0])
        case Linear() | Convolution() as layer:
            bias = own * layer.bias.abs()
            return layer.spread(read[0]) + (bias if len(node.shape) == 1 else bias[:, None, None])
        case Elementwise() as layer:
            return layer.spread(read[0]) + own * layer.shift.abs()
        case Activation() as layer:
            return read[0] + (own / layer.beta if layer.kind == "softplus" else 0.0) + (1 - own) * layer.switch
        case ChannelMax() as layer:
            return layer.windows(read[0]).sum(dim=2)
        case Gather() as layer:
            return (layer.moved(read[0]) + own * layer.shift.abs()).view(1, *layer.shape)
        case layer:
            return layer.value(read[0])


def trace(module: nn.Module, x: Tensor) -> Graph:
    """Lower a classifier to a graph of supported layers, and see that it is one.

    Args:
        module: Classifier; it is traced in eval mode.
        x: Images, shape (n, c, h, w): they give the shapes, and the graph must agree with the module on them.

    Returns:
        The graph, in float64, on the images' device.

    Raises:
        UnsupportedModelError: If the module cannot be traced, has an operation that is not supported (named in the
            message), has fewer than two classes, or does not agree with its trace (a random or stateful forward pass).
    """
    graph, recorded = lower(module, x)
    check_agreement(graph, recorded, module, x)
    return graph


@torch.no_grad()
def lower(module: nn.Module, x: Tensor) -> tuple[Graph, Record]:
    """The first half of `trace`: the layers, not yet compared with the module, and the record they were made from."""
    with eval_mode(module):
        # Two samples: with one, an operation across samples would pass for one within a sample.
        recorded = record(module, x[:1].expand(2, *x.shape[1:]).clone())
    lowering = _Lowering(x)
    needed = {recorded.result}.union(*(call.refs for call in recorded.calls))
    for call in recorded.calls:
        if not call.images:
            lowering.compute(call)
            continue
        for at, slot in enumerate(call.outputs):
            if slot in needed:
                lowering.lower(call, at)
    return lowering.finish(recorded.result), recorded


class _Lowering:
    """Turns calls into layers, one after the other.

    Attributes:
        layers: The layers so far.
        values: What each slot that depends on the images is.
        constants: The others, in float64.
        shapes: Each slot's shape for two samples; their numbers follow each other, whatever the shape.
    """

    def __init__(self, x: Tensor) -> None:
        self.layers = Layers(x.shape[1:], x.device)
        self.values = {0: Value(0)}
        self.constants: dict[int, Tensor] = {}
        self.shapes = {0: torch.Size((2, *x.shape[1:]))}

    def compute(self, call: Call) -> None:
        """Take in a call that the images have no part in."""
        answers = zip(call.outputs, call.run(self.constants, in_float64), strict=True)
        self.constants.update({slot: value for slot, value in answers if slot is not None})

    def lower(self, call: Call, at: int) -> None:
        """Lower one result of a call; raises `UnsupportedModelError` with the operator's name."""
        slot, shape = call.outputs[at], call.shapes[at]
        assert slot is not None
        assert shape is not None
        if call.dtypes[at] not in FLOATS or any(read not in self._known for read in call.refs):
            raise _refuse(call)
        if not shape or shape[0] % 2 or not shape.numel():
            raise _refuse(call, ", which works across the samples of a batch,")
        after = torch.Size((shape[1:] or (1,)) if shape[0] == 2 else (shape[0] // 2, *shape[1:]))
        rule = RULES.get(call.name) if at == 0 else None
        arguments = {k: self._known[v.slot] if isinstance(v, Ref) else v for k, v in call.arguments.items()}
        found = None if rule is None else rule(self.layers, arguments, after)
        found = self._by_doing(call, at, after) if found is None else found
        if found is None:
            raise _refuse(call)
        if self.layers.shape(found) != after:
            raise _refuse(call, " with these settings")
        self.values[slot], self.shapes[slot] = found, shape

    def _by_doing(self, call: Call, at: int, after: torch.Size) -> Value | None:
        """An operation that moves numbers, or is a matrix: found by running it."""
        read = {slot: self.shapes[slot] for slot in call.refs if slot in self.values}
        run = runner(call, at, {slot: self.constants[slot] for slot in call.refs if slot in self.constants})
        if call.name in MOVES:
            found = moved(run, read)
            if found is None:
                return None
            parts = [self.layers.append(layer, self.values[slot]) for slot, layer in gathers(*found, after)]
            return parts[0] if len(parts) == 1 else self.layers.append(Sum(), *parts)
        if call.name in LINEAR and len(read) == 1:
            (slot,) = read
            linear = matrix(run, slot, read[slot])
            if linear is not None:
                flat = self.layers.shaped(self.values[slot], torch.Size((read[slot].numel() // 2,)))
                return self.layers.shaped(self.layers.append(linear, flat), after)
        return None

    @property
    def _known(self) -> Mapping[int, Value | Tensor]:
        return ChainMap[int, Any](self.values, self.constants)

    def finish(self, result: int) -> Graph:
        """The graph that ends in this slot."""
        last = self.values[result]
        shape = self.layers.shape(last)
        if len(shape) != 1:
            raise UnsupportedModelError(f"The forward pass returns samples of shape {tuple(shape)}; logits are (k,).")
        if shape[0] < 2:
            raise UnsupportedModelError(
                "The model gives one logit an image; a label needs at least two classes. The single score s of a "
                "binary classifier becomes the two logits (-s, s)."
            )
        return Graph(_reachable(self.layers.nodes, last.node))


@torch.no_grad()
def check_agreement(graph: Graph, recorded: Record, module: nn.Module, x: Tensor) -> None:
    """Refuse a graph that is not what the module computes.

    Args:
        graph: The layers.
        recorded: What they were made from.
        module: The classifier.
        x: Images, shape (n, c, h, w).

    Raises:
        UnsupportedModelError: If they differ anywhere by more than rounding.
    """
    points = _points(x)
    with eval_mode(module):
        theirs = torch.cat([module(pair.clone()).double() for pair in torch.split(points, 2)])
    # Copies here too: products round otherwise where the images begin elsewhere in memory.
    again = torch.cat([recorded.run(pair.clone()).double() for pair in torch.split(points, 2)])
    wide = torch.cat([recorded.run(pair.double()) for pair in torch.split(points, 2)])
    ours = graph.logits(points)
    top = wide.topk(2, dim=1).values
    margin = float((top[:, 0] - top[:, 1]).median())
    allowed = (2 * graph.rounding[-1]).clamp(max=SHARE * margin)
    for one, other, room in ((theirs, again, 0.0), (wide, ours, allowed)):
        tolerance = REPLAY * other.abs() if one is theirs else 1e-12 * other.abs() + room
        if not bool(((one - other).abs() <= tolerance).all()):
            gap = float((one - other).abs().nan_to_num(torch.inf).amax())
            raise UnsupportedModelError(
                f"The traced layers do not reproduce the logits of {type(module).__name__} (they differ by {gap:.3g}): "
                "its forward pass is random, keeps state, leaves torch, or depends on more than the image."
            )


def _points(x: Tensor) -> Tensor:
    """Images, points in balls around them, noise and corners of the box: an even number."""
    few = x[: 2 if x[0].numel() > 2**14 else 6]
    few = torch.cat([few, few[:1]]) if len(few) % 2 else few
    generator = torch.Generator().manual_seed(0)
    steps = [size * torch.randn(few.shape, generator=generator, device="cpu").to(few) for size in (0.02, 0.3)]
    parts = [few, *((few + step).clamp(0, 1) for step in steps)]
    noise = torch.rand((len(few), *few.shape[1:]), generator=generator, device="cpu").to(few)
    return torch.cat([*parts, noise, noise.round()])


def _reachable(nodes: list[Node], last: int) -> tuple[Node, ...]:
    """The layers that the last one depends on, and the image: a ReLU that became part of a maximum may be left over."""
    needed = {0, last}
    for i in range(last, 0, -1):
        needed.update(nodes[i].inputs if i in needed else ())
    index = {old: new for new, old in enumerate(sorted(needed))}
    return tuple(replace(nodes[old], inputs=tuple(index[i] for i in nodes[old].inputs)) for old in index)


def _refuse(call: Call, why: str = "") -> UnsupportedModelError:
    """The error that names the operation, and the module whose forward pass has it."""
    inside = f" of {call.inside}" if call.inside else ""
    return UnsupportedModelError(
        f"The operation {call.name}{inside}{why} is not supported by certificates; supported are linear layers, "
        "convolution, batch-norm in eval mode, ReLU and its like, softplus, average and max pooling, sums, arithmetic "
        "with constants, and what moves numbers about."
    )
