"""Arithmetic, comparisons and types: whole numbers divide, take powers and overflow as ONNX says, not as torch does."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call

Handler = Callable[[Call], Any]

DTYPES: Final = {
    "FLOAT": torch.float32,
    "DOUBLE": torch.float32,
    "FLOAT16": torch.float32,
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
}
"""Types that can be cast to; all real numbers are evaluated as float32."""


def binary(function: Callable[..., Any]) -> Handler:
    """A function of two inputs."""

    def build(call: Call) -> Any:
        if call.opset < 7:
            call.require(axis=None)
            call.ignore("broadcast")  # without an axis it is today's broadcasting of the second input
        return call.apply(function, call.value(0), call.value(1))

    return build


def power(x: Tensor, exponent: Tensor) -> Tensor:
    """A power, of the type of its base."""
    return torch.pow(x, exponent).to(x.dtype)


def _divide(call: Call) -> Any:
    if call.is_float(0) or call.is_float(1):
        return binary(operator.truediv)(call)
    divisor = call.value(1)
    if not isinstance(divisor, Tensor) or bool((divisor == 0).any()):
        raise WeightsError("it divides whole numbers by what may be 0.")
    return call.apply(torch.div, call.value(0), divisor, rounding_mode="trunc")


def _modulo(call: Call) -> Any:
    fmod = bool(call.get("fmod", 0))
    divisor = call.value(1)
    if not call.is_float(0) and (not isinstance(divisor, Tensor) or bool((divisor == 0).any())):
        raise WeightsError("it divides whole numbers by what may be 0.")
    if call.is_float(0) and not fmod:
        raise WeightsError("it takes real numbers with fmod=0.")
    return call.apply(torch.fmod if fmod else torch.remainder, call.value(0), divisor)


def _power(call: Call) -> Any:
    if call.opset < 7:
        call.require(axis=None)
        call.ignore("broadcast")
    if call.is_float(0):
        return call.apply(torch.pow, call.value(0), call.value(1))
    exponent = call.value(1)
    if not isinstance(exponent, Tensor) or bool((exponent < 0).any()):
        raise WeightsError("it takes powers of whole numbers with exponents that may be negative.")
    return call.apply(power, call.value(0), exponent)


def _many(function: Callable[..., Any], *, mean: bool = False) -> Handler:
    """A function of any number of inputs, two at a time."""

    def build(call: Call) -> Any:
        result: Any = call.value(0)
        for i in range(1, len(call.inputs)):
            result = call.apply(function, result, call.value(i))
        return call.apply(operator.truediv, result, len(call.inputs)) if mean else result

    return build


def _logical(function: Callable[..., Any], inputs: int) -> Handler:
    def build(call: Call) -> Any:
        if call.opset < 7:
            call.require(axis=None)
            call.ignore("broadcast")
        return call.apply(function, *(call.value(i) for i in range(inputs)))

    return build


def _cast(call: Call) -> Any:
    from onnx import TensorProto

    to = call.get("to", 1)
    kind = TensorProto.DataType.Name(to) if isinstance(to, int) else str(to)
    call.ignore("saturate", "round_mode")  # they concern numbers of eight bits, which are refused
    if kind not in DTYPES:
        raise WeightsError(f"it casts to {kind[:40]}.")
    if call.builder.dtype(call.value(0)) == DTYPES[kind]:
        return call.value(0)
    return call.apply(Tensor.to, call.value(0), DTYPES[kind])


def _cast_like(call: Call) -> Any:
    call.ignore("saturate", "round_mode")
    dtype = call.builder.dtype(call.value(1))
    return call.value(0) if call.builder.dtype(call.value(0)) == dtype else call.apply(Tensor.to, call.value(0), dtype)


TABLE: Final[Mapping[str, Handler]] = {
    "Add": binary(operator.add),
    "And": _logical(torch.logical_and, 2),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Div": _divide,
    "Equal": _logical(operator.eq, 2),
    "Greater": _logical(operator.gt, 2),
    "GreaterOrEqual": _logical(operator.ge, 2),
    "Less": _logical(operator.lt, 2),
    "LessOrEqual": _logical(operator.le, 2),
    "Max": _many(torch.maximum),
    "Mean": _many(operator.add, mean=True),
    "Min": _many(torch.minimum),
    "Mod": _modulo,
    "Mul": binary(operator.mul),
    "Not": _logical(torch.logical_not, 1),
    "Or": _logical(torch.logical_or, 2),
    "Pow": _power,
    "Sub": binary(operator.sub),
    "Sum": _many(operator.add),
    "Xor": _logical(torch.logical_xor, 2),
}
