"""Convolutions on the CPU, with their gradients, faster than as PyTorch runs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import batch_norm, conv2d, fold

_FEW: Final = 4
"""Input channels up to which a convolution's gradient is taken by `_ToImage`."""

Window = tuple[Any, Any, Any]
"""Stride, padding and dilation of a convolution."""

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
    programs = [
        module for module in model.modules() if isinstance(module, fx.GraphModule) and _can_be_rewritten(module)
    ]
    if x.device.type != "cpu" or not (modules or programs):
        yield
        return
    usual = {module.weight: module.weight.data for module in modules}
    expected = _tried(model, x)
    try:
        for module in modules:
            module.weight.data = module.weight.data.to(memory_format=torch.channels_last)
            if _is_from_image(module.in_channels, module.groups, module.padding):
                module.forward = partial(_convolve, module)  # type: ignore[method-assign]
        for program in programs:
            program.forward = _faster_program(program).forward
        if not _gives(model, x, expected):
            _put_back([*modules, *programs], usual)
        yield
    finally:
        _put_back([*modules, *programs], usual)


def _put_back(modules: list[nn.Module], weights: dict[Tensor, Tensor]) -> None:
    for module in modules:
        vars(module).pop("forward", None)
    for weight, data in weights.items():
        weight.data = data


def _can_be_rewritten(program: fx.GraphModule) -> bool:
    called = any(node.op == "call_module" for node in program.graph.nodes)
    return "forward" not in vars(program) and not called and bool(_convolutions(program.graph))


def _is_from_image(channels: int, groups: int, padding: Any) -> bool:
    return channels <= _FEW and groups == 1 and not isinstance(padding, str)


def _convolve(module: nn.Conv2d, x: Tensor) -> Tensor:
    if x.ndim != 4 or module.padding_mode != "zeros":
        return nn.Conv2d.forward(module, x)
    return convolve_image(x, module.weight, module.bias, (module.stride, module.padding, module.dilation))


def convolve_image(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
    """What `conv2d` gives, with a faster gradient by images of few channels."""
    if x.ndim != 4 or not x.requires_grad:
        return conv2d(x, weight, bias, *window)
    convolved: Tensor = _ToImage.apply(x, weight, bias, window)  # type: ignore[no-untyped-call]
    return convolved


class _ToImage(torch.autograd.Function):
    """A convolution whose gradient by its input is a product of matrices, put together by `fold` (col2im)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
        ctx.weight, ctx.size, ctx.window = weight, x.shape[2:], window
        return conv2d(x, weight, bias, *window)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        stride, padding, dilation = ctx.window
        columns = ctx.weight.flatten(1).t() @ gradient.flatten(2)
        image = fold(columns, ctx.size, ctx.weight.shape[2:], dilation, padding, stride)
        return image, None, None, None


def _convolutions(graph: fx.Graph) -> list[fx.Node]:
    """The convolutions of a program whose weights are its own."""
    nodes = [node for node in graph.nodes if node.op == "call_function" and node.target is conv2d and not node.kwargs]
    return [node for node in nodes if all(of is None or of.op == "get_attr" for of in node.args[1:3])]


def _faster_program(program: fx.GraphModule) -> fx.GraphModule:
    """A program that computes the same; it shares all tensors but the weights of convolutions."""
    arrays: dict[str, Any] = {**dict(program.named_parameters()), **dict(program.named_buffers())}
    graph = fx.Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    for i, node in enumerate(_convolutions(graph)):
        given: Any = (*node.args, *(None, 1, 0, 1, 1)[len(node.args) - 2 :])
        x, weight, _, *window, groups = given
        names = f"faster_weight_{i}", f"faster_bias_{i}"
        arrays |= zip(names, _folded(node, arrays), strict=True)
        with graph.inserting_before(node):
            held = [None if arrays[name] is None else graph.get_attr(name) for name in names]
        if _is_from_image(arrays[weight.target].shape[1], groups, window[1]):
            node.target, node.args = convolve_image, (x, *held, tuple(window))
        else:
            node.args = (x, *held, *window, groups)
    graph.eliminate_dead_code()
    return fx.GraphModule({name: array for name, array in arrays.items() if array is not None}, graph)


def _folded(node: fx.Node, arrays: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution, with the normalisation in them that alone follows it, if one does."""

    def value(of: Any) -> Any:
        return None if of is None else arrays[of.target]

    weight, bias = value(node.args[1]), value(node.args[2] if len(node.args) > 2 else None)
    user: Any = next(iter(node.users)) if len(node.users) == 1 else node
    if user.op == "call_function" and user.target is batch_norm and not user.kwargs and len(user.args) == 8:
        _, *given, training, _, eps = user.args
        if not training and all(of is None or of.op == "get_attr" for of in given):
            constants: list[Any] = [None if of is None else value(of).double() for of in given]
            mean, variance, scale, shift = constants
            factor = (variance + eps).rsqrt() * (1 if scale is None else scale)
            start = -mean if bias is None else bias.double() - mean
            bias = (start * factor + (0 if shift is None else shift)).to(weight.dtype)
            weight = (weight.double() * factor.view(-1, 1, 1, 1)).to(weight.dtype)
            user.replace_all_uses_with(node)
            node.graph.erase_node(user)
    return weight.to(memory_format=torch.channels_last), bias


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
