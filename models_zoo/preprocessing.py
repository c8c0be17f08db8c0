"""Input transformations of a zoo model, built from the tables of its card.

A card lists them in the order in which they are applied::

    preprocessing = [
        { kind = "jpeg", quality = 75 },
        { kind = "normalise", mean = [0.5], std = [1.0] },
    ]

Transformations that have no useful derivative (quantisation, JPEG) pass the gradient through unchanged: backward pass
differentiable approximation (BPDA) with the identity, Athalye, Carlini & Wagner 2018, arXiv:1802.00420. Attacks and
CLEVER scores then see the gradient of the network at the transformed image, as in arXiv:1810.08640. All
transformations take and, but for the normalisation, return images in [0, 1], shape (n, c, h, w).
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from models_zoo.errors import CardError

VERSION: Final = 1
"""Raised whenever a card would give other images; part of a model's digest."""


class _IdentityBackward(torch.autograd.Function):
    """Applies a transformation forward and the identity backward; can be differentiated any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
        """The transformed images."""
        return transform(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient as it came."""
        return gradients[0], None


def bpda(x: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Transform images, with the identity as derivative.

    Args:
        x: Images, shape (n, c, h, w).
        transform: A function of tensors that keeps the shape; it is called without gradients.

    Returns:
        ``transform(x)``, whose gradient in ``x`` is the gradient that arrives.
    """
    return cast("Tensor", _IdentityBackward.apply(x, transform))  # type: ignore[no-untyped-call]


class Normalise(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel. Differentiable; needs no BPDA.

    Args:
        mean: One value a channel, or one for all.
        std: The same, greater than zero.

    Raises:
        CardError: If the lengths differ, or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not len(mean):
            raise CardError(f"Normalisation needs as many means as deviations, got mean={mean} and std={std}.")
        if not all(s > 0 for s in std):
            raise CardError(f"Normalisation needs standard deviations greater than 0, got {std}.")
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images."""
        return (x - self.mean) / self.std


class BitDepth(nn.Module):
    """Round each value to ``2**bits`` evenly spaced levels from 0 to 1 (Xu, Evans & Qi 2018, arXiv:1704.01155).

    Args:
        bits: From 1 to 16.

    Raises:
        CardError: If ``bits`` is outside this range.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 1 <= bits <= 16:
            raise CardError(f"Bit-depth reduction keeps 1 to 16 bits, got {bits}.")
        self.bits = bits
        self.levels: int = 2**bits - 1

    def forward(self, x: Tensor) -> Tensor:
        """Quantised images."""
        return bpda(x, self._quantise)

    def _quantise(self, x: Tensor) -> Tensor:
        return (x.clamp(0, 1) * self.levels).round() / self.levels

    def extra_repr(self) -> str:
        """Shown in ``repr``."""
        return f"bits={self.bits}"


class Png(BitDepth):
    """Store as PNG and read again. PNG is lossless on 8-bit images, so this rounds to 256 levels, on any device."""

    def __init__(self) -> None:
        super().__init__(bits=8)


class Jpeg(nn.Module):
    """Store as JPEG and read again (Guo et al. 2018, arXiv:1711.00117), with Pillow's encoder on the CPU.

    Images of one channel are stored as greyscale, of three as colour with 4:2:0 subsampling.

    Args:
        quality: From 1 to 95, in the scale of the Independent JPEG Group; 75 in the papers.

    Raises:
        CardError: If ``quality`` is outside this range, or an image has neither one nor three channels.
    """

    def __init__(self, quality: int = 75) -> None:
        super().__init__()
        if not 1 <= quality <= 95:
            raise CardError(f"JPEG quality goes from 1 to 95, got {quality}.")
        self.quality = quality

    def forward(self, x: Tensor) -> Tensor:
        """Images after the round trip."""
        return bpda(x, self._round_trip)

    def _round_trip(self, x: Tensor) -> Tensor:
        if x.shape[1] not in {1, 3}:
            raise CardError(f"JPEG takes images of 1 or 3 channels, got {x.shape[1]} in the shape {tuple(x.shape)}.")
        pixels = (x.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
        decoded = np.stack([self._encode_and_decode(image) for image in pixels]) if len(pixels) else pixels
        return torch.from_numpy(decoded).to(x.device).permute(0, 3, 1, 2).to(x.dtype) / 255

    def _encode_and_decode(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """One image, shape (h, w, c), uint8."""
        stream = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(
            stream, format="JPEG", quality=self.quality
        )
        with Image.open(stream) as image:
            return np.asarray(image).reshape(pixels.shape)

    def extra_repr(self) -> str:
        """Shown in ``repr``."""
        return f"quality={self.quality}"


KINDS: Final[dict[str, type[nn.Module]]] = {
    "normalise": Normalise,
    "bit_depth": BitDepth,
    "png": Png,
    "jpeg": Jpeg,
}
"""The transformations that a card can name."""


def build(specs: Sequence[Mapping[str, Any]]) -> nn.Module:
    """The module that applies a card's transformations, in their order.

    Args:
        specs: Tables with a ``kind`` of `KINDS` and its arguments, for instance ``{"kind": "jpeg", "quality": 75}``.

    Returns:
        A sequential module in eval mode without parameters; the identity for an empty list.

    Raises:
        CardError: If a kind is unknown, or its arguments do not fit.
    """
    modules = [_build_one(spec) for spec in specs]
    return nn.Sequential(*modules).eval() if modules else nn.Identity().eval()


def _build_one(spec: Mapping[str, Any]) -> nn.Module:
    arguments = dict(spec)
    kind = arguments.pop("kind", None)
    if kind not in KINDS:
        raise CardError(f"There is no input transformation of kind {kind!r}. Known: {', '.join(sorted(KINDS))}.")
    try:
        return KINDS[kind](**arguments)
    except (TypeError, ValueError) as error:
        wanted = ", ".join(inspect.signature(KINDS[kind]).parameters) or "none"
        raise CardError(f"The transformation {kind!r} got {arguments}: {error}. Its arguments: {wanted}.") from error
