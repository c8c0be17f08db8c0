"""What shapes are computed with, on numbers of which some follow the number of images."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call, sizes_or_tensor
from models_zoo.formats.onnx.indexing import bounds
from models_zoo.formats.onnx.shapes import axes_of, pieces, squeezed, target
from models_zoo.formats.sizes import Size, equal, product, whole

Handler = Callable[[Call], Any]


def _binary(function: Callable[[Any, Any], Any]) -> Handler:
    return lambda call: np.frompyfunc(function, 2, 1)(call.array(0), call.array(1))


def _divide(call: Call) -> Any:
    parts = [call.array(i) for i in (0, 1)]
    real = any(isinstance(v, float | Fraction) for array in parts for v in array.flatten().tolist())

    def divide(a: Any, b: Any) -> Any:
        if not isinstance(b, Size) and b == 0:
            raise WeightsError("it divides by 0.")
        quotient = a / b if isinstance(a, Size) or isinstance(b, Size) else Fraction(a) / Fraction(b)
        return quotient if real else whole(quotient)

    return np.frompyfunc(divide, 2, 1)(*parts)


def _many(choose: Callable[[Any, Any], Any]) -> Handler:
    def build(call: Call) -> Any:
        result = call.array(0)
        for i in range(1, len(call.inputs)):
            result = np.frompyfunc(choose, 2, 1)(result, call.array(i))
        return result

    return build


def _gather(call: Call) -> Any:
    values = call.array(0)
    axis = call.axis(call.get("axis", 0), values.ndim)
    return np.take(values, call.array(1).astype(np.int64), axis=axis)


def _slice(call: Call) -> Any:
    values = call.array(0)
    starts, ends, axes, steps = bounds(call)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        at = call.axis(axis, values.ndim)
        if isinstance(start, Size) or isinstance(end, Size):
            raise WeightsError("it slices a shape by the number of images.")
        until = None if step < 0 and end < -values.shape[at] else end
        values = values[(slice(None),) * at + (slice(start, until, step),)]
    return values


def _concat(call: Call) -> Any:
    return np.concatenate([call.array(i) for i in range(len(call.inputs))], axis=call.get("axis", 1))


def _squeeze(call: Call) -> Any:
    values = call.array(0)
    return np.squeeze(values, axis=tuple(squeezed(call, list(values.shape))))


def _unsqueeze(call: Call) -> Any:
    return np.expand_dims(call.array(0), tuple(axes_of(call) or []))


def _reshape(call: Call) -> Any:
    values = call.array(0)
    return values.reshape(target(call, list(values.shape), call.integers(1) or []))


def _cast(call: Call) -> Any:
    from onnx import TensorProto

    kind = TensorProto.DataType.Name(call.get("to", 1))
    call.ignore("saturate", "round_mode")
    values = call.array(0)
    if kind in ("INT64", "INT32"):
        return np.frompyfunc(whole, 1, 1)(values)
    if kind in ("FLOAT", "DOUBLE"):
        return values
    raise WeightsError(f"it casts the number of images to {kind}.")


def _split(call: Call) -> Any:
    values = call.array(0)
    axis = call.axis(call.get("axis", 0), values.ndim)
    ends = np.cumsum(pieces(call, values.shape[axis]))[:-1]
    return np.split(values, ends, axis=axis)


def _where(call: Call) -> Any:
    return np.where(call.array(0).astype(bool), call.array(1), call.array(2))


def _reduce_product(call: Call) -> Any:
    values = call.array(0)
    axes = call.integers(1) if call.opset >= 18 else call.get("axes", None)
    if values.ndim != 1 or list(axes or [0]) not in ([0], [-1]):
        raise WeightsError("it multiplies a shape along unusual axes.")
    total = product(values.tolist())
    return np.array([total] if call.get("keepdims", 1) else total, dtype=object)


def _larger(a: Any, b: Any) -> Any:
    return a if a >= b else b


def _smaller(a: Any, b: Any) -> Any:
    return b if a >= b else a


def _modulo(call: Call) -> Any:
    call.require(fmod=0)
    return _binary(operator.mod)(call)


TABLE: Final[Mapping[str, Handler]] = {
    "Add": _binary(operator.add),
    "Cast": _cast,
    "Ceil": lambda call: -np.frompyfunc(whole, 1, 1)(-call.array(0)),
    "Concat": _concat,
    "Div": _divide,
    "Equal": _binary(equal),
    "Floor": lambda call: np.frompyfunc(whole, 1, 1)(call.array(0)),
    "Gather": _gather,
    "Greater": _binary(operator.gt),
    "GreaterOrEqual": _binary(operator.ge),
    "Identity": lambda call: call.array(0),
    "Less": _binary(operator.lt),
    "LessOrEqual": _binary(operator.le),
    "Max": _many(_larger),
    "Min": _many(_smaller),
    "Mod": _modulo,
    "Mul": _binary(operator.mul),
    "Neg": lambda call: -call.array(0),
    "ReduceProd": _reduce_product,
    "Reshape": _reshape,
    "Shape": lambda call: sizes_or_tensor(list(call.array(0).shape)),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _binary(operator.sub),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
