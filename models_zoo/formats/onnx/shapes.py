"""Shapes, constants and the putting together of tensors."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call, Sizes, sizes_or_tensor
from models_zoo.formats.sizes import Size, product

Handler = Callable[[Call], Any]

MOST_PADDING: Final = 1 << 16
MOST_PIECES: Final = 4096


def axes_of(call: Call, *, input_since: int = 13) -> list[int] | None:
    """Axes that are an attribute or, in later opsets, an input."""
    if call.opset >= input_since:
        return call.integers(1)
    found = call.get("axes", None)
    return None if found is None else list(found)


def target(call: Call, shape: list[Any], sizes: list[Any]) -> list[Any]:
    """The sizes of a reshape: a 0 keeps the size there is, but for ``allowzero``."""
    if call.get("allowzero", 0):
        if 0 in sizes and -1 in sizes:
            raise WeightsError("with allowzero=1 its shape has both 0 and -1.")
        return sizes
    if any(size == 0 and i >= len(shape) for i, size in enumerate(sizes) if not isinstance(size, Size)):
        raise WeightsError(f"its shape {sizes} keeps an axis that is not there.")
    return [shape[i] if not isinstance(s, Size) and s == 0 else s for i, s in enumerate(sizes)]


def _reshape(call: Call) -> Any:
    return call.builder.reshape(call.value(0), target(call, call.shape(0), call.numbers(1) or []))


def _flatten(call: Call) -> Any:
    shape = call.shape(0)
    axis = call.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    if not 0 <= axis <= len(shape):
        raise WeightsError(f"its axis is not one of {len(shape)}.")
    if axis == 1 and len(shape) > 1:
        return call.apply(torch.flatten, call.value(0), 1)
    return call.builder.reshape(call.value(0), [product(shape[:axis]), product(shape[axis:])])


def _transpose(call: Call) -> Any:
    rank = call.rank(0)
    order = list(call.get("perm", range(rank - 1, -1, -1)))
    if sorted(order) != list(range(rank)):
        raise WeightsError(f"its perm is no order of {rank} axes.")
    return call.apply(torch.permute, call.value(0), order)


def _unsqueeze(call: Call) -> Any:
    axes = axes_of(call) or []
    rank = call.rank(0) + len(axes)
    result: Any = call.value(0)
    for axis in sorted(call.axis(axis, rank) for axis in axes):
        result = call.apply(torch.unsqueeze, result, axis)
    return result


def squeezed(call: Call, shape: list[Any]) -> list[int]:
    """The axes that a squeeze takes away; without any named, all of size 1."""
    axes = axes_of(call)
    if axes is None:
        return [i for i, size in enumerate(shape) if not isinstance(size, Size) and size == 1]
    found = [call.axis(axis, len(shape)) for axis in axes]
    for axis in found:
        if isinstance(shape[axis], Size) or shape[axis] != 1:
            raise WeightsError(f"it squeezes axis {axis}, whose size is {shape[axis]}.")
    return found


def _squeeze(call: Call) -> Any:
    axes = squeezed(call, call.shape(0))
    return call.apply(torch.squeeze, call.value(0), tuple(axes)) if axes else call.value(0)


def _concat(call: Call) -> Any:
    return call.builder.concatenate([call.value(i) for i in range(len(call.inputs))], call.get("axis", 1))


def pieces(call: Call, size: Any) -> list[int]:
    """The sizes of the parts of a split."""
    parts = call.integers(1) if call.opset >= 13 else call.get("split", None)
    if parts is not None:
        call.ignore(*(["num_outputs"] if call.opset >= 18 else []))
        return [int(p) for p in parts]
    count = int(call.get("num_outputs", call.outputs)) if call.opset >= 18 else call.outputs
    if isinstance(size, Size) or not 1 <= count <= MOST_PIECES or (size % count and call.opset < 18):
        raise WeightsError(f"it splits {size} numbers into {count} parts.")
    each = -(-size // count)
    return [each] * (count - 1) + [size - each * (count - 1)]


def _split(call: Call) -> Any:
    axis = call.axis(call.get("axis", 0), call.rank(0))
    parts = pieces(call, call.shape(0)[axis])
    found = call.apply(torch.split, call.value(0), parts, axis)
    return [call.apply(operator.getitem, found, i) for i in range(len(parts))]


def _expand(call: Call) -> Any:
    shape, sizes = call.shape(0), call.numbers(1) or []
    rank = max(len(shape), len(sizes))
    shape, sizes = [*[1] * (rank - len(shape)), *shape], [*[1] * (rank - len(sizes)), *sizes]

    def fixed(size: Any, number: int) -> bool:
        return not isinstance(size, Size) and size == number

    wanted = [t if fixed(s, 1) else s for s, t in zip(shape, sizes, strict=True)]
    for s, t in zip(shape, sizes, strict=True):
        if not (fixed(s, 1) or fixed(t, 1) or t in (s, call.builder.declared)):
            raise WeightsError(f"it expands an axis of size {s} to {t}.")
    if wanted == call.shape(0):
        return call.value(0)
    if rank > call.rank(0):
        return call.builder.expand(call.builder.reshape(call.value(0), shape), wanted)
    return call.builder.expand(call.value(0), wanted)


def _tile(call: Call) -> Any:
    return call.apply(Tensor.repeat, call.value(0), call.numbers(1) or [])


def _shape(call: Call) -> Any:
    shape = call.shape(0)
    if call.opset < 15:
        return sizes_or_tensor(shape)
    start, end = call.get("start", 0), call.get("end", None)
    return sizes_or_tensor(np.array(shape, dtype=object)[slice(start, end)])


def _size(call: Call) -> Any:
    return sizes_or_tensor(product(call.shape(0)))


def _constant(call: Call) -> Any:
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in call.attributes:
            value = call.get(name, None)
            return value if isinstance(value, Tensor) else torch.tensor(value)
    raise WeightsError("it holds no numbers.")


def filled(call: Call, sizes: list[Any], value: float, dtype: torch.dtype) -> Any:
    """A tensor of one number; where its size follows the number of images, it is made where they are."""
    if any(isinstance(s, Size) for s in sizes):
        device = call.apply(getattr, call.builder.images, "device")
        return call.apply(torch.full, sizes, value, dtype=dtype, device=device)
    return call.apply(torch.full, sizes, value, dtype=dtype)


def _constant_of_shape(call: Call) -> Any:
    value = call.get("value", torch.zeros(1))
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise WeightsError("its value is not one number.")
    return filled(call, call.numbers(0) or [], value.item(), value.dtype)


def _range(call: Call) -> Any:
    start, limit, step = ((call.numbers(i) or [0])[0] for i in range(3))
    if isinstance(step, Size) or not step:
        raise WeightsError(f"its step is {step}.")
    if isinstance(start, Size) or isinstance(limit, Size):
        if not isinstance(start, int) or step != 1:
            raise WeightsError("it counts the images in steps.")
        device = call.apply(getattr, call.builder.images, "device")
        numbers = call.apply(torch.arange, limit - start, device=device)
        return call.apply(operator.add, numbers, start) if start else numbers
    count = max(math.ceil((limit - start) / step), 0)
    numbers = call.apply(torch.arange, count, dtype=call.builder.dtype(call.value(0)))
    return call.apply(operator.add, call.apply(operator.mul, numbers, step), start)


def _pad(call: Call) -> Any:
    mode, rank = call.get("mode", "constant") or "constant", call.rank(0)
    if call.opset < 11:
        pads, fill, axes = list(call.get("pads", [])), [call.get("value", 0.0)], None
    else:
        pads, fill, axes = call.integers(1) or [], call.numbers(2) or [0], call.integers(3)
    found = list(range(rank)) if axes is None else [call.axis(axis, rank) for axis in axes]
    if len(pads) != 2 * len(found) or max(map(abs, pads), default=0) > MOST_PADDING or len(fill) != 1:
        raise WeightsError(f"its pads {pads[:20]} do not fit {len(found)} axes.")
    begin, end = [0] * rank, [0] * rank
    for axis, b, e in zip(found, pads[: len(found)], pads[len(found) :], strict=True):
        begin[axis], end[axis] = b, e
    if mode == "constant":
        first = next((i for i in range(rank) if begin[i] or end[i]), rank)
        sides = [n for i in range(rank - 1, first - 1, -1) for n in (begin[i], end[i])]
        return call.apply(functional.pad, call.value(0), sides, value=fill[0]) if sides else call.value(0)
    if mode not in ("reflect", "edge", "wrap") or min([*begin, *end], default=0) < 0:
        raise WeightsError(f"it pads {pads[:20]} in the mode {str(mode)[:40]}.")
    result: Any = call.value(0)
    for axis in range(rank):
        if begin[axis] or end[axis]:
            (size,) = call.sizes(0, first=axis)[:1]
            places = np.pad(np.arange(size), (begin[axis], end[axis]), mode=mode)  # type: ignore[arg-type]
            result = call.apply(torch.index_select, result, axis, torch.from_numpy(places))
    return result


def _blocks(call: Call) -> tuple[list[Any], int]:
    shape, block = call.shape(0), int(call.get("blocksize", 0))
    if len(shape) != 4 or block < 1:
        raise WeightsError(f"its blocksize is {block}, on {len(shape)} axes.")
    return shape, block


def _depth_to_space(call: Call) -> Any:
    (n, c, h, w), b = _blocks(call)
    mode = call.get("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise WeightsError(f"its mode is {str(mode)[:40]}.")
    split = [n, b, b, c // b**2, h, w] if mode == "DCR" else [n, c // b**2, b, b, h, w]
    order = [0, 3, 4, 1, 5, 2] if mode == "DCR" else [0, 1, 4, 2, 5, 3]
    mixed = call.apply(torch.permute, call.builder.reshape(call.value(0), split), order)
    return call.builder.reshape(mixed, [n, c // b**2, h * b, w * b])


def _space_to_depth(call: Call) -> Any:
    (n, c, h, w), b = _blocks(call)
    split = call.builder.reshape(call.value(0), [n, c, h // b, b, w // b, b])
    return call.builder.reshape(call.apply(torch.permute, split, [0, 3, 5, 1, 2, 4]), [n, c * b**2, h // b, w // b])


def _triangle(call: Call) -> Any:
    k = (call.integers(1) or [0])[0]
    return call.apply(torch.triu if call.get("upper", 1) else torch.tril, call.value(0), k)


def _identity(call: Call) -> Any:
    value = call.raw(0)
    return value if isinstance(value, Sizes) else call.value(0)


TABLE: Final[Mapping[str, Handler]] = {
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _identity,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _triangle,
    "Unsqueeze": _unsqueeze,
}
