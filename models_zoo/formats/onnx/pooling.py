"""Pools, in one to three dimensions.

torch pads both sides alike, by at most half of a window; ONNX as it likes. What torch cannot say is padded first.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call
from models_zoo.formats.onnx.convolution import Windows, pad, windows

MAX_POOLS: Final = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
AVERAGE_POOLS: Final = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
MOST_SUMMANDS: Final = 1024


def _places(call: Call, w: Windows) -> tuple[list[int], list[int]]:
    """How many windows there are an axis, and how many numbers the last needs beyond the padding."""
    counts, beyond = [], []
    ceil = bool(call.get("ceil_mode", 0))
    for n, k, s, d, b, e in zip(w.size, w.kernel, w.stride, w.dilation, w.begin, w.end, strict=True):
        room = n + b + e - (k - 1) * d - 1
        if room < 0:
            raise WeightsError(f"its window is larger than the image, {w.size} numbers.")
        count = (-(-room // s) if ceil else room // s) + 1
        if ceil and (count - 1) * s >= n + b:  # a window that would begin in the padding at the end is left out
            count -= 1
        counts.append(count)
        beyond.append(max((count - 1) * s + (k - 1) * d + 1 - (n + b + e), 0))
    return counts, beyond


def _plain(w: Windows, beyond: list[int], *, dilated: bool) -> bool:
    """Whether torch can say it."""
    reach = [(k - 1) * d + 1 if dilated else k for k, d in zip(w.kernel, w.dilation, strict=True)]
    fits = w.symmetric and not any(beyond) and all(2 * b <= r for b, r in zip(w.begin, reach, strict=True))
    return fits and (dilated or set(w.dilation) == {1})


def _max_pool(call: Call) -> Any:
    call.ignore("storage_order")  # it concerns the indices, which are not given
    w = windows(call, call.get("kernel_shape", []))
    if not call.is_float(0):
        raise WeightsError("it pools whole numbers.")
    _, beyond = _places(call, w)
    function = MAX_POOLS[len(w.size) - 1]
    if any(b > (k - 1) * d for b, k, d in zip(w.begin, w.kernel, w.dilation, strict=True)):
        raise WeightsError("a window of it lies in the padding alone.")
    if _plain(w, beyond, dilated=True) and all(2 * b <= k for b, k in zip(w.begin, w.kernel, strict=True)):
        return [call.apply(function, call.value(0), w.kernel, w.stride, w.begin, w.dilation, False)]
    end = [e + more for e, more in zip(w.end, beyond, strict=True)]
    x = pad(call, call.value(0), w.begin, end, -math.inf)
    return [call.apply(function, x, w.kernel, w.stride, 0, w.dilation, False)]


def _average_pool(call: Call) -> Any:
    w = windows(call, call.get("kernel_shape", []))
    counts, beyond = _places(call, w)
    counted = bool(call.get("count_include_pad", 0))
    if _plain(w, beyond, dilated=False):
        return call.apply(AVERAGE_POOLS[len(w.size) - 1], call.value(0), w.kernel, w.stride, w.begin, False, counted)
    inside = torch.ones([1, 1, *w.size])
    if counted:
        inside = pad(call, inside, w.begin, w.end, 1.0)
        inside = pad(call, inside, [0] * len(w.size), beyond, 0.0)
    else:
        inside = _padded(call, w, beyond, inside)
    numbers = _sums(call, w, counts, inside)
    if bool((numbers == 0).any()):
        raise WeightsError("a window of it lies in the padding alone.")
    sums = _sums(call, w, counts, _padded(call, w, beyond, call.value(0)))
    return call.apply(operator.truediv, sums, numbers)


def _lp_pool(call: Call) -> Any:
    w = windows(call, call.get("kernel_shape", []))
    counts, beyond = _places(call, w)
    p = call.get("p", 2)
    powers = call.apply(torch.pow, call.apply(torch.abs, call.value(0)), p)
    return call.apply(torch.pow, _sums(call, w, counts, _padded(call, w, beyond, powers)), 1 / p)


def _padded(call: Call, w: Windows, beyond: list[int], x: Any) -> Any:
    return pad(call, x, w.begin, [e + more for e, more in zip(w.end, beyond, strict=True)], 0.0)


def _sums(call: Call, w: Windows, counts: list[int], x: Any) -> Any:
    """The sum of each window of a padded image: one slice for each number in a window."""
    if set(w.dilation) == {1}:
        mean = call.apply(AVERAGE_POOLS[len(w.size) - 1], x, w.kernel, w.stride)
        return call.apply(operator.mul, mean, math.prod(w.kernel))
    if math.prod(w.kernel) > MOST_SUMMANDS:
        raise WeightsError(f"its dilated window has more than {MOST_SUMMANDS} numbers.")
    total: Any = None
    for place in itertools.product(*map(range, w.kernel)):
        part = tuple(
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, n, s in zip(place, w.dilation, counts, w.stride, strict=True)
        )
        piece = call.apply(operator.getitem, x, (slice(None), slice(None), *part))
        total = piece if total is None else call.apply(operator.add, total, piece)
    return total


def _global(function: Callable[..., Any]) -> Callable[[Call], Any]:
    return lambda call: call.apply(function, call.value(0), list(range(2, call.rank(0))), True)


def lp_norm(x: Tensor, axes: list[int], keep: bool, p: int) -> Tensor:
    """The p-norm over some axes."""
    return torch.sum(torch.abs(x) ** p, axes, keep) ** (1 / p)


def _global_lp(call: Call) -> Any:
    return call.apply(lp_norm, call.value(0), list(range(2, call.rank(0))), True, call.get("p", 2))


TABLE: Final[Mapping[str, Callable[[Call], Any]]] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalLpPool": _global_lp,
    "GlobalMaxPool": _global(torch.amax),
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
}
