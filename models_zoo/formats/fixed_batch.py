"""Programs that were exported for one number of images, made to take any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, fx, nn

from models_zoo.errors import WeightsError, shown
from models_zoo.formats.builder import Builder

AGREEMENT: Final = 1e-4
"""How far, relative to the largest logit, a program may be from itself as it was exported: rounding."""


class FixedBatch(nn.Module):
    """Runs a program for ``batch`` images on any number of them, some at a time; the last batch is filled up.

    Args:
        program: Maps exactly ``batch`` images to logits.
        batch: Their number.
    """

    def __init__(self, program: nn.Module, batch: int) -> None:
        super().__init__()
        self.program, self.batch = program, batch

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images, shape (n, c, h, w)."""
        if x.ndim == 0 or len(x) == self.batch:
            return self.program(x)  # type: ignore[no-any-return]
        lacking = -len(x) % self.batch
        filled = torch.cat([x, x[-1:].expand(lacking, *x.shape[1:])]) if lacking and len(x) else x
        parts = [self.program(part) for part in torch.split(filled, self.batch)]
        if any(part.ndim == 0 or len(part) != self.batch for part in parts):
            raise WeightsError(
                f"A program for {self.batch} images gives an output of shape {tuple(parts[0].shape)}, which is not one "
                "row an image."
            )
        return torch.cat(parts)[: len(x)]


def build(read: Callable[[Builder], fx.GraphModule], shape: Sequence[int | None]) -> nn.Module:
    """The module of a program whose input has this shape, for any number of images.

    A program that was exported for one number is read as one for any number, where that gives the same logits; else it
    is run on that many at a time.

    Args:
        read: Reads the program into a builder.
        shape: What the file says of the images, the batch first; None for any number.

    Raises:
        WeightsError: If it cannot be read.
    """
    if not shape or shape[0] is None:
        return _tried(read(Builder(shape)), shape)
    exported = FixedBatch(_tried(read(Builder(shape)), shape), shape[0])
    if shape[0] < 1:
        return exported
    try:
        free = read(Builder([None, *shape[1:]], declared=shape[0]))
        if _agree(free, exported, shape):
            return free
    except (WeightsError, RuntimeError, TypeError, ValueError, IndexError):
        pass  # it is tied to its batch
    return exported


@torch.no_grad()
def _tried(program: fx.GraphModule, shape: Sequence[int | None]) -> fx.GraphModule:
    """The program, once it has been run: what no size tells, such as an index that is too large, shows then."""
    try:
        program(torch.rand([1 if s is None else s for s in shape], generator=torch.Generator().manual_seed(0)))
    except Exception as error:  # whatever a stranger's program fails with is its fault
        raise WeightsError(f"The program fails on a random image: {shown(error)}") from error
    return program


@torch.no_grad()
def _agree(free: nn.Module, exported: FixedBatch, shape: Sequence[int | None]) -> bool:
    """Whether both give the same logits on random images, alone and in a batch."""
    generator = torch.Generator().manual_seed(0)
    for n in {exported.batch, exported.batch + 1, 3 if exported.batch < 3 else 1}:
        x = torch.rand([n, *(int(s or 0) for s in shape[1:])], generator=generator)
        found, expected = free(x), exported(x)
        if found.shape != expected.shape or not torch.allclose(
            found, expected, rtol=0, atol=AGREEMENT * float(expected.abs().amax()) if expected.numel() else 0.0,
            equal_nan=True,
        ):  # fmt: skip
            return False
    return True
