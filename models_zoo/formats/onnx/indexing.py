"""Slices, gathers and scatters."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call
from models_zoo.formats.sizes import Size


def gather(x: Tensor, index: Tensor, *, axis: int) -> Tensor:
    """Slices of ``x`` along ``axis``, shape of ``index`` in its place."""
    flat = torch.where(index < 0, index + x.shape[axis], index).flatten()
    return x.index_select(axis, flat).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def gather_elements(x: Tensor, index: Tensor, *, axis: int) -> Tensor:
    """One number of ``x`` for each index."""
    return torch.gather(x, axis, torch.where(index < 0, index + x.shape[axis], index))


def gather_nd(x: Tensor, index: Tensor) -> Tensor:
    """The parts of ``x`` at places that the last axis of ``index`` names."""
    return x[tuple(index.unbind(-1))]


def scatter_nd(x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """A copy of ``x`` with the parts at those places replaced."""
    return torch.index_put(x, tuple(index.unbind(-1)), updates)


def scatter_elements(x: Tensor, index: Tensor, updates: Tensor, *, axis: int) -> Tensor:
    """A copy of ``x`` with one number for each index replaced."""
    return torch.scatter(x, axis, torch.where(index < 0, index + x.shape[axis], index), updates)


def _within(call: Call, index: Any, axis: int) -> None:
    """Refuse a known index that is outside: without data torch does not look."""
    size = call.shape(0)[axis]
    if isinstance(index, Tensor) and index.numel() and isinstance(size, int):
        low, high = int(index.min()), int(index.max())
        if low < -size or high >= size:
            raise WeightsError(f"its indices go from {low} to {high}, of {size}.")


def _gather(call: Call) -> Any:
    axis = call.axis(call.get("axis", 0), call.rank(0))
    index = call.value(1)
    _within(call, index, axis)
    if isinstance(index, Tensor) and not index.ndim:
        return call.apply(torch.select, call.value(0), axis, int(index))
    return call.apply(gather, call.value(0), index, axis=axis)


def _gather_elements(call: Call) -> Any:
    axis = call.axis(call.get("axis", 0), call.rank(0))
    _within(call, call.value(1), axis)
    return call.apply(gather_elements, call.value(0), call.value(1), axis=axis)


def _places(call: Call) -> Any:
    """The indices of an operator that names places by their coordinates."""
    index = call.value(1)
    if not isinstance(index, Tensor) or not index.ndim or index.shape[-1] > call.rank(0):
        raise WeightsError("its indices are computed from the images, or have more coordinates than there are axes.")
    for axis in range(index.shape[-1]):
        if isinstance(call.shape(0)[axis], Size):
            raise WeightsError("its indices count the images.")
        _within(call, index[..., axis], axis)
    return index


def _gather_nd(call: Call) -> Any:
    call.require(batch_dims=0)
    return call.apply(gather_nd, call.value(0), _places(call))


def _scatter_nd(call: Call) -> Any:
    call.require(reduction="none")
    return call.apply(scatter_nd, call.value(0), _places(call), call.value(2))


def _scatter_elements(call: Call) -> Any:
    call.require(reduction="none")
    axis = call.axis(call.get("axis", 0), call.rank(0))
    _within(call, call.value(1), axis)
    return call.apply(scatter_elements, call.value(0), call.value(1), call.value(2), axis=axis)


def _slice(call: Call) -> Any:
    starts, ends, axes, steps = bounds(call)
    result: Any = call.value(0)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        at = call.axis(axis, call.rank(0))
        if step > 0:
            result = call.apply(operator.getitem, result, (slice(None),) * at + (slice(start, end, step),))
            continue
        size = call.shape(0)[at]
        if isinstance(size, Size) or isinstance(start, Size) or isinstance(end, Size):
            raise WeightsError("it counts the images backwards.")
        places = range(int(size))[slice(start, None if end < -int(size) else end, step)]
        result = call.apply(torch.index_select, result, at, torch.tensor(list(places), dtype=torch.int64))
    return result


def bounds(call: Call) -> tuple[list[Any], list[Any], list[int], list[int]]:
    """Starts, ends, axes and steps of a slice: attributes before opset 10.

    Raises:
        WeightsError: If they do not fit each other.
    """
    if call.opset < 10:
        starts, ends, axes = list(call.get("starts", [])), list(call.get("ends", [])), call.get("axes", None)
        steps = None
    else:
        starts, ends, axes, steps = call.numbers(1) or [], call.numbers(2) or [], call.integers(3), call.integers(4)
    axes = list(range(len(starts))) if axes is None else list(axes)
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise WeightsError(f"its starts, ends, axes and steps do not fit: {starts}, {ends}, {axes}, {steps}.")
    return starts, ends, axes, steps


TABLE: Final[Mapping[str, Callable[[Call], Any]]] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "Where": lambda call: call.apply(torch.where, call.value(0), call.value(1), call.value(2)),
}
