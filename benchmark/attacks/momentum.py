"""Examples for models that nobody may look into: gradient steps with momentum on other models, the sources.

MI-FGSM (Dong et al. 2018, arXiv:1710.06081), and what others put before or behind its gradient so that examples carry
over: diverse inputs (DI, Xie et al. 2019, arXiv:1803.06978), translation invariance (TI, Dong et al. 2019,
arXiv:1904.02884), scale invariance (SI, Lin et al. 2020, arXiv:1908.06281). Of several sources the logits are averaged,
as in MI-FGSM's paper.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.attacks.engine.oracle import find_batch_size, frozen
from benchmark.errors import UnsupportedModelError
from benchmark.threat.ascent import DenseNorm, inside, steepest
from benchmark.twin import is_randomised, mean_logits

DECAY: Final = 1.0
"""Of the momentum, μ; as published."""

DIVERSE: Final = 0.7
"""Probability with which an image is resized, as TI's authors have it for both together."""

SMALLEST: Final = 0.9
"""Side of the resized image, at least, as a share. Published is 299 / 330, where the padded image is the larger
one; here the image itself is made smaller, for networks of one input size."""

LARGEST_KERNEL: Final = 15
"""Side of the kernel of translation invariance on images of 299 × 299, as published; a quarter of a smaller image."""

COPIES: Final = 5
"""Images of scale invariance, x / 2^i; as published."""

CALLS: Final = 10
"""Calls of a randomised source that are averaged for a gradient (expectation over transformation)."""


@dataclass(frozen=True)
class Transformations:
    """What is done to the images and gradients.

    Attributes:
        title: In words.
        diverse: Images are resized and padded at random.
        translated: Gradients are smoothed by a Gaussian kernel.
        scaled: Gradients are averaged over images of several brightnesses.
    """

    title: str
    diverse: bool = False
    translated: bool = False
    scaled: bool = False


METHODS: Final[Mapping[str, Transformations]] = MappingProxyType(
    {
        "mi": Transformations("momentum alone"),
        "di": Transformations("diverse inputs", diverse=True),
        "ti": Transformations("translation-invariant", translated=True),
        "si": Transformations("scale-invariant", scaled=True),
        "combined": Transformations("all of these", diverse=True, translated=True, scaled=True),
    }
)
"""Each with momentum."""


def momentum_attack(
    sources: Sequence[nn.Module],
    x: Tensor,
    y: Tensor,
    *,
    norm: DenseNorm,
    eps: float,
    steps: int,
    how: Transformations,
    seed: int,
) -> Tensor:
    """Raise the cross-entropy of the sources' mean logits by steps of eps / steps along the accumulated gradient.

    Args:
        sources: Classifiers of images in [0, 1], at least one; put into eval mode meanwhile.
        x: Images, shape (n, c, h, w), float32.
        y: Labels, shape (n,), int64.
        norm: Of the ball.
        eps: Its radius.
        steps: Gradient steps.
        how: What is done to images and gradients.
        seed: Of what is drawn.

    Returns:
        Images on the ball, or in it where the box ends, shape of ``x``.
    """
    if not len(x):
        return x.clone()
    with ExitStack() as held:
        ready = [held.enter_context(frozen(source)) for source in sources]
        means = _Mean(ready, x[:2], how, torch.Generator().manual_seed(seed))
        size = max(1, min(find_batch_size(source, x) for source in ready) // len(ready))
        parts = zip(torch.split(x, size), torch.split(y, size), strict=True)
        return torch.cat([_climb(means, part, labels, norm=norm, eps=eps, steps=steps) for part, labels in parts])


def _climb(means: _Mean, x: Tensor, y: Tensor, *, norm: DenseNorm, eps: float, steps: int) -> Tensor:
    current, momentum = x.clone(), torch.zeros_like(x)
    for _ in range(steps):
        gradient = means.gradient(current, y)
        size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
        momentum = DECAY * momentum + gradient / size.clamp(min=1e-30)
        delta = inside(current + eps / steps * steepest(momentum, norm) - x, norm, eps)
        current = (x + delta).clamp(0, 1)
    return current


class _Mean:
    """The sources' mean logits, of transformed images."""

    def __init__(
        self, sources: Sequence[nn.Module], few: Tensor, how: Transformations, generator: torch.Generator
    ) -> None:
        self.sources = [(source, CALLS if is_randomised(source, few) else 1) for source in sources]
        self.how, self.generator = how, generator

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Of the cross-entropy by the images, as the method has it, in a unit of each image's own; shape of ``x``.

        It is 0 where it is not finite. The cross-entropy's slope is 1 - p, p being the label's probability, times that
        of the logarithm of its odds. Of a confident source 1 - p is too small for float32, but of a method that adds
        the gradients of several copies only its ratio from copy to copy matters.
        """
        powers = range(COPIES if self.how.scaled else 1)
        slopes, sizes = zip(*(self._gradient(x, y, 2.0**-power) for power in powers), strict=True)
        weight = torch.stack(sizes)
        weight = (weight - weight.amax(dim=0)).exp_()[:, :, None, None, None]
        total = (torch.stack(slopes) * weight).sum(dim=0).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
        return smoothed(total) if self.how.translated else total

    def _gradient(self, x: Tensor, y: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """The gradient of the logarithm of the odds against the label, shape of ``x``, and log(1 - p), shape (n,)."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            shown = diverse(leaf * scale, self.generator) if self.how.diverse else leaf * scale
            each = [mean_logits(source, shown, calls) for source, calls in self.sources]
            logits = torch.stack(each).mean(dim=0)
            rivals = logits.scatter(1, y[:, None], -torch.inf)
            odds = rivals.logsumexp(dim=1) - logits.gather(1, y[:, None]).squeeze(1)
            if not odds.requires_grad:
                raise UnsupportedModelError(
                    "A source's logits have no gradient in the images, so that no examples can be made on it: leave it "
                    "out of `sources`."
                )
            (gradient,) = torch.autograd.grad(odds.sum(), leaf, allow_unused=True)
        return (torch.zeros_like(x) if gradient is None else gradient), functional.logsigmoid(odds.detach())


def diverse(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, c, h, w), of which some are shrunk to a random size and padded with black at a random place.

    Size and place are drawn once for all, as published; who is changed, for each.
    """
    height, width = x.shape[-2:]
    share = SMALLEST + (1 - SMALLEST) * float(torch.rand((), generator=generator, device="cpu"))
    tall, wide = (max(1, min(side, math.floor(share * side))) for side in (height, width))
    top, left = (
        int(torch.randint(0, room + 1, (), generator=generator, device="cpu")) for room in (height - tall, width - wide)
    )
    small = functional.interpolate(x, size=(tall, wide), mode="nearest")
    padded = functional.pad(small, (left, width - wide - left, top, height - tall - top))
    chosen = torch.rand(len(x), generator=generator, device="cpu").to(x.device) < DIVERSE
    return torch.where(chosen[:, None, None, None], padded, x)


def smoothed(gradient: Tensor) -> Tensor:
    """Gradients (n, c, h, w) folded with `kernel`, each channel by itself: the mean over shifted images."""
    weight = kernel(min(gradient.shape[-2:])).to(gradient)
    channels = gradient.shape[1]
    filters = weight.expand(channels, 1, -1, -1).contiguous()
    return functional.conv2d(gradient, filters, padding=len(weight) // 2, groups=channels)


def kernel(side: int) -> Tensor:
    """The Gaussian kernel for images of that side, from −3 to 3 standard deviations, of sum 1; shape (k, k), k odd."""
    size = min(LARGEST_KERNEL, max(3, side // 4))
    size -= 1 - size % 2
    row = torch.exp(-torch.linspace(-3, 3, size, dtype=torch.float64, device="cpu").square() / 2)
    return torch.outer(row, row) / row.sum().square()
