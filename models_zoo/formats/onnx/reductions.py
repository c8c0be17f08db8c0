"""Reductions: their axes are an attribute or an input, by operator and opset."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call

Handler = Callable[[Call], Any]


def sum_of(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """A sum of the type of its summands."""
    return torch.sum(x, axes, keep) if x.is_floating_point() else torch.sum(x, axes, keep, dtype=x.dtype)


def product_of(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """A product over some axes."""
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep, dtype=x.dtype)
    return x


def l1(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """The sum of absolute values."""
    return torch.sum(torch.abs(x), axes, keep)


def l2(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """The Euclidean norm."""
    norm: Tensor = torch.linalg.vector_norm(x, 2, axes, keep)
    return norm


def log_sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """The logarithm of a sum."""
    return torch.log(torch.sum(x, axes, keep))


def squares(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    """The sum of squares."""
    return torch.sum(x * x, axes, keep)


def _reduce(function: Callable[..., Any], *, input_since: int = 18, whole: bool = False) -> Handler:
    def build(call: Call) -> Any:
        if not whole and not call.is_float(0):
            raise WeightsError("it reduces whole numbers.")
        keep, rank = bool(call.get("keepdims", 1)), call.rank(0)
        if call.opset >= input_since:
            axes, nothing = call.integers(1), bool(call.get("noop_with_empty_axes", 0))
            if nothing and not axes and call.name in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"):
                return call.value(0)
            if nothing and not axes:
                raise WeightsError("it has noop_with_empty_axes=1 and no axes.")
        else:
            axes = list(call.get("axes", []))
        found = [call.axis(axis, rank) for axis in axes or range(rank)]
        if len(set(found)) < len(found):
            raise WeightsError(f"its axes {found} repeat.")
        return call.apply(function, call.value(0), found, keep)

    return build


def last_largest(x: Tensor, axis: int, keep: bool) -> Tensor:
    """The last of the places of the largest number."""
    return x.shape[axis] - 1 - torch.argmax(torch.flip(x, [axis]), axis, keep)


def last_smallest(x: Tensor, axis: int, keep: bool) -> Tensor:
    """The last of the places of the smallest number."""
    return x.shape[axis] - 1 - torch.argmin(torch.flip(x, [axis]), axis, keep)


def _extreme(first: Callable[..., Any], last: Callable[..., Any]) -> Handler:
    def build(call: Call) -> Any:
        axis = call.axis(call.get("axis", 0), call.rank(0))
        function = last if call.get("select_last_index", 0) else first
        return call.apply(function, call.value(0), axis, bool(call.get("keepdims", 1)))

    return build


def sorted_first(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The k largest or smallest numbers and their places; of equal ones, the first."""
    values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), places.narrow(axis, 0, k)


def _top_k(call: Call) -> Any:
    given = call.integers(1) if call.opset >= 10 else [int(call.get("k", 0))]
    call.ignore("sorted")  # where it is 0, any order will do
    axis = call.axis(call.get("axis", -1), call.rank(0))
    largest = bool(call.get("largest", 1))
    found = call.apply(sorted_first, call.value(0), (given or [0])[0], axis, largest)
    return [call.apply(operator.getitem, found, i) for i in (0, 1)]


def _cumulative_sum(call: Call) -> Any:
    call.require(exclusive=0, reverse=0)
    axes = call.integers(1) or []
    if len(axes) != 1:
        raise WeightsError("it names no axis.")
    return call.apply(torch.cumsum, call.value(0), call.axis(axes[0], call.rank(0)))


TABLE: Final[Mapping[str, Handler]] = {
    "ArgMax": _extreme(torch.argmax, last_largest),
    "ArgMin": _extreme(torch.argmin, last_smallest),
    "CumSum": _cumulative_sum,
    "ReduceL1": _reduce(l1),
    "ReduceL2": _reduce(l2),
    "ReduceLogSum": _reduce(log_sum),
    "ReduceLogSumExp": _reduce(torch.logsumexp),
    "ReduceMax": _reduce(torch.amax, whole=True),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMin": _reduce(torch.amin, whole=True),
    "ReduceProd": _reduce(product_of, whole=True),
    "ReduceSum": _reduce(sum_of, input_since=13, whole=True),
    "ReduceSumSquare": _reduce(squares),
    "TopK": _top_k,
}
