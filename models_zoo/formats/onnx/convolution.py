"""Convolutions, and the windows that they share with pools."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor
from torch.nn import functional

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call

AUTO_PADS: Final = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
CONVOLUTIONS: Final = (functional.conv1d, functional.conv2d, functional.conv3d)
TRANSPOSED: Final = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


@dataclass(frozen=True)
class Windows:
    """Where windows lie, a number an axis.

    Attributes:
        kernel: Their size.
        stride: How far they are apart.
        dilation: How far the numbers in one are apart.
        begin: Padding before the first number.
        end: Padding after the last.
        size: Numbers there are, without padding.
    """

    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    begin: list[int]
    end: list[int]
    size: list[int]

    @property
    def symmetric(self) -> bool:
        """Whether both sides are padded alike."""
        return self.begin == self.end


def windows(call: Call, kernel: Sequence[int]) -> Windows:
    """The windows that an operator's attributes describe.

    Raises:
        WeightsError: If they are not of the image's dimensions, or contradict themselves.
    """
    size = call.sizes(0, first=2)
    axes = len(size)
    stride, dilation = list(call.get("strides", [1] * axes)), list(call.get("dilations", [1] * axes))
    pads, auto = list(call.get("pads", [0] * 2 * axes)), call.get("auto_pad", "NOTSET") or "NOTSET"
    if not 1 <= axes <= 3 or [len(kernel), len(stride), len(dilation), len(pads)] != [axes, axes, axes, 2 * axes]:
        raise WeightsError(f"its kernel, strides, dilations and pads do not fit {axes} axes.")
    if auto not in AUTO_PADS or (auto != "NOTSET" and any(pads)):
        raise WeightsError(f"its attribute auto_pad is {str(auto)[:40]}, with pads {pads}.")
    if min([*kernel, *stride, *dilation]) < 1 or min(pads) < 0:
        raise WeightsError("it has a kernel, stride or dilation below 1, or pads below 0.")
    begin, end = pads[:axes], pads[axes:]
    if auto.startswith("SAME"):
        begin, end = [], []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            begin.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
            end.append(total - begin[-1])
    return Windows(list(kernel), stride, dilation, begin, end, size)


def pad(call: Call, x: Any, begin: Sequence[int], end: Sequence[int], fill: float) -> Any:
    """Pad the last axes; negative numbers cut off."""
    if not any(begin) and not any(end):
        return x
    sides = [n for pair in zip(reversed(begin), reversed(end), strict=True) for n in pair]
    return call.apply(functional.pad, x, sides, value=fill)


def _kernel(call: Call) -> list[int]:
    """The size of a convolution's kernel; what the attribute says must agree with the weights."""
    found = call.sizes(1, first=2)
    if list(call.get("kernel_shape", found)) != found:
        raise WeightsError(f"its kernel_shape is not {found}, the size of its weights.")
    return found


def _conv(call: Call) -> Any:
    w = windows(call, _kernel(call))
    x, padding = call.value(0), w.begin
    if not w.symmetric:
        x, padding = pad(call, x, w.begin, w.end, 0.0), [0] * len(w.size)
    function = CONVOLUTIONS[len(w.size) - 1]
    return call.apply(function, x, call.value(1), call.optional(2), w.stride, padding, w.dilation, call.get("group", 1))


def _conv_transpose(call: Call) -> Any:
    kernel = _kernel(call)
    auto, pads = call.get("auto_pad", "NOTSET") or "NOTSET", list(call.get("pads", [0] * 2 * len(kernel)))
    size = call.sizes(0, first=2)
    axes = len(size)
    stride, dilation = list(call.get("strides", [1] * axes)), list(call.get("dilations", [1] * axes))
    extra, wanted = list(call.get("output_padding", [0] * axes)), call.get("output_shape", None)
    lengths = [len(kernel), len(stride), len(dilation), len(extra), len(pads)]
    if not 1 <= axes <= 3 or lengths != [axes] * 4 + [2 * axes] or auto not in AUTO_PADS:
        raise WeightsError(f"its attributes do not fit {axes} axes, or auto_pad is {str(auto)[:40]}.")
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(size, stride, kernel, dilation, strict=True)]
    if wanted is None and auto.startswith("SAME"):
        wanted = [n * s for n, s in zip(size, stride, strict=True)]
    if wanted is None:
        begin, end = pads[:axes], pads[axes:]
    else:
        totals = [f + e - w for f, e, w in zip(full, extra, list(wanted)[-axes:], strict=True)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        begin, end = (small, large) if auto == "SAME_UPPER" else (large, small)
        if min(totals) < 0:
            raise WeightsError(f"its output_shape {list(wanted)} is larger than what it computes.")
    group, function = call.get("group", 1), TRANSPOSED[axes - 1]
    if begin == end and all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        return call.apply(
            function, call.value(0), call.value(1), call.optional(2), stride, begin, extra, group, dilation
        )
    whole = call.apply(function, call.value(0), call.value(1), None, stride, 0, 0, group, dilation)
    result = pad(call, whole, [-b for b in begin], [e - b for e, b in zip(extra, end, strict=True)], 0.0)
    bias = call.optional(2)
    if bias is None:
        return result
    return call.apply(operator.add, result, call.apply(Tensor.reshape, bias, [-1, *[1] * axes]))


TABLE: Final[Mapping[str, Callable[[Call], Any]]] = {"Conv": _conv, "ConvTranspose": _conv_transpose}
