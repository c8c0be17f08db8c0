"""Which values of a program share their memory, so that a change in place is seen by all of them.

The modules built here change nothing in place: a change makes a new value, and what shares memory with the changed one
is computed anew from it when it is next read. Whether an operation's result shares memory with what it was given is
read off the storages of tensors without data, which torch treats as it does those with.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from models_zoo.errors import WeightsError
from models_zoo.formats.builder import Builder

RESHAPES: Final = frozenset(
    """view.default reshape.default _unsafe_view.default flatten.using_ints unflatten.int squeeze.default squeeze.dim
    squeeze.dims unsqueeze.default view_as.default reshape_as.default""".split()  # noqa: SIM905
)
SAME: Final = frozenset(
    """detach.default alias.default contiguous.default dropout.default to.dtype to.dtype_layout to.device
    type_as.default lift_fresh_copy.default expand.default expand_as.default broadcast_to.default""".split()  # noqa: SIM905
)
"""Operations that may give the very tensor they are given."""


@dataclass
class Step:
    """How a value is seen through another that shares its memory.

    Attributes:
        operation: The ATen operation.
        arguments: What it is given beside the value.
        again: Applies it.
        part: Which of its results this is, if it gives several.
    """

    operation: str
    arguments: Sequence[Any]
    again: Callable[[Any], Any]
    part: int | None = None

    def see(self, builder: Builder, value: Any) -> Any:
        """The value, seen through this step."""
        found = self.again(value)
        return found if self.part is None else builder.call(operator.getitem, found, self.part)

    def put(self, builder: Builder, value: Any, changed: Any) -> Any:  # noqa: PLR0911 - a table
        """The value, after what is seen of it through this step has become ``changed``.

        Raises:
            WeightsError: If that cannot be said.
        """
        shape = builder.shape(value)
        seen = builder.shape(changed)
        arguments = list(self.arguments)
        match self.operation:
            case name if name in RESHAPES:
                return builder.reshape(changed, shape)
            case name if name in SAME and seen == shape:
                return changed
            case "select.int":
                return builder.call(torch.select_scatter, value, changed, *arguments)
            case "unbind.int":
                return builder.call(torch.select_scatter, value, changed, arguments[0] if arguments else 0, self.part)
            case "slice.Tensor":
                return builder.call(torch.slice_scatter, value, changed, *arguments)
            case "narrow.default":
                axis, start, length = arguments
                return builder.call(torch.slice_scatter, value, changed, axis, start, start + length)
            case "split.Tensor" | "split_with_sizes.default" | "chunk.default":
                axis = arguments[1] if len(arguments) > 1 else 0
                before = [
                    builder.shape(builder.call(operator.getitem, self.again(value), i)) for i in range(self.part or 0)
                ]
                start = sum(s[axis] for s in before)
                return builder.call(torch.slice_scatter, value, changed, axis, start, start + seen[axis])
            case "transpose.int":
                return builder.call(torch.transpose, changed, *arguments)
            case "t.default":
                return builder.call(torch.t, changed)
            case "permute.default":
                order = [axis % len(shape) for axis in arguments[0]]
                return builder.call(torch.permute, changed, [order.index(i) for i in range(len(order))])
        raise WeightsError(f"it changes in place what it sees through {self.operation}, which is not supported.")


@dataclass
class Memory:
    """What several values share.

    Attributes:
        value: Its present value.
        version: How often it has been changed.
    """

    value: Any
    version: int = 0


@dataclass
class View:
    """A value of the program: what it sees of some memory.

    Attributes:
        memory: The memory.
        steps: How it is seen from there.
        value: What was seen when the memory had the version ``version``.
    """

    memory: Memory
    steps: tuple[Step, ...] = ()
    value: Any = None
    version: int = 0


@dataclass
class Values:
    """The values of a program by name; sizes and numbers beside tensors."""

    builder: Builder
    table: dict[str, Any] = field(default_factory=dict)

    def own(self, name: str, value: Any) -> None:
        """Note a value that shares no memory with another."""
        self.table[name] = View(Memory(value), (), value)

    def read(self, name: str) -> Any:
        """The present value of a name."""
        view = self.table[name]
        if not isinstance(view, View):
            return view
        if view.version != view.memory.version:
            value = view.memory.value
            for step in view.steps:
                value = step.see(self.builder, value)
            view.value, view.version = value, view.memory.version
        return view.value

    def note(self, name: str, value: Any, source: str | None, step: Step) -> None:
        """Note a result, which may share memory with the value called ``source``."""
        view = self.table.get(source) if source is not None else None
        if isinstance(view, View) and self._shares(value, self.read(str(source))):
            self.table[name] = View(view.memory, (*view.steps, step), value, view.memory.version)
        else:
            self.own(name, value)

    def change(self, name: str, value: Any) -> None:
        """Note that the value called ``name`` was changed in place.

        Raises:
            WeightsError: If the change cannot be followed.
        """
        view = self.table[name]
        before = self.read(name)
        if self.builder.shape(value) != self.builder.shape(before):
            raise WeightsError("it changes the shape of a tensor in place.")
        if self.builder.dtype(value) != self.builder.dtype(before):
            value = self.builder.call(Tensor.to, value, self.builder.dtype(before))
        view.memory.value = self._put(view.memory.value, view.steps, value)
        view.memory.version += 1
        view.value, view.version = value, view.memory.version

    def _put(self, value: Any, steps: Sequence[Step], changed: Any) -> Any:
        if not steps:
            return changed
        inner = self._put(steps[0].see(self.builder, value), steps[1:], changed)
        return steps[0].put(self.builder, value, inner)

    def _shares(self, value: Any, source: Any) -> bool:
        if not (isinstance(value, Tensor) and isinstance(source, Tensor)):
            value, source = self.builder.probes(value)[0], self.builder.probes(source)[0]
        if not isinstance(value, Tensor) or not isinstance(source, Tensor):
            return False
        return bool(value.untyped_storage()._cdata == source.untyped_storage()._cdata)
