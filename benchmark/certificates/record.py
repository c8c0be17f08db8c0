"""What a forward pass computes, recorded as calls of PyTorch's own operators.

The module is run once under `torch.func.functionalize`, which rewrites in-place operations and views written in place
into operations without side effects: what an alias sees is what it would see. Beneath it every operator call is kept,
wherever in Python it was made; those that the images have no part in too, so that in float64 they are computed again
and not rounded. What the record cannot hold (a decision on a pixel's value, random numbers, a module's state that is
changed) is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from benchmark.errors import UnsupportedModelError

READS_A_VALUE: Final = frozenset({"local_scalar_dense", "equal", "nonzero", "masked_select", "unique", "unique2"})
"""Operators whose answer is a number or a shape that depends on the pixels: control flow, or as good as it."""


@dataclass(frozen=True)
class Ref:
    """Stands for a tensor that was computed, by its slot; slot 0 is the images."""

    slot: int


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operator.

    Attributes:
        function: The operator.
        arguments: All of its arguments by name, defaults included; `Ref` for what was computed.
        outputs: Slots of its results; None for a result that is no tensor.
        shapes: Shapes of its results, for two images.
        dtypes: Types of its results.
        images: Whether it depends on the images.
        inside: Class of the innermost module it was called in.
    """

    function: Any
    arguments: Mapping[str, Any]
    outputs: tuple[int | None, ...]
    shapes: tuple[torch.Size | None, ...]
    dtypes: tuple[torch.dtype | None, ...]
    images: bool
    inside: str

    @property
    def name(self) -> str:
        """The operator's name, as the documentation of PyTorch has it."""
        return operator_name(self.function)

    @property
    def refs(self) -> list[int]:
        """Slots that are read."""
        found: list[int] = []
        tree_map(lambda v: found.append(v.slot) if isinstance(v, Ref) else None, dict(self.arguments))
        return found

    def run(self, values: Mapping[int, Any], constant: Callable[[Any], Any] = lambda v: v) -> tuple[Any, ...]:
        """Call it again.

        Args:
            values: Tensors by slot.
            constant: Applied to every other argument.
        """
        given = tree_map(lambda v: values[v.slot] if isinstance(v, Ref) else constant(v), dict(self.arguments))
        schema = self.function._schema.arguments
        args = [given[a.name] for a in schema if not a.kwarg_only and a.name in given]
        out = self.function(*args, **{a.name: given[a.name] for a in schema if a.kwarg_only and a.name in given})
        return tuple(out) if isinstance(out, tuple | list) else (out,)


@dataclass(frozen=True, eq=False)
class Record:
    """A forward pass on two images: the calls that the logits depend on, in order.

    Attributes:
        calls: The calls.
        result: Slot of the logits.
    """

    calls: tuple[Call, ...]
    result: int

    def run(self, x: Tensor) -> Tensor:
        """The forward pass again, on two images and in their precision."""
        constant = in_float64 if x.dtype == torch.float64 else lambda value: value
        values: dict[int, Any] = {0: x}
        for call in self.calls:
            answers = zip(call.outputs, call.run(values, constant), strict=True)
            values.update({slot: value for slot, value in answers if slot is not None})
        result: Tensor = values[self.result]
        return result


def in_float64(value: Any) -> Any:
    """An argument of a call in float64: a tensor, or a type that is asked for."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.double()
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value


def operator_name(function: Any) -> str:
    """``aten::native_layer_norm`` -> ``layer_norm``."""
    name: str = function._schema.name
    name = name.removeprefix("aten::").removeprefix("_unsafe_").removeprefix("native_").lstrip("_")
    return {"max_pool2d_with_indices": "max_pool2d"}.get(name, name)


def record(module: nn.Module, images: Tensor) -> Record:
    """Run a module in eval mode on two images and keep what it computes.

    Args:
        module: The classifier.
        images: Shape (2, c, h, w); left as they are.

    Raises:
        UnsupportedModelError: If the forward pass cannot be recorded, with the reason.
    """
    with _Recorder.inside_of_modules() as stack, _own_state(module):
        recorder = _Recorder(images.clone(), stack)
        try:
            with torch.no_grad(), recorder:
                out = torch.func.functionalize(module, remove="mutations")(recorder.images)
        except UnsupportedModelError:
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UnsupportedModelError(
                f"{stack[-1] if stack else type(module).__name__} cannot be traced ({reason}); certificates need a "
                "forward pass of PyTorch operations without control flow on values."
            ) from error
    if not isinstance(out, Tensor):
        raise UnsupportedModelError(f"The forward pass returns a {type(out).__name__}; certificates need one tensor.")
    return recorder.finish(out)


@contextmanager
def _own_state(module: nn.Module) -> Iterator[None]:
    """Put every module's attributes back afterwards: a tensor that a forward pass caches would be the recorder's."""
    held = [
        (m, dict(vars(m)), {k: dict(v) for k, v in vars(m).items() if k in {"_parameters", "_buffers", "_modules"}})
        for m in module.modules()
    ]
    try:
        yield
    finally:
        for m, attributes, tables in held:
            if m.__dict__ != attributes or any(dict(vars(m)[k]) != v for k, v in tables.items()):
                m.__dict__.clear()
                m.__dict__.update(attributes)
                for k, table in tables.items():
                    vars(m)[k].clear()
                    vars(m)[k].update(table)


def _draws(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call draws numbers; attention can, and does not without dropout."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    for i, argument in enumerate(func._schema.arguments):
        if argument.name == "dropout_p":
            return bool(args[i] if i < len(args) else kwargs.get("dropout_p", argument.default_value))
    return True


@dataclass(eq=False)
class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the calls, and which of their results depend on the images."""

    images: Tensor
    stack: list[str]
    calls: list[Call] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    slots: dict[int, int] = field(default_factory=dict)
    dependent: set[int] = field(default_factory=lambda: {0})

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._slot(self.images)

    @staticmethod
    @contextmanager
    def inside_of_modules() -> Iterator[list[str]]:
        """The classes of the modules that are being called, the innermost last; it stays there when one raises."""
        stack: list[str] = []
        hooks = nn.modules.module

        def void(_: str) -> None:
            """Hooks that answer something replace the output."""

        enter = hooks.register_module_forward_pre_hook(lambda m, _: stack.append(type(m).__name__))
        leave = hooks.register_module_forward_hook(lambda *_: void(stack.pop()))
        try:
            yield stack
        finally:
            enter.remove()
            leave.remove()

    def _slot(self, tensor: Tensor) -> int:
        """A new slot; the tensor is kept, so that its identity stays its own."""
        self.kept.append(tensor)
        self.slots[id(tensor)] = len(self.kept) - 1
        return len(self.kept) - 1

    def _replaced(self, value: Any) -> Any:
        return Ref(self.slots[id(value)]) if isinstance(value, Tensor) and id(value) in self.slots else value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, and keep the call."""
        kwargs = kwargs or {}
        given = tree_map(self._replaced, (tuple(args), kwargs))
        found: list[Ref] = []
        tree_map(lambda v: found.append(v) if isinstance(v, Ref) and v.slot in self.dependent else None, given)
        if _draws(func, args, kwargs):
            raise UnsupportedModelError(
                f"The forward pass{self._where()} is random (it draws numbers with {operator_name(func)}); "
                "certificates are for models that answer the same every time."
            )
        if found and operator_name(func) in READS_A_VALUE:
            raise UnsupportedModelError(
                f"The forward pass{self._where()} cannot be traced: it reads a value that depends on the image "
                f"({operator_name(func)}), so what it computes may change with it."
            )
        if func._schema.is_mutable and not (args and args[0] is self.images):
            raise UnsupportedModelError(
                f"The forward pass{self._where()} changes a tensor that outlives it ({operator_name(func)}): it keeps "
                "state, so that no certificate would hold for the next call."
            )
        out = func(*args, **kwargs)
        if not func._schema.is_mutable:
            self._keep(func, given, out, images=bool(found))
        return out

    def _keep(self, func: Any, given: Any, out: Any, *, images: bool) -> None:
        arguments: dict[str, Any] = dict(given[1])
        for i, argument in enumerate(func._schema.arguments):
            if i < len(given[0]):
                arguments[argument.name] = given[0][i]
            elif argument.name not in arguments and argument.has_default_value():
                arguments[argument.name] = argument.default_value
        outs = out if isinstance(out, tuple | list) else (out,)
        tensors = [o if isinstance(o, Tensor) else None for o in outs]
        slots = tuple(None if t is None else self._slot(t) for t in tensors)
        if images:
            self.dependent.update(s for s in slots if s is not None)
        shapes = tuple(None if t is None else t.shape for t in tensors)
        dtypes = tuple(None if t is None else t.dtype for t in tensors)
        self.calls.append(Call(func, arguments, slots, shapes, dtypes, images, self.stack[-1] if self.stack else ""))

    def _where(self) -> str:
        return f" of {self.stack[-1]}" if self.stack else ""

    def finish(self, out: Tensor) -> Record:
        """The calls that the logits depend on."""
        if self.slots.get(id(out)) not in self.dependent:
            raise UnsupportedModelError(
                "The logits do not depend on the image by PyTorch operations: the forward pass leaves torch (numpy, "
                "for instance), or is constant."
            )
        result = self.slots[id(out)]
        needed, calls = {result}, []
        for call in reversed(self.calls):
            if needed.intersection(call.outputs):
                needed.update(call.refs)
                calls.append(call)
        return Record(tuple(reversed(calls)), result)
