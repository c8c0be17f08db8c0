"""What each operator of PyTorch becomes in a graph: the table of supported operations.

A *rule* is called with the arguments of one recorded call, images and what depends on them as `Value`, and answers the
value of its result; None where these settings are not supported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from benchmark.certificates.layers import Arguments, Layers, Rule, Value, of_sample, two, wide
from benchmark.certificates.operations import Activation, Convolution, Linear, Pad, Sum
from benchmark.certificates.pooling import adaptive_average, average_pool, max_pool, mean


def _add(layers: Layers, a: Arguments, after: torch.Size, sign: float = 1.0) -> Value | None:
    one, other, alpha = a["self"], a["other"], sign * float(a.get("alpha", 1))
    if isinstance(one, Value) and isinstance(other, Value):
        if alpha != 1:
            scaled = layers.affine(other, alpha, 0.0, layers.shape(other))
            assert scaled is not None
            other = scaled
        return layers.append(Sum(), layers.broadcast(one, after), layers.broadcast(other, after))
    if isinstance(one, Value):
        return layers.affine(one, 1.0, wide(other) * alpha, after)
    return layers.affine(other, alpha, one, after)


def _subtract(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    return _add(layers, a, after, -1.0)


def _subtract_from(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    return _add(layers, {**a, "self": a["other"], "other": a["self"]}, after, -1.0)


def _multiply(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    one, other = a["self"], a["other"]
    if isinstance(one, Value) and isinstance(other, Value):
        return None
    value, factor = (one, other) if isinstance(one, Value) else (other, one)
    return layers.affine(value, factor, 0.0, after)


def _divide(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    if not isinstance(a["self"], Value) or isinstance(a["other"], Value) or a.get("rounding_mode"):
        return None
    # In float64 throughout: the reciprocal of a float32 deviation would be rounded to float32.
    return layers.affine(a["self"], 1 / wide(a["other"]), 0.0, after)


def _negate(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    return layers.affine(a["self"], -1.0, 0.0, after)


def _addmm(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    one, two = a.get("mat1", a.get("self")), a.get("mat2")
    bias = a["self"] if "mat1" in a else None
    if not isinstance(one, Value) or isinstance(two, Value) or isinstance(bias, Value) or len(after) != 1:
        return None
    assert isinstance(two, Tensor)
    weight = float(a.get("alpha", 1)) * two.detach().double().T
    shift = weight.new_zeros(len(weight))
    if isinstance(bias, Tensor):
        found = of_sample(bias.detach().double().cpu(), after)
        if found is None:
            return None
        shift = float(a.get("beta", 1)) * found.expand(after).to(weight)
    x = layers.shaped(one, torch.Size((two.shape[0],)))
    return layers.append(Linear(weight.contiguous(), shift.contiguous()), x)


def _linear(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    arguments = {"mat1": a["input"], "mat2": a["weight"].T, "self": a.get("bias")}
    return None if isinstance(a["weight"], Value) else _addmm(layers, arguments, after)


def _convolution(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    x, weight, bias = a["input"], a["weight"], a.get("bias")
    if not isinstance(x, Value) or isinstance(weight, Value) or isinstance(bias, Value) or weight.ndim != 4:
        return None
    if a.get("transposed") or len(layers.shape(x)) != 3:
        return None
    w = weight.detach().double()
    b = w.new_zeros(len(w)) if bias is None else bias.detach().double()
    stride, padding, dilation = two(a.get("stride", 1)), two(a.get("padding", 0)), two(a.get("dilation", 1))
    return layers.append(Convolution(w, b, stride, padding, dilation, int(a.get("groups", 1))), x)


def _batch_norm(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    mean, var = a.get("running_mean"), a.get("running_var")
    if a.get("training") or not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        return None
    if any(isinstance(a.get(name), Value) for name in ("weight", "bias")):
        return None
    scale = (var.detach().double() + float(a["eps"])).rsqrt()
    scale = scale if a.get("weight") is None else scale * a["weight"].detach().double()
    shift = -mean.detach().double() * scale
    shift = shift if a.get("bias") is None else shift + a["bias"].detach().double()
    channels = (-1, *[1] * (len(after) - 1))
    return layers.affine(a["input"], scale.view(channels), shift.view(channels), after)


def _relu(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    return layers.append(Activation("relu"), a["self"])


def _leaky_relu(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    slope = float(a.get("negative_slope", 0.01))
    if not 0 <= slope <= 1:
        return None
    kept, added = layers.affine(a["self"], slope, 0.0, after), layers.append(Activation("relu"), a["self"])
    rest = layers.affine(added, 1 - slope, 0.0, after)
    return None if kept is None or rest is None else layers.append(Sum(), kept, rest)


def _softplus(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    beta, threshold = float(a.get("beta", 1)), float(a.get("threshold", 20))
    if threshold < 15 or beta <= 0:
        return None
    # Beyond the threshold torch switches to the identity, exp(-threshold) / beta below softplus.
    return layers.append(Activation("softplus", beta, switch=math.exp(-threshold) / beta), a["self"])


def _pad(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    """With zeros, around the pixels; other padding is found as a move."""
    pad, before = list(a["pad"]), layers.shape(a["self"])
    if len(before) != 3 or len(pad) > 4 or float(a.get("value") or 0) != 0:
        return None
    left, right, top, bottom = (*pad, 0, 0)[:4]
    return layers.append(Pad((top, bottom, left, right)), a["self"])


def _clamp(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    """``low + relu(x - low) - relu(x - high)``, or half of it."""
    low, high = (a.get(n, a.get(m)) for n, m in (("min", "min_val"), ("max", "max_val")))
    limits = [None if v is None or not math.isfinite(float(v)) else float(v) for v in (low, high)]
    low, high = limits
    value: Value | None = a["self"]
    for limit, sign in ((low, 1.0), (high, -1.0)):
        if limit is None or value is None:
            continue
        # max(x, l) = relu(x - l) + l; min(x, h) = h - relu(h - x).
        moved = layers.affine(value, sign, -sign * limit, after)
        value = None if moved is None else layers.affine(layers.append(Activation("relu"), moved), sign, limit, after)
    return value


def _nothing(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    value = a.get("self", a.get("input"))
    return layers.shaped(value, after) if isinstance(value, Value) else None


RULES: Final[Mapping[str, Rule]] = {
    "adaptive_avg_pool2d": adaptive_average,
    "add": _add,
    "addmm": _addmm,
    "alias": _nothing,
    "avg_pool2d": average_pool,
    "batch_norm": _batch_norm,
    "batch_norm_legit_no_training": _batch_norm,
    "clamp": _clamp,
    "clamp_max": _clamp,
    "clamp_min": _clamp,
    "clone": _nothing,
    "constant_pad_nd": _pad,
    "contiguous": _nothing,
    "convolution": _convolution,
    "cudnn_batch_norm": _batch_norm,
    "detach": _nothing,
    "div": _divide,
    "flatten": _nothing,
    "hardtanh": _clamp,
    "leaky_relu": _leaky_relu,
    "lift_fresh": _nothing,
    "linear": _linear,
    "max_pool2d": max_pool,
    "mean": mean,
    "mm": _addmm,
    "mul": _multiply,
    "neg": _negate,
    "relu": _relu,
    "reshape": _nothing,
    "reshape_alias": _nothing,
    "rsub": _subtract_from,
    "softplus": _softplus,
    "squeeze": _nothing,
    "sub": _subtract,
    "to_copy": _nothing,
    "unsqueeze": _nothing,
    "view": _nothing,
    "unsafe_view": _nothing,
}
"""Rules for operators, by name."""
