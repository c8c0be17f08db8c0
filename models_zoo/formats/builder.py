"""Builds a module out of operations on tensors; nothing of a file but numbers gets into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn


class Builder:
    """Collects operations on one input of images.

    Attributes:
        images: The node that stands for the images, shape (n, c, h, w).
    """

    def __init__(self) -> None:
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._names: dict[int, tuple[str, Tensor]] = {}
        self.images = self._graph.placeholder("images")

    def constant(self, value: Tensor) -> fx.Node:
        """An array of the file: a parameter if it holds real numbers, else a buffer; once, however often it is used."""
        if id(value) in self._names:
            return self._graph.get_attr(self._names[id(value)][0])
        name = f"array_{len(self._names)}"
        self._names[id(value)] = name, value  # the tensor is kept, so that its id stays its own
        if value.is_floating_point():
            self._root.register_parameter(name, nn.Parameter(value, requires_grad=False))
        else:
            self._root.register_buffer(name, value)
        return self._graph.get_attr(name)

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Apply a function to nodes and numbers."""
        return self._graph.call_function(function, args, kwargs)

    def finish(self, logits: fx.Node) -> fx.GraphModule:
        """The module that maps images to ``logits``; what does not contribute is left out."""
        self._graph.output(logits)
        self._graph.eliminate_dead_code()
        module = fx.GraphModule(self._root, self._graph)
        # torch gives each graph a class whose call prints a traceback of the generated code when it fails; the error
        # that it raises is enough.
        type(module).__call__ = nn.Module.__call__  # type: ignore[method-assign]
        return module


def as_float32(value: Tensor) -> Tensor:
    """Halves and doubles as float32, in which all models are evaluated; other types as they are."""
    return value.to(torch.float32) if value.is_floating_point() else value
