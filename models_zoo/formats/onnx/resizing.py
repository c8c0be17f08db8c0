"""Resize and Upsample: every axis by a matrix that the standard's formulas give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models_zoo.errors import WeightsError
from models_zoo.formats.onnx.call import Call

MOST_NUMBERS: Final = 1 << 24
"""Most numbers of one such matrix."""

COORDINATES: Final = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS: Final = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def along(x: Tensor, matrix: Tensor, *, axis: int) -> Tensor:
    """One axis multiplied by a matrix, shape (new size, old size)."""
    return torch.movedim(torch.movedim(x, axis, -1) @ matrix.t(), -1, axis)


def _places(size: int, new: int, scale: float, mode: str) -> NDArray[np.float64]:
    """Where each new number lies among the old ones."""
    at = np.arange(new, dtype=np.float64)
    if mode == "align_corners":
        length = scale * size  # which need not be a whole number
        return at * (size - 1) / (length - 1) if length != 1 else np.zeros(new)
    if mode == "asymmetric":
        return at / scale
    if mode == "pytorch_half_pixel" and new <= 1:
        return np.zeros(new)
    found = (at + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        centre = size / 2 * (1 - new / (scale * size))
        found = centre + found
    return found


def _nearest(at: NDArray[np.float64], size: int, rounding: str) -> NDArray[np.int64]:
    if rounding == "floor":
        found = np.floor(at)
    elif rounding == "ceil":
        found = np.ceil(at)
    else:
        found = np.ceil(at - 0.5) if rounding == "round_prefer_floor" else np.floor(at + 0.5)
    return np.clip(found, 0, size - 1).astype(np.int64)


def _matrix(at: NDArray[np.float64], size: int, mode: str, a: float, *, outside: bool) -> NDArray[np.float32]:
    """The weights of the old numbers in each new one."""
    reach = 1 if mode == "linear" else 2
    floor = np.floor(at).astype(np.int64)
    matrix = np.zeros((len(at), size))
    for shift in range(1 - reach, reach + 1):
        distance = np.abs(at - (floor + shift))
        weight = 1 - distance if mode == "linear" else _cubic(distance, a)
        place = floor + shift
        if outside:
            weight = np.where((place < 0) | (place >= size), 0.0, weight)
        np.add.at(matrix, (np.arange(len(at)), np.clip(place, 0, size - 1)), weight)
    if outside:
        matrix /= matrix.sum(1, keepdims=True)
    return matrix.astype(np.float32)


def _cubic(d: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _resized(  # noqa: PLR0917 - called in one place
    call: Call, axis: int, size: int, new: int, scale: float, settings: Mapping[str, Any], x: Any
) -> Any:
    if new < 1 or size * new > MOST_NUMBERS:
        raise WeightsError(f"it resizes an axis from {size} to {new} numbers.")
    at = _places(size, new, scale, settings["coordinates"])
    if settings["mode"] == "nearest":
        places = torch.from_numpy(_nearest(at, size, settings["rounding"]))
        return call.apply(torch.index_select, x, axis, places)
    matrix = _matrix(at, size, settings["mode"], settings["a"], outside=settings["outside"])
    return call.apply(along, x, torch.from_numpy(matrix), axis=axis)


def _resize_all(
    call: Call, axes: list[int], scales: list[float] | None, sizes: list[int] | None, **settings: Any
) -> Any:
    shape, x = call.shape(0), call.value(0)
    for i, axis in enumerate(axes):
        size = shape[axis]
        if scales is not None and scales[i] == 1:
            continue
        if sizes is not None and sizes[i] == size:
            continue
        if not isinstance(size, int) or size < 1:
            raise WeightsError("it resizes the batch.")
        scale = scales[i] if scales is not None else (sizes or [])[i] / size
        if not 0 < scale < MOST_NUMBERS:
            raise WeightsError(f"its scale is {scale}.")
        new = sizes[i] if sizes is not None else math.floor(np.float32(size) * np.float32(scale))
        x = _resized(call, axis, size, new, scale, settings, x)
    return x


def _upsample(call: Call) -> Any:
    mode = call.get("mode", "nearest")
    if mode != "nearest":
        raise WeightsError(f"its mode is {str(mode)[:40]}, whose formula differs between programs; use Resize.")
    scales = list(call.get("scales", [])) if call.opset < 9 else call.numbers(1) or []
    if len(scales) != call.rank(0):
        raise WeightsError(f"it has {len(scales)} scales.")
    return _resize_all(
        call, list(range(len(scales))), scales, None, mode=mode, coordinates="asymmetric", rounding="floor"
    )


def _resize(call: Call) -> Any:
    mode, rank = call.get("mode", "nearest"), call.rank(0)
    if call.opset < 11:
        if mode != "nearest":
            raise WeightsError(
                f"its mode is {str(mode)[:40]}, which opset 10 does not define; export opset 11 or later."
            )
        scales, sizes, axes = call.numbers(1), None, None
        settings: dict[str, Any] = {"coordinates": "asymmetric", "rounding": "floor"}
    else:
        if call.get("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize":
            call.raw(1)
        call.ignore("extrapolation_value")
        call.require(antialias=0, keep_aspect_ratio_policy="stretch")
        scales, sizes = call.numbers(2), call.integers(3)
        axes = call.get("axes", None) if call.opset >= 18 else None
        settings = {
            "coordinates": call.get("coordinate_transformation_mode", "half_pixel"),
            "rounding": call.get("nearest_mode", "round_prefer_floor"),
            "a": call.get("cubic_coeff_a", -0.75),
            "outside": bool(call.get("exclude_outside", 0)),
        }
    if mode not in ("nearest", "linear", "cubic") or settings["coordinates"] not in COORDINATES:
        raise WeightsError(f"its mode is {str(mode)[:40]}, with {str(settings['coordinates'])[:40]}.")
    if settings["rounding"] not in ROUNDINGS:
        raise WeightsError(f"its nearest_mode is {str(settings['rounding'])[:40]}.")
    found = list(range(rank)) if axes is None else [call.axis(axis, rank) for axis in axes]
    scales, sizes = scales or None, sizes or None
    if (scales is None) == (sizes is None) or len(scales or sizes or []) != len(found):
        raise WeightsError(f"it has scales {scales} and sizes {sizes}, for {len(found)} axes.")
    return _resize_all(call, found, scales, sizes, mode=mode, **settings)


TABLE: Final[Mapping[str, Callable[[Call], Any]]] = {"Resize": _resize, "Upsample": _upsample}
