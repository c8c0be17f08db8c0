"""The layers that certificates understand, in float64: what `benchmark.certificates.graph` lowers a module to.

Every affine layer knows three things: its value at a point, how far an interval's radius spreads through it, and its
transpose, which carries the coefficients of linear bounds from its output back to its input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input


@dataclass(frozen=True, eq=False)
class Input:
    """The image."""


@dataclass(frozen=True, eq=False)
class Linear:
    """``weight @ x + bias`` on flat tensors.

    Attributes:
        weight: Shape (m, d), float64.
        bias: Shape (m,).
    """

    weight: Tensor
    bias: Tensor

    def value(self, x: Tensor) -> Tensor:
        """At points of shape (n, d)."""
        return functional.linear(x, self.weight, self.bias)

    def after(self, shape: torch.Size) -> torch.Size:
        """Shape of one sample afterwards."""
        return torch.Size((len(self.weight),))

    def spread(self, radius: Tensor) -> Tensor:
        """Half-widths after the layer."""
        return functional.linear(radius, self.weight.abs())

    def transpose(self, rows: Tensor) -> Tensor:
        """Coefficients (n, m) on the output, as coefficients (n, d) on the input."""
        return rows @ self.weight


@dataclass(frozen=True, eq=False)
class Convolution:
    """A two-dimensional convolution with zero padding; average pooling is one too.

    Attributes:
        weight: Shape (m, c / groups, kh, kw), float64.
        bias: Shape (m,).
        stride: Rows, columns.
        padding: Rows, columns.
        dilation: Rows, columns.
        groups: Channel groups.
        selects: Whether each output is one input (the windows of max pooling): bounds pass unchanged.
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    selects: bool = False
    _matrices: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False)

    def value(self, x: Tensor) -> Tensor:
        """At points of shape (n, c, h, w)."""
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def after(self, shape: torch.Size) -> torch.Size:
        """Shape of one sample afterwards."""
        sides = ((shape[1 + i] + 2 * self.padding[i] - self.window[i]) // self.stride[i] + 1 for i in range(2))
        return torch.Size((len(self.weight), *sides))

    def spread(self, radius: Tensor) -> Tensor:
        """Half-widths after the layer."""
        return functional.conv2d(radius, self.weight.abs(), None, self.stride, self.padding, self.dilation, self.groups)

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of the input that one output sees."""
        kernel = self.weight.shape[2:]
        return (kernel[0] - 1) * self.dilation[0] + 1, (kernel[1] - 1) * self.dilation[1] + 1

    def transpose(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """Coefficients (n, m, h', w') on the output, as coefficients (n, *shape) on the input."""
        if self.tiles and all(side % step == 0 for side, step in zip(shape[1:], self.stride, strict=True)):
            return self.untile(rows)
        size = (len(rows), *shape)
        settings = (self.stride, self.padding, self.dilation, self.groups)
        return cast("Tensor", conv2d_input(size, self.weight, rows, *settings))  # type: ignore[no-untyped-call]

    @property
    def tiles(self) -> bool:
        """Whether this selects windows that meet without gaps and overlaps."""
        return self.selects and self.window == self.stride == tuple(self.weight.shape[2:]) and self.padding == (0, 0)

    def untile(self, rows: Tensor) -> Tensor:
        """The transpose where this `tiles`: a permutation, far cheaper than convolving with zeros and ones."""
        (height, width), (h, w) = self.stride, rows.shape[2:]
        pixels = rows.view(len(rows), -1, height, width, h, w).permute(0, 1, 4, 2, 5, 3)
        return pixels.reshape(len(rows), -1, h * height, w * width)

    def window_matrix(self, height: int, width: int) -> Tensor:
        """The transpose without padding, on a window of outputs of this size, as a matrix.

        Returns:
            Shape (m * height * width, c * h * w), h and w those of the window of inputs it sees.
        """
        if (height, width) not in self._matrices:
            self._matrices[height, width] = self._window_matrix(height, width)
        return self._matrices[height, width]

    def _window_matrix(self, height: int, width: int) -> Tensor:
        channels = len(self.weight)
        size = channels * height * width
        eye = torch.eye(size, dtype=self.weight.dtype, device=self.weight.device)
        outputs = eye.view(size, channels, height, width)
        return functional.conv_transpose2d(
            outputs, self.weight, None, self.stride, 0, 0, self.groups, self.dilation
        ).flatten(1)


@dataclass(frozen=True, eq=False)
class Elementwise:
    """``scale * x + shift``: batch-norm in eval mode, and the normalisation of a preprocessing.

    Attributes:
        scale: Broadcasts to the shape of one sample, or lacks its spatial extent: (c, 1, 1).
        shift: The same.
    """

    scale: Tensor
    shift: Tensor

    def value(self, x: Tensor) -> Tensor:
        """At points of any shape (n, ...)."""
        return x * self.scale + self.shift

    def after(self, shape: torch.Size) -> torch.Size:
        """Shape of one sample afterwards."""
        return shape

    def spread(self, radius: Tensor) -> Tensor:
        """Half-widths after the layer."""
        return radius * self.scale.abs()


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same numbers in another shape: flatten, view, squeeze.

    Attributes:
        shape: Shape of one sample afterwards.
    """

    shape: torch.Size

    def value(self, x: Tensor) -> Tensor:
        """At points of any shape (n, ...)."""
        return x.reshape(len(x), *self.shape)


@dataclass(frozen=True, eq=False)
class Gather:
    """Numbers moved about: each output is one input, or nothing, plus a constant.

    Expand, transpose, concatenation with constants, padding by reflection, slices, the windows of any pooling.

    Attributes:
        index: For each output the flat place of its input, -1 for none; shape (m,), int64.
        shift: Added, shape (m,), float64.
        shape: Shape of one sample afterwards, m numbers.
    """

    index: Tensor
    shift: Tensor
    shape: torch.Size

    def value(self, x: Tensor) -> Tensor:
        """At points of any shape (n, ...)."""
        return (self.moved(x) + self.shift).view(len(x), *self.shape)

    def moved(self, x: Tensor) -> Tensor:
        """Without the constant, flat: (n, m)."""
        flat = functional.pad(x.reshape(len(x), -1), (0, 1))
        return flat[:, torch.where(self.index < 0, flat.shape[1] - 1, self.index)]

    def transpose(self, rows: Tensor, size: int) -> Tensor:
        """Coefficients (n, m) on the outputs, as coefficients (n, size) on the inputs."""
        kept = self.index >= 0
        return rows.new_zeros(len(rows), size).index_add_(1, self.index[kept], rows[:, kept])


@dataclass(frozen=True, eq=False)
class Pad:
    """Zeros around the pixels of (c, h, w); negative: pixels cut off.

    Attributes:
        sides: Rows above and below, columns left and right.
    """

    sides: tuple[int, int, int, int]

    def value(self, x: Tensor) -> Tensor:
        """At points of shape (n, c, h, w)."""
        top, bottom, left, right = self.sides
        return functional.pad(x, (left, right, top, bottom))

    def transpose(self, rows: Tensor) -> Tensor:
        """Coefficients (n, c, h', w') on the outputs, as coefficients (n, c, h, w) on the inputs."""
        top, bottom, left, right = self.sides
        return functional.pad(rows, (-left, -right, -top, -bottom))


@dataclass(frozen=True, eq=False)
class Sum:
    """The sum of several layers of one shape: a residual connection."""


@dataclass(frozen=True, eq=False)
class Activation:
    """A convex, non-decreasing activation.

    Attributes:
        kind: ``"relu"`` or ``"softplus"``.
        beta: Sharpness of softplus: ``log(1 + exp(beta x)) / beta``.
        switch: How far the model's softplus is from this one where it switches to the identity.
    """

    kind: Literal["relu", "softplus"]
    beta: float = 1.0
    switch: float = 0.0

    def value(self, x: Tensor) -> Tensor:
        """At points of any shape."""
        # logaddexp rather than softplus: exact to rounding everywhere, with no switch to the identity.
        return x.clamp(min=0) if self.kind == "relu" else torch.logaddexp(self.beta * x, x.new_zeros(())) / self.beta

    def slope(self, x: Tensor) -> Tensor:
        """Derivative; 0 at the kink of ReLU."""
        return (x > 0).to(x.dtype) if self.kind == "relu" else torch.sigmoid(self.beta * x)


@dataclass(frozen=True, eq=False)
class ChannelMax:
    """The maximum of each ``size`` consecutive channels: (n, c * size, h, w) -> (n, c, h, w).

    Max pooling is a selecting `Convolution` that lays the window out along the channels, and this.

    Attributes:
        size: Channels a maximum is taken of.
        rectified: Whether the maximum is of the channels' ReLUs: max pooling after a ReLU as one layer, so that linear
            bounds pass the two, the widest layers of most networks, in one step.
    """

    size: int
    rectified: bool = False

    def value(self, x: Tensor) -> Tensor:
        """At points of shape (n, c * size, h, w)."""
        largest = self.windows(x).amax(dim=2)
        return largest.clamp(min=0) if self.rectified else largest

    def windows(self, x: Tensor) -> Tensor:
        """The channels by the maximum they enter: (n, c * size, h, w) -> (n, c, size, h, w)."""
        return x.view(len(x), -1, self.size, *x.shape[2:])


Affine = Linear | Convolution | Elementwise
Moving = Reshape | Gather | Pad
Operation = Input | Affine | Moving | Sum | Activation | ChannelMax
