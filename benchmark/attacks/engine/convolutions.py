"""Convolutions on the CPU, with their gradients, faster than as PyTorch runs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, fold

_FEW: Final = 4
"""Input channels up to which a convolution's gradient is taken by `_ToImage`."""

_ROUNDING: Final = 1e-4
"""Largest difference between logits, as a share of the largest one, that another order of summation explains."""


@contextmanager
def faster_convolutions(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Run a model's convolutions in the way that is fastest on the CPU while the block runs, if the model can.

    Values stay what they are but for rounding. Passes take 0.6 to 1 of the time, for two reasons: weights with the
    channels as their last dimension in memory spare oneDNN, which convolves in that order, to reorder what goes in and
    out; and its gradient by an image, of one channel or three, takes two to five times as long as `_ToImage`.

    A model cannot if it asks features for the usual order, as ``features.view(n, -1)`` does. It is tried out.

    Args:
        model: The classifier; afterwards it is as it was. In the block only gradients by images may be asked for.
        x: Images to try it on, at least one, shape (n, c, h, w).
    """
    modules = [module for module in model.modules() if type(module) is nn.Conv2d and "forward" not in vars(module)]
    if x.device.type != "cpu" or not modules:
        yield
        return
    usual = {module.weight: module.weight.data for module in modules}
    expected = _tried(model, x)
    try:
        for module in modules:
            module.weight.data = module.weight.data.to(memory_format=torch.channels_last)
            if module.in_channels <= _FEW and module.groups == 1 and not isinstance(module.padding, str):
                module.forward = partial(_convolve, module)  # type: ignore[method-assign]
        if not _gives(model, x, expected):
            _put_back(modules, usual)
        yield
    finally:
        _put_back(modules, usual)


def _put_back(modules: list[nn.Conv2d], weights: dict[Tensor, Tensor]) -> None:
    for module in modules:
        vars(module).pop("forward", None)
    for weight, data in weights.items():
        weight.data = data


def _convolve(module: nn.Conv2d, x: Tensor) -> Tensor:
    if x.ndim != 4 or not x.requires_grad or module.padding_mode != "zeros":
        return nn.Conv2d.forward(module, x)
    convolved: Tensor = _ToImage.apply(x, module)  # type: ignore[no-untyped-call]
    return convolved


class _ToImage(torch.autograd.Function):
    """A convolution whose gradient by its input is a product of matrices, put together by `fold` (col2im)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.Conv2d) -> Tensor:
        ctx.module, ctx.size = module, x.shape[2:]
        return conv2d(x, module.weight, module.bias, module.stride, module.padding, module.dilation)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        module = ctx.module
        columns = module.weight.flatten(1).t() @ gradient.flatten(2)
        return fold(columns, ctx.size, module.kernel_size, module.dilation, module.padding, module.stride), None


def _tried(model: nn.Module, x: Tensor) -> Tensor:
    """The logits of two images, which have been passed back too if anything leads back."""
    few = x[:2].detach().requires_grad_(True)
    with torch.enable_grad():
        logits: Tensor = model(few)
        if logits.requires_grad:
            torch.autograd.grad(logits.sum(), few, allow_unused=True)
    return logits.detach()


def _gives(model: nn.Module, x: Tensor, expected: Tensor) -> bool:
    try:
        logits = _tried(model, x)
    except RuntimeError:  # a view that the order does not allow
        return False
    return torch.allclose(logits, expected, rtol=0, atol=_ROUNDING * float(expected.abs().max()))
