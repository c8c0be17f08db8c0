"""Operators lowered by what they do: those that only move numbers about, and those that are linear.

A rule for each operator of this kind would be fifty rules. Instead the operator itself is asked: run on the numbers of
its inputs' places it shows where each output comes from, run on unit vectors it shows its matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from benchmark.certificates.operations import Gather, Linear
from benchmark.certificates.record import Call, in_float64

MOVES: Final = frozenset(
    (
        "alias", "cat", "channel_shuffle", "clone", "constant_pad_nd", "contiguous", "copy", "detach",
        "diagonal", "diagonal_scatter", "expand", "fill", "flip", "gather", "im2col", "index", "index_select",
        "lift_fresh", "masked_fill", "permute", "pixel_shuffle", "pixel_unshuffle", "reflection_pad1d",
        "reflection_pad2d", "repeat", "replication_pad1d", "replication_pad2d", "reshape", "reshape_alias",
        "roll", "rot90", "select", "select_scatter", "slice", "slice_scatter", "split", "split_with_sizes",
        "squeeze", "stack", "t", "to_copy", "transpose", "tril", "triu", "unbind", "unfold", "unsafe_view",
        "unsqueeze", "upsample_nearest1d", "upsample_nearest2d", "view", "where",
    )
)  # fmt: skip
"""Operators whose every output is an input, a constant, or 0."""

LINEAR: Final = frozenset(
    (
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "addmm", "avg_pool1d",
        "avg_pool2d", "avg_pool3d", "baddbmm", "bmm", "convolution", "cumsum", "mean", "mm", "mv", "sum",
        "upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d",
    )
)  # fmt: skip
"""Operators that are affine in any one argument."""

MOST_ENTRIES: Final = 2**25
"""Entries of a matrix that is found column by column (256 MiB)."""

MOST_COLUMNS: Final = 2**14

Run = Callable[[dict[int, Tensor]], Tensor]
"""The operator on tensors in place of its arguments, by slot, for two samples."""


def runner(call: Call, output: int, constants: Mapping[int, Tensor]) -> Run:
    """The call in float64, as a function of its arguments that depend on the images.

    Args:
        call: The call.
        output: Which of its results.
        constants: Its other computed arguments, by slot.
    """

    def run(values: dict[int, Tensor]) -> Tensor:
        found: Tensor = call.run({**constants, **values}, in_float64)[output]
        return found

    return run


def moved(run: Run, shapes: dict[int, torch.Size]) -> tuple[dict[int, Tensor], Tensor] | None:
    """Where each output of an operator comes from.

    Args:
        run: The operator.
        shapes: Shape of each argument for two samples, by slot.

    Returns:
        For each argument the flat place in a sample of what each output takes from it, -1 for none, shape (m,); and the
        constant that each output has beside it, shape (m,). None if the operator does not move one sample at a time.
    """
    zeros = {slot: torch.zeros(shape, dtype=torch.float64, device="cpu") for slot, shape in shapes.items()}
    still = run(zeros)
    if not _halves(still.shape) or not torch.isfinite(still).all():
        return None
    base = still.reshape(2, -1)
    found = {}
    for slot, shape in shapes.items():
        places = torch.arange(1, shape.numel() + 1, dtype=torch.float64, device="cpu").view(shape)
        # Where a constant is written, both runs write it: the difference is 0 there, and the place elsewhere.
        ids = (run({**zeros, slot: places}) - still).reshape(2, -1).round().long() - 1
        own = shape.numel() // 2
        first, second = ids
        if not torch.equal(torch.where(first < 0, first, first + own), second) or int(first.max()) >= own:
            return None
        found[slot] = first
    return (found, base[0]) if torch.equal(base[0], base[1]) else None


def gathers(found: dict[int, Tensor], shift: Tensor, shape: torch.Size) -> list[tuple[int, Gather]]:
    """What `moved` found as layers whose sum is the operator, one an argument; the constant goes with the first."""
    layers = []
    for i, (slot, index) in enumerate(found.items()):
        layers.append((slot, Gather(index, shift if i == 0 else torch.zeros_like(shift), shape)))
    return layers


def matrix(run: Run, slot: int, shape: torch.Size) -> Linear | None:
    """An affine operator of one argument as a matrix on flat samples.

    Args:
        run: The operator.
        slot: The argument's.
        shape: Its shape for two samples.

    Returns:
        None if it is too large, or does not work on one sample at a time.
    """
    size = shape.numel() // 2
    still = run({slot: torch.zeros(shape, dtype=torch.float64, device="cpu")})
    if not _halves(still.shape) or size > MOST_COLUMNS or size * still.numel() // 2 > MOST_ENTRIES:
        return None
    bias = still.reshape(2, -1)
    probe = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")

    def change(first: Tensor, second: Tensor) -> Tensor:
        return (run({slot: torch.stack([first, second]).view(shape)}) - still).reshape(2, -1)

    nothing = torch.zeros(size, dtype=torch.float64, device="cpu")
    alone, other = change(probe, nothing), change(nothing, probe)
    if alone[1].any() or other[0].any() or not torch.equal(bias[0], bias[1]):
        return None
    if not torch.allclose(alone[0], other[1], rtol=1e-9, atol=1e-12):
        return None
    weight = torch.zeros(bias.shape[1], size + 1, dtype=torch.float64, device="cpu")
    units = torch.eye(size + 1, size, dtype=torch.float64, device="cpu")
    for i in range(0, size, 2):
        weight[:, i : i + 2] = change(units[i], units[i + 1]).T
    return Linear(weight[:, :size].contiguous(), bias[0].clone())


def _halves(shape: torch.Size) -> bool:
    """Whether a tensor's first dimension holds two samples, one after the other."""
    return len(shape) > 0 and shape[0] > 0 and shape[0] % 2 == 0
