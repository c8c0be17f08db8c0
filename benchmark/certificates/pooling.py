"""Average and max pooling, with every padding, dilation and rounding of the number of windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from benchmark.certificates.layers import Arguments, Layers, Value, two
from benchmark.certificates.operations import Activation, ChannelMax, Convolution, Gather, Pad


def average_pool(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    """The sum over each window, then what the average divides it by, which depends on the place at the edges."""
    x = a["self"]
    before = layers.shape(x)
    if len(before) != 3:
        return None
    kernel = two(a["kernel_size"])
    stride, padding = two(a.get("stride") or kernel), two(a.get("padding", 0))
    divisor = a.get("divisor_override") or kernel[0] * kernel[1]
    channels = before[0]
    weight = torch.ones((channels, 1, *kernel), dtype=torch.float64, device="cpu")
    bias = torch.zeros(channels, dtype=torch.float64, device="cpu")
    plain = Convolution(weight / divisor, bias, stride, padding, groups=channels)
    if plain.after(before) == after and (not any(padding) or a.get("count_include_pad", True)):
        return layers.append(plain, x)
    sides = _sides(before, after, kernel, stride, padding, (1, 1))
    sums = Convolution(weight, bias, stride, (0, 0), groups=channels)
    ones = torch.ones((1, *before), dtype=torch.float64, device="cpu")
    average = functional.avg_pool2d(
        ones, kernel, stride, padding, bool(a.get("ceil_mode")), bool(a.get("count_include_pad", True)),
        a.get("divisor_override"),
    )  # fmt: skip
    share = average[0] / sums.value(Pad(sides).value(ones))[0]
    return layers.affine(layers.append(sums, layers.append(Pad(sides), x)), share, 0.0, after)


def _sides(  # noqa: PLR0917 the geometry of a pooling
    before: torch.Size,
    after: torch.Size,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[int, int, int, int]:
    """How far windows reach beyond the pixels above, below, left and right; negative where they leave some out."""
    ends = [
        (after[1 + i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - padding[i] - before[1 + i]
        for i in range(2)
    ]
    return padding[0], ends[0], padding[1], ends[1]


def adaptive_average(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    """Windows of one size; unequal ones are found as a matrix."""
    before = layers.shape(a["self"])
    if len(before) != 3 or before[1] % after[1] or before[2] % after[2]:
        return None
    kernel = [before[1] // after[1], before[2] // after[2]]
    return average_pool(layers, {"self": a["self"], "kernel_size": kernel}, after)


def mean(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    """Over the pixels; other means are found as matrices."""
    before, dims = layers.shape(a["self"]), a.get("dim")
    if len(before) != 3 or not isinstance(dims, Sequence) or {int(d) % 4 for d in dims} != {2, 3}:
        return None
    pooled = average_pool(layers, {"self": a["self"], "kernel_size": before[1:]}, torch.Size((before[0], 1, 1)))
    return None if pooled is None else layers.shaped(pooled, after)


def max_pool(layers: Layers, a: Arguments, after: torch.Size) -> Value | None:
    """The windows laid out along the channels, then the maximum over them."""
    x = a["self"]
    before = layers.shape(x)
    if len(before) != 3:
        return None
    kernel = two(a["kernel_size"])
    stride, padding = two(a.get("stride") or kernel), two(a.get("padding", 0))
    dilation, size = two(a.get("dilation", 1)), kernel[0] * kernel[1]
    below = layers.nodes[x.node]
    rectified = isinstance(below.operation, Activation) and below.operation.kind == "relu"
    weight = torch.eye(size, dtype=torch.float64, device="cpu").view(size, 1, *kernel).repeat(before[0], 1, 1, 1)
    bias = torch.zeros(len(weight), dtype=torch.float64, device="cpu")
    windows = Convolution(weight, bias, stride, padding, dilation, groups=before[0], selects=True)
    source = Value(below.inputs[0]) if rectified else x
    fits = windows.after(before)[1:] == after[1:]
    # Padding counts as minus infinity, that of a convolution as 0: the same where nothing is negative.
    if fits and (not any(padding) or rectified or layers.non_negative(x)):
        return layers.append(ChannelMax(size, rectified=rectified), layers.append(windows, source))
    geometry = (before, after, kernel, stride, padding, dilation)
    return layers.append(ChannelMax(size, rectified=rectified), layers.append(_windows(*geometry), source))


def _windows(  # noqa: PLR0917 the geometry of a pooling
    before: torch.Size,
    after: torch.Size,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Gather:
    """The windows of max pooling; a place outside takes a pixel of the same window, which changes no maximum."""
    places = []
    for i in range(2):
        steps = torch.arange(after[1 + i], device="cpu")[:, None] * stride[i] - padding[i]
        at = steps + torch.arange(kernel[i], device="cpu")[None] * dilation[i]
        inside = (at >= 0) & (at < before[1 + i])
        first = at.gather(1, inside.long().argmax(dim=1, keepdim=True))
        places.append(torch.where(inside, at, first))
    rows, columns = places
    flat = rows.T[:, None, :, None] * before[2] + columns.T[None, :, None, :]  # kernel rows, columns, rows, columns
    plane = before[1] * before[2]
    index = (torch.arange(before[0], device="cpu")[:, None] * plane + flat.reshape(1, -1)).flatten()
    shape = torch.Size((before[0] * kernel[0] * kernel[1], *after[1:]))
    return Gather(index, torch.zeros(len(index), dtype=torch.float64, device="cpu"), shape)
