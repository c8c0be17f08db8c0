"""What each module, function and tensor method of PyTorch becomes in a graph: the table of supported operations.

A *rule* is called with the shape of one sample before and after, and the arguments after the image-dependent one; it
answers a chain of layers, or None where these settings are not supported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from benchmark.certificates.operations import (
    Activation,
    ChannelMax,
    Convolution,
    Elementwise,
    Linear,
    Operation,
    Reshape,
)

Chain = Sequence[Operation] | None
Rule = Callable[..., Chain]


ARITHMETIC: Final = frozenset({"add", "sub", "mul", "div", "truediv", "neg", "iadd", "isub", "imul", "itruediv"})
"""Operators and tensor methods with a constant, without the underscore of their in-place twins."""


def arithmetic(name: str, shape: torch.Size, constant: Any = 0.0, *, constant_first: bool = False) -> Chain:
    """An image-dependent tensor of one sample's ``shape`` and a constant, combined by one of `ARITHMETIC`."""
    if not isinstance(constant, Tensor | int | float):
        return None
    # In float64 throughout: the reciprocal of a float32 deviation would be rounded to float32.
    constant = torch.as_tensor(constant).double()
    scale, shift = torch.ones_like(constant), torch.zeros_like(constant)
    match name.removeprefix("i"):
        case "neg":
            scale = -scale
        case "add":
            shift = constant
        case "sub":
            scale, shift = (-scale, constant) if constant_first else (scale, -constant)
        case "mul":
            scale = constant
        case _:
            if constant_first:
                return None
            scale = 1 / constant
    try:
        return (Elementwise(_broadcast(shape, scale), _broadcast(shape, shift)),)
    except RuntimeError:
        return None


def _broadcast(shape: torch.Size, t: Tensor) -> Tensor:
    """A constant per channel, (c, 1, 1), where it is one, else per entry of the sample."""
    if t.ndim == len(shape) + 1 and t.shape[0] == 1:
        t = t.squeeze(0)
    narrow = (shape[0], *[1] * (len(shape) - 1))
    try:
        return t.expand(narrow)
    except RuntimeError:
        return t.expand(shape)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, Sequence):
        return (int(value[0]), int(value[0])) if len(value) == 1 else (int(value[0]), int(value[1]))
    return int(value), int(value)


def _nothing(before: torch.Size, after: torch.Size, *_: Any, **__: Any) -> Chain:
    return ()


def _reshape(before: torch.Size, after: torch.Size, *_: Any, **__: Any) -> Chain:
    return (Reshape(after),)


def _linear(before: torch.Size, after: torch.Size, weight: Tensor, bias: Tensor | None = None) -> Chain:
    if len(before) != 1:
        return None
    w = weight.detach().double()
    return (Linear(w, w.new_zeros(len(w)) if bias is None else bias.detach().double()),)


def _conv2d(  # noqa: PLR0917 torch's own signature
    before: torch.Size,
    after: torch.Size,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Chain:
    if padding_mode != "zeros":
        return None
    if padding == "valid":
        padding = 0
    if padding == "same":
        reach = [(k - 1) * d for k, d in zip(weight.shape[2:], _pair(dilation), strict=True)]
        if any(r % 2 for r in reach):
            return None
        padding = tuple(r // 2 for r in reach)
    w = weight.detach().double()
    b = w.new_zeros(len(w)) if bias is None else bias.detach().double()
    return (Convolution(w, b, _pair(stride), _pair(padding), _pair(dilation), groups),)


def _batch_norm(  # noqa: PLR0917 torch's own signature
    before: torch.Size,
    after: torch.Size,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Chain:
    if training or running_mean is None or running_var is None or len(before) not in (1, 3):
        return None
    scale = (running_var.detach().double() + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach().double()
    shift = -running_mean.detach().double() * scale
    shift = shift if bias is None else shift + bias.detach().double()
    channels = (-1, *[1] * (len(before) - 1))
    return (Elementwise(scale.view(channels), shift.view(channels)),)


def _dropout(before: torch.Size, after: torch.Size, p: float = 0.5, training: bool = True, *_: Any, **__: Any) -> Chain:
    return None if training else ()


def _relu(before: torch.Size, after: torch.Size, *_: Any, **__: Any) -> Chain:
    return (Activation("relu"),)


def _softplus(before: torch.Size, after: torch.Size, beta: float = 1.0, threshold: float = 20.0) -> Chain:
    # Beyond the threshold torch switches to the identity: within 1e-6 of softplus only where the threshold is large.
    return (Activation("softplus", float(beta)),) if threshold >= 15 else None


def _avg_pool2d(  # noqa: PLR0917 torch's own signature
    before: torch.Size,
    after: torch.Size,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Chain:
    kernel, pad = _pair(kernel_size), _pair(padding)
    if any(pad) and not count_include_pad:
        return None
    weight = torch.full((before[0], 1, *kernel), 1 / (divisor_override or kernel[0] * kernel[1]), dtype=torch.float64)
    bias = torch.zeros(before[0], dtype=torch.float64)
    return (Convolution(weight, bias, _pair(stride or kernel), pad, groups=before[0]),)


def _adaptive_avg_pool2d(before: torch.Size, after: torch.Size, *_: Any) -> Chain:
    if before[1] % after[1] or before[2] % after[2]:
        return None
    return _avg_pool2d(before, after, (before[1] // after[1], before[2] // after[2]))


def _mean(before: torch.Size, after: torch.Size, dim: Any = None, keepdim: bool = False, **_: Any) -> Chain:
    if len(before) != 3 or not isinstance(dim, Sequence) or {d % 4 for d in dim} != {2, 3}:
        return None
    return (*(_avg_pool2d(before, after, tuple(before[1:])) or ()), Reshape(after))


def _max_pool2d(  # noqa: PLR0917 torch's own signature
    before: torch.Size,
    after: torch.Size,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Chain:
    """A selecting convolution that lays each window out along the channels, then the maximum over them."""
    kernel = _pair(kernel_size)
    size = kernel[0] * kernel[1]
    weight = torch.eye(size, dtype=torch.float64).view(size, 1, *kernel).repeat(before[0], 1, 1, 1)
    bias = torch.zeros(len(weight), dtype=torch.float64)
    windows = Convolution(
        weight, bias, _pair(stride or kernel), _pair(padding), _pair(dilation), groups=before[0], selects=True
    )
    return windows, ChannelMax(size)


FUNCTIONS: Final[Mapping[str, Rule]] = {
    "relu": _relu,
    "relu_": _relu,
    "softplus": _softplus,
    "linear": _linear,
    "conv2d": _conv2d,
    "batch_norm": _batch_norm,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "max_pool2d": _max_pool2d,
    "mean": _mean,
    "dropout": _dropout,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "unflatten": _reshape,
    "contiguous": _nothing,
    "float": _nothing,
    "clone": _nothing,
}
"""Rules for functions and tensor methods, by name."""


MODULES: Final[Mapping[type[nn.Module], tuple[Rule, Callable[[Any], tuple[Any, ...]]]]] = {
    nn.Identity: (_nothing, lambda m: ()),
    nn.Dropout: (_nothing, lambda m: ()),
    nn.Dropout1d: (_nothing, lambda m: ()),
    nn.Dropout2d: (_nothing, lambda m: ()),
    nn.Flatten: (_reshape, lambda m: ()),
    nn.Unflatten: (_reshape, lambda m: ()),
    nn.ReLU: (_relu, lambda m: ()),
    nn.Softplus: (_softplus, lambda m: (m.beta, m.threshold)),
    nn.Linear: (_linear, lambda m: (m.weight, m.bias)),
    nn.Conv2d: (_conv2d, lambda m: (m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups, m.padding_mode)),
    nn.BatchNorm1d: (_batch_norm, lambda m: (m.running_mean, m.running_var, m.weight, m.bias, False, None, m.eps)),
    nn.BatchNorm2d: (_batch_norm, lambda m: (m.running_mean, m.running_var, m.weight, m.bias, False, None, m.eps)),
    nn.AvgPool2d: (
        _avg_pool2d,
        lambda m: (m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override),
    ),
    nn.AdaptiveAvgPool2d: (_adaptive_avg_pool2d, lambda m: ()),
    nn.MaxPool2d: (_max_pool2d, lambda m: (m.kernel_size, m.stride, m.padding, m.dilation)),
}
"""Rules for modules, with the arguments they hold."""


def module_rule(module: nn.Module) -> tuple[Rule, tuple[Any, ...]] | None:
    """The rule of a module in eval mode and the arguments it holds; None for one that is not supported."""
    for kind, (rule, settings) in MODULES.items():
        if isinstance(module, kind):
            return rule, settings(module)
    return None
