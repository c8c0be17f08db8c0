"""Trace a module with torch.fx and lower it to the layers of `benchmark.certificates.operations`.

What the tracing yields is never trusted: the lowered graph must reproduce the module's logits, or the model is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from benchmark.certificates.lowering import ARITHMETIC, FUNCTIONS, Chain, arithmetic, module_rule
from benchmark.certificates.operations import (
    Activation,
    ChannelMax,
    Convolution,
    Input,
    Operation,
    Reshape,
    Sum,
)
from benchmark.errors import UnsupportedModelError
from benchmark.modes import eval_mode

AGREEMENT: Final = 1e-3
"""How far, relative to the largest logit, the module's float32 logits may be from the graph's: rounding, no more."""


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


@torch.no_grad()
def trace(module: nn.Module, x: Tensor) -> Graph:
    """Lower a classifier to a graph of supported layers.

    Args:
        module: Classifier; it is traced in eval mode.
        x: Images, shape (n, c, h, w): they give the shapes, and the graph must agree with the module on them.

    Returns:
        The graph, in float64, on the images' device.

    Raises:
        UnsupportedModelError: If the module cannot be traced, has an operation that is not supported (named in the
            message), or does not agree with its trace (a random or stateful forward pass).
    """
    with eval_mode(module):
        tracer = _Tracer()
        try:
            traced = fx.GraphModule(module, tracer.trace(module))
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UnsupportedModelError(
                f"{type(tracer.inside or module).__name__} cannot be traced by torch.fx ({reason}); certificates need "
                "a forward pass without control flow on values and without custom autograd functions."
            ) from error
        lowering = _Lowering(traced, x.device)
        # Two samples: with one, an operation across samples would pass for one within a sample.
        lowering.run(x[:1].expand(2, *x.shape[1:]).clone())
        graph = lowering.finish()
        _check_agreement(graph, module, x[:32])
    return graph


def _check_agreement(graph: Graph, module: nn.Module, x: Tensor) -> None:
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    for images in (x, noise):
        theirs, ours = module(images).double(), graph.logits(images)
        gap = float((theirs - ours).abs().amax())
        if not gap <= AGREEMENT * float(1e-3 + theirs.abs().amax()):
            raise UnsupportedModelError(
                f"The traced layers do not reproduce the logits of {type(module).__name__} (they differ by {gap:.3g}): "
                "its forward pass is random, keeps state, or depends on more than the image."
            )


def _reachable(nodes: list[Node]) -> tuple[Node, ...]:
    """The layers that the last one depends on, and the image: a ReLU that became part of a maximum may be left over."""
    needed = {0, len(nodes) - 1}
    for i in range(len(nodes) - 1, 0, -1):
        needed.update(nodes[i].inputs if i in needed else ())
    index = {old: new for new, old in enumerate(sorted(needed))}
    return tuple(replace(nodes[old], inputs=tuple(index[i] for i in nodes[old].inputs)) for old in index)


def _is_shape(value: Any) -> bool:
    """Whether a value is made of the image's shape or type only, so that it is a constant."""
    if isinstance(value, tuple | list):
        return all(_is_shape(v) for v in value)
    return isinstance(value, int | float | str | torch.dtype | torch.device | None)


class _Tracer(fx.Tracer):
    """Knows, when tracing fails, inside which module it did."""

    inside: nn.Module | None = None

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a submodule; where that raises, `inside` stays at the innermost one."""
        outer, self.inside = self.inside, m
        value = super().call_module(m, forward, args, kwargs)
        self.inside = outer
        return value


def _refuse(name: str, node: fx.Node | None = None) -> UnsupportedModelError:
    """The error that names the operation, and the module whose forward pass has it where that is another."""
    modules = [] if node is None else [kind for _, kind in node.meta.get("nn_module_stack", {}).values()]
    inside = modules[-1].__name__ if modules and isinstance(modules[-1], type) else name
    return UnsupportedModelError(
        f"The operation {name}{'' if inside == name else f' of {inside}'} is not supported by certificates; supported "
        "are linear, convolution, batch-norm, ReLU, softplus, average and max pooling, flatten, add, and arithmetic "
        "with constants."
    )


class _Lowering(fx.Interpreter):
    """Runs the traced module on an example and lowers each operation that depends on the image as it passes."""

    def __init__(self, traced: fx.GraphModule, device: torch.device) -> None:
        super().__init__(traced)
        self.extra_traceback = False  # it would be glued onto the messages of our own errors
        self.device = device
        self.nodes: list[Node] = []
        self.index: dict[fx.Node, int] = {}
        self.result: Any = None

    def run_node(self, n: fx.Node) -> Any:
        """Compute the node's value, and append its layers if it depends on the image."""
        value = super().run_node(n)
        images = [a for a in n.all_input_nodes if a in self.index]
        if n.op == "placeholder":
            if self.nodes:
                raise UnsupportedModelError(f"The forward pass takes a second input, {n.name!r}, beside the images.")
            self.nodes.append(Node(Input(), (), value.shape[1:]))
            self.index[n] = 0
        elif n.op == "output":
            self.result = n.args[0]
        elif images and isinstance(value, Tensor):
            self.index[n] = self._lower(n, images, value)
        elif images and not _is_shape(value):
            raise _refuse(self._name(n), n)
        return value

    def finish(self) -> Graph:
        """The graph, once the module has been run."""
        if self.result not in self.index:
            raise UnsupportedModelError("The forward pass must return one tensor of logits that depends on the image.")
        last = self.index[self.result]
        shape = self.nodes[last].shape
        if len(shape) != 1:
            raise UnsupportedModelError(f"The forward pass returns samples of shape {tuple(shape)}; logits are (k,).")
        return Graph(_reachable(self.nodes[: last + 1]))

    def _name(self, n: fx.Node) -> str:
        if n.op == "call_module":
            return type(self.fetch_attr(str(n.target))).__name__
        return n.target if isinstance(n.target, str) else getattr(n.target, "__name__", str(n.target))

    def _lower(self, n: fx.Node, images: list[fx.Node], value: Tensor) -> int:
        """Append the layers of one operation; the index of the last."""
        name = self._name(n)
        before = self.nodes[self.index[images[0]]].shape
        if len(images) == 2 and name in ("add", "iadd", "add_") and not n.kwargs and before == value.shape[1:]:
            return self._append(Sum(), tuple(self.index[i] for i in images), value.shape[1:])
        chain = self._chain(n, name, before, value.shape[1:]) if len(images) == 1 and value.shape[:1] == (2,) else None
        if chain is None:
            raise _refuse(name, n)
        at = self.index[images[0]]
        above = self.nodes[at]
        rectified = isinstance(above.operation, Activation) and above.operation.kind == "relu"
        if rectified and chain and isinstance(chain[-1], ChannelMax):
            at, chain = above.inputs[0], (*chain[:-1], replace(chain[-1], rectified=True))
        for operation in chain:
            if isinstance(operation, Convolution) and operation.selects and any(operation.padding) and not rectified:
                self._require_non_negative(at, name)
            at = self._append(operation, (at,), None)
        if self.nodes[at].shape != value.shape[1:]:
            raise _refuse(f"{name} with these settings (ceil_mode, or a shape that broadcasts)")
        return at

    def _chain(self, n: fx.Node, name: str, before: torch.Size, after: torch.Size) -> Chain:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op == "call_module":
            found = module_rule(self.fetch_attr(str(n.target)))
            return None if found is None else found[0](before, after, *found[1])
        if not n.args or n.args[0] not in self.index:
            swapped = name in ARITHMETIC and len(args) == 2 and not kwargs
            return arithmetic(name, before, args[0], constant_first=True) if swapped else None
        if name.rstrip("_") in ARITHMETIC:
            return None if kwargs or len(args) > 2 else arithmetic(name.rstrip("_"), before, *args[1:])
        rule = FUNCTIONS.get(name)
        try:
            return None if rule is None else rule(before, after, *args[1:], **kwargs)
        except TypeError:  # an argument the rule does not know
            return None

    def _append(self, operation: Operation, inputs: tuple[int, ...], shape: torch.Size | None) -> int:
        if shape is None:
            assert not isinstance(operation, Input | Sum)
            held: Any = {k: v.to(self.device) for k, v in vars(operation).items() if isinstance(v, Tensor)}
            operation = replace(operation, **held)
            example = torch.zeros(1, *self.nodes[inputs[0]].shape, dtype=torch.float64, device=self.device)
            shape = operation.value(example).shape[1:]
        self.nodes.append(Node(operation, inputs, shape))
        return len(self.nodes) - 1

    def _require_non_negative(self, at: int, name: str) -> None:
        """Max pooling pads with minus infinity, a selecting convolution with 0: the same where nothing is negative."""
        node = self.nodes[at]
        if isinstance(node.operation, Sum | Reshape | ChannelMax):
            for i in node.inputs:
                self._require_non_negative(i, name)
        elif not isinstance(node.operation, Activation | Input):
            raise _refuse(f"{name} with padding on values that may be negative")
