"""Functions of one tensor, number by number, and soft-maxima."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call

Handler = Callable[[Call], Any]

SELU_ALPHA: Final = 1.67326319217681884765625
SELU_GAMMA: Final = 1.05070102214813232421875


def unary(function: Callable[..., Any], *defaults: tuple[str, str, Any]) -> Handler:
    """A function of one input; ``defaults`` are (attribute, keyword, default)."""

    def build(call: Call) -> Any:
        return call.apply(function, call.value(0), **{key: call.get(name, value) for name, key, value in defaults})

    return build


def real(function: Callable[..., Any], *defaults: tuple[str, str, Any]) -> Handler:
    """The same, for real numbers alone: on whole ones torch's function gives real ones, ONNX has no meaning."""
    inner = unary(function, *defaults)

    def build(call: Call) -> Any:
        if not call.is_float(0):
            raise WeightsError("it is applied to whole numbers.")
        return inner(call)

    return build


def parametric_relu(x: Tensor, slope: Tensor) -> Tensor:
    """ReLU with a slope below zero that broadcasts as ONNX says."""
    return torch.where(x > 0, x, slope * x)


def hard_sigmoid(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """A line cut off at 0 and 1."""
    return torch.clamp(x * alpha + beta, 0.0, 1.0)


def scaled_elu(x: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """SELU with its two constants."""
    return torch.where(x > 0, gamma * x, gamma * alpha * torch.expm1(torch.clamp(x, max=0.0)))


def shrink(x: Tensor, *, bias: float, lambd: float) -> Tensor:
    """Zero near zero, nearer to it elsewhere."""
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))


def above(x: Tensor, *, alpha: float) -> Tensor:
    """What is above a threshold, else 0."""
    return torch.where(x > alpha, x, torch.zeros_like(x))


def swish(x: Tensor, *, alpha: float) -> Tensor:
    """Swish with a slope."""
    return x * torch.sigmoid(x * alpha)


def _selu(call: Call) -> Any:
    alpha, gamma = call.get("alpha", SELU_ALPHA), call.get("gamma", SELU_GAMMA)
    if (alpha, gamma) == (SELU_ALPHA, SELU_GAMMA):
        return call.apply(functional.selu, call.value(0))
    return call.apply(scaled_elu, call.value(0), alpha=alpha, gamma=gamma)


def _prelu(call: Call) -> Any:
    slope = call.value(1)
    if call.opset < 7 and len(call.shape(1)) == 1 and call.shape(1) != [1]:  # one slope a channel
        slope = call.apply(torch.reshape, slope, [-1, *[1] * (call.rank(0) - 2)])
    return call.apply(parametric_relu, call.value(0), slope)


def _gelu(call: Call) -> Any:
    approximate = call.get("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise WeightsError(f"its attribute approximate is {str(approximate)[:40]}.")
    return call.apply(functional.gelu, call.value(0), approximate=approximate)


def _clip(call: Call) -> Any:
    if call.opset < 11:
        low, high = call.get("min", -math.inf), call.get("max", math.inf)
    else:
        low, high = (_bound(call.numbers(i)) for i in (1, 2))
    low, high = (None if low is None or low == -math.inf else low), (None if high is None or high == math.inf else high)
    if low is None and high is None:
        return call.value(0)
    return call.apply(torch.clamp, call.value(0), low, high)


def _bound(numbers: list[Any] | None) -> Any:
    if numbers is None:
        return None
    if len(numbers) != 1:
        raise WeightsError(f"a bound has {len(numbers)} numbers; it has one.")
    return numbers[0]


def _softmax(function: Callable[..., Any]) -> Handler:
    def build(call: Call) -> Any:
        rank = call.rank(0)
        axis = call.axis(call.get("axis", 1 if call.opset < 13 else -1), rank)
        if call.opset >= 13 or axis == rank - 1:
            return call.apply(function, call.value(0), axis)
        # Before opset 13 it is a function of all axes from this one on.
        flat = call.apply(torch.flatten, call.value(0), axis)
        return call.builder.reshape(call.apply(function, flat, -1), call.shape(0))

    return build


def _dropout(call: Call) -> Any:
    if call.opset < 7 and not call.get("is_test", 0):
        raise WeightsError("it is in training mode; export the model in eval mode.")
    if call.opset >= 12:
        call.ignore("seed")
        call.raw(1)
        if (call.numbers(2) or [0])[0]:
            raise WeightsError("it is in training mode; export the model in eval mode.")
    else:
        call.ignore("ratio")
    return [call.value(0)]


def _is_infinite(call: Call) -> Any:
    call.require(detect_negative=1, detect_positive=1)
    return call.apply(torch.isinf, call.value(0))


TABLE: Final[Mapping[str, Handler]] = {
    "Abs": unary(torch.abs),
    "Acos": real(torch.acos),
    "Acosh": real(torch.acosh),
    "Asin": real(torch.asin),
    "Asinh": real(torch.asinh),
    "Atan": real(torch.atan),
    "Atanh": real(torch.atanh),
    "Ceil": real(torch.ceil),
    "Celu": real(functional.celu, ("alpha", "alpha", 1.0)),
    "Clip": _clip,
    "Cos": real(torch.cos),
    "Cosh": real(torch.cosh),
    "Dropout": _dropout,
    "Elu": real(functional.elu, ("alpha", "alpha", 1.0)),
    "Erf": real(torch.erf),
    "Exp": real(torch.exp),
    "Floor": real(torch.floor),
    "Gelu": _gelu,
    "HardSigmoid": real(hard_sigmoid, ("alpha", "alpha", 0.2), ("beta", "beta", 0.5)),
    "HardSwish": real(functional.hardswish),
    "IsInf": _is_infinite,
    "IsNaN": unary(torch.isnan),
    "LeakyRelu": real(functional.leaky_relu, ("alpha", "negative_slope", 0.01)),
    "Log": real(torch.log),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Mish": real(functional.mish),
    "Neg": unary(torch.neg),
    "PRelu": _prelu,
    "Reciprocal": real(torch.reciprocal),
    "Relu": unary(functional.relu),
    "Round": real(torch.round),  # halves to even, as ONNX rounds
    "Selu": _selu,
    "Shrink": real(shrink, ("bias", "bias", 0.0), ("lambd", "lambd", 0.5)),
    "Sigmoid": real(torch.sigmoid),
    "Sign": unary(torch.sign),
    "Sin": real(torch.sin),
    "Sinh": real(torch.sinh),
    "Softmax": _softmax(torch.softmax),
    "Softplus": real(functional.softplus),
    "Softsign": real(functional.softsign),
    "Sqrt": real(torch.sqrt),
    "Swish": real(swish, ("alpha", "alpha", 1.0)),
    "Tan": real(torch.tan),
    "Tanh": real(torch.tanh),
    "ThresholdedRelu": real(above, ("alpha", "alpha", 1.0)),
}
