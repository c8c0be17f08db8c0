"""Coefficients of linear functions of one layer's output, and how they are carried back through the layers below.

A batch of linear functions ("rows") of a layer of shape (c, h, w) is held densely, or, while each row sees only a
window of the layer, as patches: the windows of all rows of one channel lie on a regular grid, as a convolution's do.
Patches make the bounds of convolutional layers affordable (Xu et al. 2020, arXiv:2002.12920, do the same).

The leading dimension is the samples; it is 1 while the coefficients do not depend on the sample. Or it is a choice of
single neurons of single samples, one row each: those whose bounds are worth the work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.certificates.ball import Ball
from benchmark.certificates.operations import (
    Affine,
    Convolution,
    Elementwise,
    Gather,
    Linear,
    Moving,
    Pad,
    Reshape,
)

MATRIX_ELEMENTS: Final = 2**22
"""Largest matrix that a convolution on windows is written out as, and kept (32 MiB)."""


@dataclass(frozen=True, eq=False)
class Dense:
    """Rows of full length.

    Attributes:
        data: Shape (n or 1, rows, *shape of the layer).
        sample: Where single rows were chosen, the sample of each; ``data`` then has one row a leading index.
    """

    data: Tensor
    sample: Tensor | None = None

    def _of_rows(self, values: Tensor) -> Tensor:
        """Values of each sample (n or 1, ...) as those of each leading index."""
        return values if self.sample is None or len(values) == 1 else values[self.sample]

    def dot(self, values: Tensor) -> Tensor:
        """Each row's product with a layer's values, shape (n or 1, *shape): (n or 1, rows)."""
        return torch.einsum("brd,bd->br", *_same_batch(self.data.flatten(2), self._of_rows(values).flatten(1)))

    def negative(self) -> Dense:
        """The coefficients below 0, the others 0."""
        return replace(self, data=self.data.clamp(max=0))

    def positive(self) -> Dense:
        """The coefficients above 0, the others 0."""
        return replace(self, data=self.data.clamp(min=0))

    def scaled(self, positive: Tensor, negative: Tensor, copies: int = 1) -> Dense:
        """Multiply coefficients above 0 by ``positive``, others by ``negative``.

        Args:
            positive: Shape (n, c * copies, ...).
            negative: The same.
            copies: For how many channels each channel's coefficients are repeated: those it is the maximum of.
        """
        positive, negative = (
            self._of_rows(t).view(-1, 1, t.shape[1] // copies, copies, *t.shape[2:]) for t in (positive, negative)
        )
        # Sums of products: several times as fast as a choice between the factors.
        scaled = self.data.clamp(min=0).unsqueeze(3) * positive
        scaled.addcmul_(self.data.clamp(max=0).unsqueeze(3), negative)
        return replace(self, data=scaled.flatten(2, 3))

    def through(self, layer: Affine, shape: torch.Size) -> tuple[Dense, Tensor]:
        """Carry back through an affine layer whose input has ``shape``; also each row's constant, (n or 1, rows)."""
        lead = self.data.shape[:2]
        flat = self.data.flatten(0, 1)
        match layer:
            case Linear():
                back, constant = layer.transpose(flat), self.data @ layer.bias
            case Convolution():
                back, constant = layer.transpose(flat, shape), self.data.sum(dim=(3, 4)) @ layer.bias
            case Elementwise():
                back, constant = self.data * layer.scale, (self.data * layer.shift).flatten(2).sum(dim=2)
        return replace(self, data=back.view(*lead, *shape)), constant

    def moved(self, layer: Moving, shape: torch.Size) -> tuple[Dense, Tensor]:
        """Carry back through a layer that moves numbers about, as `through`."""
        lead = self.data.shape[:2]
        constant = self.data.new_zeros(1, 1)
        match layer:
            case Reshape():
                back = self.data
            case Pad():
                back = layer.transpose(self.data.flatten(0, 1))
            case Gather():
                rows = self.data.flatten(2)
                back, constant = layer.transpose(rows.flatten(0, 1), shape.numel()), rows @ layer.shift
        return replace(self, data=back.reshape(*lead, *shape)), constant

    def on_pixels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients on an image (n or 1, rows, d), the pixels, and their room to 1, both (n, 1, d)."""
        pixels = self._of_rows(x).flatten(1)[:, None]
        return self.data.flatten(2), pixels, 1 - pixels

    def smallest(self, ball: Ball) -> Tensor:
        """Lower bounds over each ball of the image: (n, rows)."""
        balls = ball if self.sample is None else ball[self.sample]
        return balls.smallest(*self.on_pixels(ball.x))


@dataclass(frozen=True, eq=False)
class Patches:
    """Rows that see a window of the layer each.

    The row of channel ``r`` at grid position (i, j) sees the window whose upper left corner is
    (i · stride - padding, j · stride - padding); what lies outside the layer counts for nothing.

    Attributes:
        data: Shape (n or 1, channels of rows, grid rows or 1, grid columns or 1, c, kh, kw); 1 while all
            positions have the same coefficients.
        grid: Grid rows, columns.
        layer: Height and width of the layer.
        stride: Rows, columns.
        padding: Rows, columns.
        chosen: Where single rows were chosen, the sample, grid row and grid column of each; ``data`` then has one row a
            leading index, and 1 for the grid.
    """

    data: Tensor
    grid: tuple[int, int]
    layer: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    chosen: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def spread(self) -> tuple[int, int]:
        """Grid rows, columns that ``data`` has once positions differ."""
        return self.grid if self.chosen is None else (1, 1)

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of a window."""
        return self.data.shape[5], self.data.shape[6]

    def _overhang(self, axis: int) -> tuple[int, int]:
        """How far the windows reach beyond the layer, before and after; negative where they leave some of it out."""
        end = (self.grid[axis] - 1) * self.stride[axis] + self.window[axis]
        return self.padding[axis], end - self.padding[axis] - self.layer[axis]

    def windows(self, values: Tensor) -> Tensor:
        """A layer's values (n, c, h, w) as the rows see them: (n, grid rows, grid columns, c, kh, kw); 0 outside."""
        padded = functional.pad(values, (*self._overhang(1), *self._overhang(0)))
        seen = padded.unfold(2, self.window[0], self.stride[0]).unfold(3, self.window[1], self.stride[1])
        seen = seen.permute(0, 2, 3, 1, 4, 5)
        if self.chosen is None:
            return seen
        sample, row, column = self.chosen
        place = row * self.grid[1] + column
        if len(values) > 1:
            place = place + sample * (self.grid[0] * self.grid[1])
        # Laid out once, windows are gathered several times as fast as picked from where they overlap.
        return seen.flatten(0, 2).index_select(0, place)[:, None, None]

    def _masked(self) -> Tensor:
        """The coefficients, 0 outside the layer."""
        if all(beyond <= 0 for axis in range(2) for beyond in self._overhang(axis)):
            return self.data
        return self.data * self.windows(self.data.new_ones(1, 1, *self.layer))[:, None]

    def _flat(self, rows: Tensor) -> Tensor:
        """(n, channels of rows, grid or 1) as (n, rows)."""
        return rows.expand(*rows.shape[:2], *self.spread).flatten(1)

    def dot(self, values: Tensor) -> Tensor:
        """Each row's product with a layer's values, shape (n or 1, c, h, w): (n or 1, rows)."""
        data, seen = _same_batch(self.data, self.windows(values))
        return self._flat(torch.einsum("brhwcij,bhwcij->brhw", data.expand(-1, -1, *self.spread, -1, -1, -1), seen))

    def negative(self) -> Patches:
        """The coefficients below 0, the others 0."""
        return replace(self, data=self.data.clamp(max=0))

    def positive(self) -> Patches:
        """The coefficients above 0, the others 0."""
        return replace(self, data=self.data.clamp(min=0))

    def scaled(self, positive: Tensor, negative: Tensor, copies: int = 1) -> Patches:
        """Multiply coefficients above 0 by ``positive``, others by ``negative``; as `Dense.scaled`."""
        factors = (self.windows(t)[:, None] for t in (positive, negative))
        positive, negative = (t.reshape(*t.shape[:4], -1, copies, *t.shape[5:]) for t in factors)
        scaled = self.data.clamp(min=0).unsqueeze(5) * positive
        scaled.addcmul_(self.data.clamp(max=0).unsqueeze(5), negative)
        return replace(self, data=scaled.flatten(4, 5))

    def through(self, layer: Convolution | Elementwise, shape: torch.Size) -> tuple[Patches, Tensor]:
        """Carry back through an affine layer whose input has ``shape``; also each row's constant, (n or 1, rows)."""
        data = self._masked()
        if isinstance(layer, Elementwise):
            scale, shift = layer.scale, layer.shift
            if scale.numel() <= shape[0] and shift.numel() <= shape[0]:  # one number a channel
                factor, added = (t.expand(shape[0], 1, 1) for t in (scale, shift))
                return replace(self, data=data * factor), self._flat((data * added).sum(dim=(4, 5, 6)))
            full = [t.expand(shape)[None] for t in (scale, shift)]
            return replace(self, data=data * self.windows(full[0])[:, None]), replace(self, data=data).dot(full[1])
        constant = self._flat(data.sum(dim=(5, 6)) @ layer.bias)
        seen = [(w - 1) * layer.stride[i] + layer.window[i] for i, w in enumerate(self.window)]
        lead, flat = data.shape[:4], data.flatten(0, 3)
        if layer.tiles:
            back = layer.untile(flat)
        elif data[0, 0, 0, 0].numel() * shape[0] * seen[0] * seen[1] <= MATRIX_ELEMENTS:
            # Many small windows: one product of matrices is an order of magnitude faster than that many convolutions.
            back = flat.flatten(1) @ layer.window_matrix(*self.window)
        else:
            back = functional.conv_transpose2d(
                flat, layer.weight, None, layer.stride, 0, 0, layer.groups, layer.dilation
            )
        back = back.view(*lead, shape[0], *seen)
        stride, padding = ((a[0] * layer.stride[0], a[1] * layer.stride[1]) for a in (self.stride, self.padding))
        padding = (padding[0] + layer.padding[0], padding[1] + layer.padding[1])
        return replace(self, data=back, layer=(shape[1], shape[2]), stride=stride, padding=padding), constant

    def moved(self, layer: Pad, shape: torch.Size) -> tuple[Patches, Tensor]:
        """Carry back through zeros around the pixels: those lie outside the layer then."""
        top, _, left, _ = layer.sides
        padding = (self.padding[0] + top, self.padding[1] + left)
        masked = replace(self, data=self._masked(), layer=(shape[1], shape[2]), padding=padding)
        return masked, self.data.new_zeros(1, 1)

    def on_pixels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coefficients on an image (n or 1, channels of rows, *grid, window), the pixels seen, and their room to 1."""
        data = self.data.expand(-1, -1, *self.spread, -1, -1, -1).flatten(4)
        return data, self.windows(x).flatten(3)[:, None], self.windows(1 - x).flatten(3)[:, None]

    def smallest(self, ball: Ball) -> Tensor:
        """Lower bounds over each ball of the image: (n, rows)."""
        balls = ball if self.chosen is None else ball[self.chosen[0]]
        return balls.smallest(*self.on_pixels(ball.x)).flatten(1)

    def dense(self) -> Dense:
        """The same rows at full length."""
        (top, bottom), (left, right) = self._overhang(0), self._overhang(1)
        h, w = self.layer
        data = self.data.expand(-1, -1, *self.spread, -1, -1, -1)
        canvas = data.new_zeros(*data.shape[:5], h + top + max(bottom, 0), w + left + max(right, 0))
        inner = canvas[..., top : top + h, left : left + w]
        if self.chosen is not None:
            self._place_chosen(data.flatten(0, 3), canvas.flatten(0, 3))
            return Dense(inner.flatten(1, 3), self.chosen[0])
        for i in range(self.grid[0]):
            for j in range(self.grid[1]):
                a, b = i * self.stride[0], j * self.stride[1]
                canvas[:, :, i, j, :, a : a + self.window[0], b : b + self.window[1]] = data[:, :, i, j]
        return Dense(inner.flatten(1, 3))

    def _place_chosen(self, data: Tensor, canvas: Tensor) -> None:
        """Write each chosen row's window (k, c, kh, kw) to its place in (k, c, ...)."""
        assert self.chosen is not None
        _, row, column = self.chosen
        k = torch.arange(len(data), device=data.device)[:, None, None]
        a = (row * self.stride[0])[:, None, None] + torch.arange(self.window[0], device=data.device)[None, :, None]
        b = (column * self.stride[1])[:, None, None] + torch.arange(self.window[1], device=data.device)[None, None]
        canvas[k, :, a, b] = data.permute(0, 2, 3, 1)


Coefficients = Dense | Patches


def add(a: Coefficients, b: Coefficients) -> Coefficients:
    """The sum of two functions of one layer, row by row."""
    if isinstance(a, Patches) and isinstance(b, Patches) and a.stride == b.stride:
        before = [max(a.padding[i], b.padding[i]) for i in range(2)]
        after = [max(p.window[i] - p.padding[i] for p in (a, b)) for i in range(2)]
        data = [
            functional.pad(
                p.data,
                (
                    before[1] - p.padding[1],
                    after[1] - p.window[1] + p.padding[1],
                    before[0] - p.padding[0],
                    after[0] - p.window[0] + p.padding[0],
                ),
            )
            for p in (a, b)
        ]
        return replace(a, data=data[0] + data[1], padding=(before[0], before[1]))
    a, b = to_dense(a), to_dense(b)
    return replace(a, data=a.data + b.data)


def to_dense(c: Coefficients) -> Dense:
    """The same rows at full length."""
    return c.dense() if isinstance(c, Patches) else c


def simplest(c: Coefficients) -> Coefficients:
    """Dense once the windows are no smaller than the layer."""
    if isinstance(c, Patches) and c.window[0] * c.window[1] >= c.layer[0] * c.layer[1]:
        return c.dense()
    return c


def _same_batch(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    n = max(len(a), len(b))
    return a.expand(n, *a.shape[1:]), b.expand(n, *b.shape[1:])
