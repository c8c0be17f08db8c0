"""Normalisations, all with their statistics fixed or their own sample's."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call


def _batch_norm(call: Call) -> Any:
    call.ignore("momentum")  # it concerns training
    training = call.outputs > 1
    if call.opset < 7:
        training |= not call.get("is_test", 0)
    if call.opset < 9:
        call.require(spatial=1)
    if call.opset >= 14:
        training |= bool(call.get("training_mode", 0))
    weight, bias, mean, variance = (call.value(i) for i in range(1, 5))
    if training:
        # A normalisation of weights, not of images: standardised convolutions are written like that.
        x, eps = call.value(0), call.get("epsilon", 1e-5)
        if not all(isinstance(v, Tensor) for v in (x, weight, bias)):
            raise WeightsError("it is in training mode; export the model in eval mode.")
        return [call.apply(functional.batch_norm, x, None, None, weight, bias, True, 0.0, eps)]
    return call.apply(
        functional.batch_norm, call.value(0), mean, variance, weight, bias, False, 0.1, call.get("epsilon", 1e-5)
    )


def _instance_norm(call: Call) -> Any:
    eps = call.get("epsilon", 1e-5)
    return call.apply(functional.instance_norm, call.value(0), weight=call.value(1), bias=call.value(2), eps=eps)


def _layer_norm(call: Call) -> Any:
    call.require(stash_type=1)
    axis, eps = call.axis(call.get("axis", -1), call.rank(0)), call.get("epsilon", 1e-5)
    shape = call.sizes(0, first=axis)
    weight, bias = call.value(1), call.optional(2)
    if call.builder.shape(weight) == shape and (bias is None or call.builder.shape(bias) == shape):
        return [call.apply(functional.layer_norm, call.value(0), shape, weight, bias, eps)]
    result = call.apply(operator.mul, call.apply(functional.layer_norm, call.value(0), shape, None, None, eps), weight)
    return [result if bias is None else call.apply(operator.add, result, bias)]


def rms_norm(x: Tensor, weight: Tensor, *, axes: Sequence[int], eps: float) -> Tensor:
    """Divided by the root of its mean square."""
    return x * torch.rsqrt(torch.mean(x * x, list(axes), keepdim=True) + eps) * weight


def _rms_norm(call: Call) -> Any:
    call.require(stash_type=1)
    rank = call.rank(0)
    axes = list(range(call.axis(call.get("axis", -1), rank), rank))
    return call.apply(rms_norm, call.value(0), call.value(1), axes=axes, eps=call.get("epsilon", 1e-5))


def _group_norm(call: Call) -> Any:
    if call.opset >= 21:
        call.require(stash_type=1)
    groups = int(call.get("num_groups", 0))
    (channels,) = call.sizes(0, first=1)[:1]
    if groups < 1 or channels % groups:
        raise WeightsError(f"its num_groups is {groups}, for {channels} channels.")
    weight, bias = call.value(1), call.value(2)
    if call.opset < 21:  # one number a group
        weight, bias = (call.apply(torch.repeat_interleave, v, channels // groups) for v in (weight, bias))
    return call.apply(functional.group_norm, call.value(0), groups, weight, bias, call.get("epsilon", 1e-5))


def local_response(x: Tensor, *, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """Divided by what the channels nearby are."""
    around = functional.pad(x * x, [*[0, 0] * (x.ndim - 2), (size - 1) // 2, size // 2])
    total = around[:, : x.shape[1]]
    for i in range(1, size):
        total = total + around[:, i : i + x.shape[1]]
    return x / (bias + alpha / size * total) ** beta


def _local_response(call: Call) -> Any:
    size = int(call.get("size", 0))
    if not 1 <= size <= 1024:
        raise WeightsError(f"its size is {size}.")
    return call.apply(
        local_response, call.value(0), size=size, alpha=call.get("alpha", 1e-4), beta=call.get("beta", 0.75),
        bias=call.get("bias", 1.0),
    )  # fmt: skip


def mean_variance(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """Mean 0 and deviation 1 over some axes, as the standard writes it."""
    mean = torch.mean(x, list(axes), keepdim=True)
    spread = torch.sqrt(torch.mean(x * x, list(axes), keepdim=True) - mean * mean)
    return (x - mean) / (spread + 1e-9)


def _mean_variance(call: Call) -> Any:
    return call.apply(mean_variance, call.value(0), axes=list(call.get("axes", [0, 2, 3])))


TABLE: Final[Mapping[str, Callable[[Call], Any]]] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _local_response,
    "LayerNormalization": _layer_norm,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_norm,
}
