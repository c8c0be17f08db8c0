"""Builds a module out of operations on tensors; nothing of a file but numbers gets into it.

Every operation is first run on tensors without data, for a few numbers of images: so its sizes are known before
anything is computed, what it would cost is known too (`models_zoo.formats.budget`), and a size that follows the batch
is told from one that does not (`models_zoo.formats.sizes`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from models_zoo.formats.budget import Budget, Meter, meta
from models_zoo.formats.sizes import N, Size, fitted, product

PROBES: Final = (2, 3, 7)
"""Numbers of images for which sizes are computed where any number may come."""


class Builder:
    """Collects operations on one input of images.

    Args:
        shape: Shape of the images, the batch first; None there if any number of images may come.
        declared: The number of images that the file itself asks for, where the program is tried on others.

    Attributes:
        images: The node that stands for the images.
    """

    def __init__(self, shape: Sequence[int | None], *, declared: int | None = None) -> None:
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._names: dict[int, tuple[str, Tensor]] = {}
        self._meta: dict[int, tuple[Tensor, Tensor]] = {}
        self.declared = declared
        self.budget = Budget()
        self.free = bool(shape) and shape[0] is None
        self.batches = PROBES if self.free else (int(shape[0] or 0) if shape else 1,)
        self.images = self._graph.placeholder("images")
        self.images.meta["probes"] = [
            torch.empty([n if size is None else size for size in shape], device="meta") for n in self.batches
        ]
        self._count: fx.Node | None = None

    def constant(self, value: Tensor) -> fx.Node:
        """An array of the file: a parameter if it holds real numbers, else a buffer; once, however often it is used."""
        if id(value) not in self._names:
            name = f"array_{len(self._names)}"
            self._names[id(value)] = name, value  # the tensor is kept, so that its id stays its own
            if value.is_floating_point():
                self._root.register_parameter(name, nn.Parameter(value, requires_grad=False))
            else:
                self._root.register_buffer(name, value)
        node = self._graph.get_attr(self._names[id(value)][0])
        node.meta["probes"] = [self._without_data(value)] * len(self.batches)
        return node

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Apply a function to values and numbers.

        Returns:
            A node if the result depends on the images, or its size on their number; else the result itself.

        Raises:
            WeightsError: If it costs too much.
        """
        self.budget.node()
        given = (args, kwargs)
        meter = Meter()
        with torch.no_grad(), meter:
            probes = [self._run(function, given, 0)]
        with torch.no_grad():
            probes += [self._run(function, given, i) for i in range(1, len(self.batches))]
        known = not any(isinstance(leaf, fx.Node | Size) for leaf in _leaves(given))
        self.budget.charge(meter, self.batches[0], folded=known)
        if known:
            with torch.no_grad():
                return function(*args, **kwargs)
        node = self._graph.call_function(function, *self._replaced(given, self._held))
        node.meta["probes"] = probes
        return node

    def probes(self, value: Any) -> list[Any]:
        """What a value is, without its data, for each number of images that is tried."""
        if isinstance(value, fx.Node):
            return list(value.meta["probes"])
        return [self._without_data(value)] * len(self.batches)

    def shape(self, value: fx.Node | Tensor) -> list[int | Size]:
        """The sizes of a value; those that follow the number of images as `Size`."""
        shapes = [tuple(probe.shape) for probe in self.probes(value)]
        return [fitted(sizes, self.batches) for sizes in zip(*shapes, strict=True)]

    def dtype(self, value: fx.Node | Tensor) -> torch.dtype:
        """The type of a value's numbers."""
        dtype: torch.dtype = self.probes(value)[0].dtype
        return dtype

    def reshape(self, x: Any, target: Sequence[Any], function: Callable[..., Any] = torch.reshape) -> Any:
        """Reshape to sizes of which one may be -1, and of which some may follow the batch."""
        shape = self.shape(x)
        sizes = self._for_any_batch(shape, list(target))
        batched = [i for i, size in enumerate(sizes) if isinstance(size, Size)]
        if batched and -1 not in sizes and product(shape) == product(sizes):
            # Said without the number of images wherever that can be: such a graph is open to what traces modules.
            if batched == [0] and _is_batch(sizes[0]) and _is_batch(shape[0]) and len(sizes) == 2:
                return self.call(torch.flatten, x, 1) if len(shape) > 2 else x
            sizes[batched[0]] = -1
        same = batched == [0] and _is_batch(sizes[0]) and bool(shape) and _is_batch(shape[0])
        if same and sizes[1:] == [-1] and len(shape) > 1:
            return self.call(torch.flatten, x, 1)
        if same and -1 in sizes[1:]:
            rest, given = product(shape[1:]), product([s for s in sizes[1:] if s != -1])
            if given and rest % given == 0:
                sizes = [-1, *[rest // given if s == -1 else s for s in sizes[1:]]]
        return self.call(function, x, sizes)

    def expand(self, x: Any, target: Sequence[Any], function: Callable[..., Any] = Tensor.expand) -> Any:
        """Expand to sizes, of which some may be -1 or follow the batch."""
        sizes, shape = list(target), self.shape(x)
        tied = self._tried() and bool(sizes) and sizes[0] == self.declared and len(sizes) == len(shape)
        if tied and (_is_batch(shape[0]) or (shape[0] == 1 and self.declared != 1)):
            sizes[0] = N
        return self.call(function, x, sizes)

    def concatenate(self, values: Sequence[Any], axis: int) -> Any:
        """Concatenate along an axis."""
        shapes = [self.shape(v) for v in values]
        # Exported for one image, a class token is not expanded.
        single = self._tried() and self.declared == 1 and axis % max(len(shapes[0]), 1) > 0
        if single and any(_is_batch(s[0]) for s in shapes):
            values = [
                self.call(Tensor.expand, v, [N, *s[1:]]) if not isinstance(s[0], Size) and s[0] == 1 else v
                for v, s in zip(values, shapes, strict=True)
            ]
        return self.call(torch.cat, list(values), axis)

    def finish(self, logits: Any) -> fx.GraphModule:
        """The module that maps images to ``logits``; what does not contribute is left out."""
        self._graph.output(logits if isinstance(logits, fx.Node) else self.constant(logits))
        self._graph.eliminate_dead_code()
        module = fx.GraphModule(self._root, self._graph)
        # torch gives each graph a class whose call prints a traceback of the generated code when it fails; the error
        # that it raises is enough.
        type(module).__call__ = nn.Module.__call__  # type: ignore[method-assign]
        return module

    def _tried(self) -> bool:
        return self.free and self.declared is not None

    def _for_any_batch(self, shape: list[int | Size], target: list[Any]) -> list[Any]:
        """The target of a reshape that was exported for one number of images, for any number of them.

        What comes of it is compared with the program as it was exported (`models_zoo.formats.fixed_batch`).
        """
        count = product(shape)
        if not self._tried() or not target or any(isinstance(s, Size) for s in target) or not isinstance(count, Size):
            return target
        assert self.declared is not None
        fits = -1 in target or math.prod(target) == count.at(self.declared)
        if fits and target[0] > 0 and target[0] % self.declared == 0 and isinstance(shape[0], Size):
            return [N * (target[0] // self.declared), *target[1:]]
        at = next((i for i, s in enumerate(target) if s == self.declared), None)
        if fits and -1 not in target and at is not None and self.declared > 1:
            return [*target[:at], N, *target[at + 1 :]]
        return target

    def _run(self, function: Callable[..., Any], given: Any, at: int) -> Any:
        """The function on values without data, for one number of images."""

        def value(leaf: Any) -> Any:
            if isinstance(leaf, fx.Node):
                return leaf.meta["probes"][at]
            if isinstance(leaf, Size):
                return leaf.at(self.batches[at])
            return self._without_data(leaf) if isinstance(leaf, Tensor) else leaf

        args, kwargs = self._replaced(given, value)
        schema = getattr(function, "_schema", None)
        if schema is not None and not any(isinstance(leaf, Tensor) for leaf in _leaves((args, kwargs))):
            # torch.device below does not reach ATen's own operations, and nothing must be allocated here.
            kwargs = {**kwargs, "device": "meta"} if any(a.name == "device" for a in schema.arguments) else kwargs
        with torch.device("meta"):
            return function(*args, **kwargs)

    def _without_data(self, value: Tensor) -> Tensor:
        if id(value) not in self._meta:
            self._meta[id(value)] = meta(value), value
        return self._meta[id(value)][0]

    def _held(self, leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return self.constant(leaf)
        return self._size(leaf) if isinstance(leaf, Size) else leaf

    def _size(self, size: Size) -> fx.Node:
        """A node that computes a size."""
        if self._count is None:
            self._count = self._graph.call_function(Tensor.size, (self.images, 0))
        node = self._count
        if size.per_image != 1:
            node = self._graph.call_function(operator.mul, (node, size.per_image.numerator))
        if size.per_image.denominator != 1:
            node = self._graph.call_function(operator.floordiv, (node, size.per_image.denominator))
        if size.fixed:
            node = self._graph.call_function(operator.add, (node, int(size.fixed)))
        return node

    def _replaced(self, value: Any, change: Callable[[Any], Any]) -> Any:
        if isinstance(value, tuple):
            return tuple(self._replaced(v, change) for v in value)
        if isinstance(value, list):
            return [self._replaced(v, change) for v in value]
        if isinstance(value, dict):
            return {k: self._replaced(v, change) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(*(self._replaced(v, change) for v in (value.start, value.stop, value.step)))
        return change(value)


def _is_batch(size: Any) -> bool:
    """Whether a size is the number of images itself."""
    return isinstance(size, Size) and size.per_image == 1 and not size.fixed


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [leaf for v in value for leaf in _leaves(v)]
    if isinstance(value, dict):
        return [leaf for v in value.values() for leaf in _leaves(v)]
    if isinstance(value, slice):
        return _leaves((value.start, value.stop, value.step))
    return [value]


def as_float32(value: Tensor) -> Tensor:
    """Halves and doubles as float32, in which all models are evaluated; other types as they are."""
    return value.to(torch.float32) if value.is_floating_point() else value
