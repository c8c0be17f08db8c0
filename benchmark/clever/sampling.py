"""Points drawn uniformly from the balls of the norms, seeded image by image.

Each draw has a generator of its own, seeded by (seed, index of the image, index of the draw). How many of the N_b
batches a draw holds depends on N_s and the size of an image only: neither the size of the model's batches nor the
images beside it change what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor

from benchmark.clever.presets import Preset
from benchmark.errors import InputError
from benchmark.threat import Norm

_VALUES: Final = 2**20
"""About so many random numbers are drawn at once: enough to hide the cost of a call, 4 MiB."""


def draw_seeds(seed: int, index: int, draws: int) -> list[int]:
    """Seeds of one image's draws."""
    state = np.random.SeedSequence((seed, index)).generate_state(draws, np.uint64)
    return [int(s) >> 1 for s in state]


def draws(x: Tensor, preset: Preset, norm: Norm, *, seed: int, index: int) -> Iterator[Tensor]:
    """All points around an image, some batches at a time.

    Args:
        x: The image, shape (c, h, w), in [0, 1].
        preset: Numbers of batches and points, radii, clipping.
        norm: The norm of the ball, unless the preset's points are shared by all norms.
        seed: Of the whole.
        index: Of the image in its dataset.

    Yields:
        Points of whole batches, shape (batches · N_s, c, h, w), on the device of ``x``; N_b batches in all.
    """
    at_once = max(1, min(preset.batches, _VALUES // (preset.samples * x.numel())))
    sizes = [min(at_once, preset.batches - first) for first in range(0, preset.batches, at_once)]
    for size, own in zip(sizes, draw_seeds(seed, index, len(sizes)), strict=True):
        yield draw(x, preset, norm, batches=size, seed=own)


def draw(x: Tensor, preset: Preset, norm: Norm, *, batches: int, seed: int) -> Tensor:
    """The points of some batches around an image, shape (batches · N_s, c, h, w); see `draws`."""
    generator = torch.Generator(x.device).manual_seed(seed)
    size, dimension = batches * preset.samples, x.numel()
    if preset.shared:
        offsets = unit_ball("l2", size, dimension, generator)
        scales = torch.rand(size, 1, generator=generator, device=x.device)
        offsets.mul_(scales.mul_(preset.radius["l2"]))
    else:
        offsets = unit_ball(norm, size, dimension, generator).mul_(preset.radius[norm])
    points = offsets.view(size, *x.shape).to(x.dtype).add_(x)
    return points.clamp_(0, 1) if preset.clip else points


def unit_ball(norm: Norm, size: int, dimension: int, generator: torch.Generator) -> Tensor:
    """Points uniform in the unit ball of a norm.

    For l2, a Gaussian direction at the radius U^(1/d). For l1, exponentials with random signs divided by the sum of
    d + 1 of them: the first d of d + 1 spacings are uniform in the simplex and its interior.

    Args:
        norm: Which norm.
        size: Number of points.
        dimension: d.
        generator: The source of randomness; its device is where the points are made.

    Returns:
        Shape (size, dimension), float32.

    Raises:
        InputError: For a norm without such a distribution.
    """
    device = generator.device
    if norm == "linf":
        return torch.rand(size, dimension, generator=generator, device=device).mul_(2).sub_(1)
    if norm == "l2":
        directions = torch.randn(size, dimension, generator=generator, device=device)
        radii = torch.rand(size, 1, generator=generator, device=device).pow_(1 / dimension)
        return directions.mul_(radii / directions.norm(dim=1, keepdim=True))
    if norm != "l1":
        raise InputError(f"No points are drawn in the ball of the norm {norm!r}.")
    # A double exponential by inversion: u in (-1, 1) gives the sign and, with −log|u|, the size.
    u = torch.rand(size, dimension + 1, generator=generator, device=device).mul_(2).sub_(1)
    sizes = u.abs().clamp_min_(torch.finfo(u.dtype).tiny).log_().neg_()
    return sizes[:, :-1].copysign(u[:, :-1]) / sizes.sum(dim=1, keepdim=True)
