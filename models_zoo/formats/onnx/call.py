"""One ONNX operator applied: what it is given, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from models_zoo.errors import WeightsError
from models_zoo.formats.builder import Builder
from models_zoo.formats.sizes import Size


class Sizes:
    """A tensor of whole numbers of which some follow the number of images.

    Attributes:
        array: The numbers, and `Size` where they do; an object array.
    """

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array, dtype=object)


Known = Tensor | Sizes
Value = fx.Node | Tensor | Sizes | None
"""A value of the graph: computed from the images, known now, or known but for the number of images."""


class Call:
    """One operator applied.

    Attributes:
        builder: Where it is put.
        inputs: Its inputs; None where one is left out.
        name: Of the operator.
        opset: Which decides what it means.
        outputs: How many outputs are named.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        builder: Builder,
        inputs: Sequence[Value],
        attributes: Mapping[str, Any],
        name: str,
        opset: int,
        outputs: int,
    ) -> None:
        self.builder, self.inputs, self.name, self.opset, self.outputs = builder, inputs, name, opset, outputs
        self.attributes = attributes
        self._asked: set[str] = set()
        self._read: set[int] = set()

    def on_sizes(self) -> bool:
        """Whether it computes with the number of images, rather than with tensors of such a size."""
        if self.name in ("Reshape", "Slice", "Gather", "Split", "Squeeze", "Unsqueeze", "Shape"):
            return isinstance(self.inputs[0], Sizes)
        known = all(v is None or isinstance(v, Known) for v in self.inputs)
        return known and any(isinstance(v, Sizes) for v in self.inputs)

    def raw(self, i: int) -> Value:
        """Input ``i``, or None where it is left out."""
        self._read.add(i)
        return self.inputs[i] if i < len(self.inputs) else None

    def given(self, i: int) -> bool:
        """Whether there is an input ``i``."""
        return i < len(self.inputs) and self.inputs[i] is not None

    def optional(self, i: int) -> fx.Node | Tensor | None:
        """Input ``i`` as a tensor, or None where it is left out."""
        value = self.raw(i)
        if isinstance(value, Sizes):
            raise WeightsError("it computes with the number of images.")
        return value

    def value(self, i: int) -> fx.Node | Tensor:
        """Input ``i`` as a tensor.

        Raises:
            WeightsError: If it is left out, or is made of the number of images.
        """
        value = self.optional(i)
        if value is None:
            raise WeightsError(f"its input {i} is left out.")
        return value

    def numbers(self, i: int, attribute: str = "") -> list[Any] | None:
        """A list of numbers that the graph's shape depends on: an input, or an attribute in older opsets."""
        if attribute in self.attributes:
            value = self.get(attribute, None)
            if isinstance(value, Tensor):
                return list(value.flatten().tolist())
            return list(value) if isinstance(value, Sequence) else [value]
        given = self.raw(i)
        if given is None:
            return None
        if isinstance(given, Sizes):
            return [_whole(v) for v in given.array.flatten().tolist()]
        if not isinstance(given, Tensor):
            raise WeightsError(f"its input {i} is computed from the images; it must be known when the file is read.")
        return list(given.flatten().tolist())

    def integers(self, i: int, attribute: str = "") -> list[int] | None:
        """The same, whole numbers that do not follow the number of images."""
        found = self.numbers(i, attribute)
        if found is not None and any(isinstance(v, Size) for v in found):
            raise WeightsError(f"its input {i} depends on the number of images.")
        return None if found is None else [int(v) for v in found]

    def array(self, i: int) -> Any:
        """Input ``i`` as an object array of numbers and `Size`."""
        value = self.raw(i)
        if isinstance(value, Sizes):
            return value.array
        if isinstance(value, Tensor):
            return np.array(value.tolist(), dtype=object)
        raise WeightsError("it mixes the number of images with what is computed from them.")

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        self._asked.add(name)
        return self.attributes.get(name, default)

    def ignore(self, *names: str) -> None:
        """Note attributes that do not change what is computed."""
        self._asked.update(names)

    def require(self, **values: Any) -> None:
        """Note attributes of which one value alone is supported.

        Raises:
            WeightsError: If one has another.
        """
        for name, value in values.items():
            if (found := self.get(name, value)) != value:
                raise WeightsError(f"its attribute {name} is {str(found)[:60]}.")

    def apply(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A function of values."""
        return self.builder.call(function, *args, **kwargs)

    def shape(self, i: int) -> list[int | Size]:
        """The shape of input ``i``."""
        return self.builder.shape(self.value(i))

    def sizes(self, i: int, *, first: int = 0) -> list[int]:
        """The same from an axis on, which must not follow the number of images."""
        found = self.shape(i)[first:]
        if any(isinstance(s, Size) for s in found):
            raise WeightsError(f"it needs the sizes {list(map(str, found))}, which depend on the number of images.")
        return [int(s) for s in found]  # type: ignore[arg-type]

    def rank(self, i: int) -> int:
        """The number of axes of input ``i``."""
        value = self.raw(i)
        return value.array.ndim if isinstance(value, Sizes) else len(self.shape(i))

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front.

        Raises:
            WeightsError: If there is none.
        """
        if not -rank <= axis < max(rank, 1):
            raise WeightsError(f"its axis {axis} is not one of {rank}.")
        return axis % rank if rank else 0

    def is_float(self, i: int) -> bool:
        """Whether input ``i`` holds real numbers."""
        return self.builder.dtype(self.value(i)).is_floating_point

    def check(self) -> None:
        """Refuse whatever was given and not asked for.

        Raises:
            WeightsError: If there is any.
        """
        for name, value in self.attributes.items():
            if name not in self._asked:
                raise WeightsError(f"its attribute {name[:80]} is {str(value)[:60]}.")
        for i, value in enumerate(self.inputs):
            if value is not None and i not in self._read:
                raise WeightsError(f"it has an input {i}.")

    def described(self) -> str:
        """The operator with its attributes, in one line."""
        shown = ", ".join(f"{k[:40]}={str(v)[:40]}" for k, v in self.attributes.items() if not isinstance(v, Tensor))
        text = f"{self.name}({shown[:200]}) of opset {self.opset}"
        return "".join(c for c in text if c.isprintable())


def sizes_or_tensor(value: Any) -> Known:
    """An object array as a tensor, if nothing in it follows the number of images."""
    if isinstance(value, Known):
        return value
    array = np.asarray(value, dtype=object)
    flat = array.flatten().tolist()
    if any(isinstance(v, Size) for v in flat):
        return Sizes(array)
    if any(isinstance(v, float | Fraction) for v in flat):
        return torch.tensor([float(v) for v in flat], dtype=torch.float32).reshape(array.shape)
    dtype = torch.bool if flat and all(isinstance(v, bool | np.bool_) for v in flat) else torch.int64
    return torch.tensor([int(v) for v in flat], dtype=dtype).reshape(array.shape)


def _whole(value: Any) -> Any:
    if isinstance(value, Fraction):
        return float(value) if value.denominator != 1 else int(value)
    return value
