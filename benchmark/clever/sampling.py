"""Points drawn uniformly from the balls of the norms, seeded image by image.

Each batch of N_s points has a generator of its own, seeded by (seed, index of the image, index of the batch): neither
the size of the model's batches nor the images beside it change what is drawn.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmark.clever.presets import Preset
from benchmark.threat import Norm


def batch_seeds(seed: int, index: int, batches: int) -> list[int]:
    """Seeds of one image's batches."""
    state = np.random.SeedSequence((seed, index)).generate_state(batches, np.uint64)
    return [int(s) >> 1 for s in state]


def draw(x: Tensor, preset: Preset, norm: Norm, seed: int) -> Tensor:
    """One batch of points around an image.

    Args:
        x: The image, shape (c, h, w), in [0, 1].
        preset: Number of points, radii, clipping.
        norm: The norm of the ball, unless the preset's points are shared by all norms.
        seed: Of this batch.

    Returns:
        Points, shape (N_s, c, h, w), on the device of ``x``.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    size, dimension = preset.samples, x.numel()
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
    """
    device = generator.device
    if norm == "linf":
        return torch.rand(size, dimension, generator=generator, device=device).mul_(2).sub_(1)
    if norm == "l2":
        directions = torch.randn(size, dimension, generator=generator, device=device)
        radii = torch.rand(size, 1, generator=generator, device=device).pow_(1 / dimension)
        return directions.mul_(radii / directions.norm(dim=1, keepdim=True))
    # A double exponential by inversion: u in (-1, 1) gives the sign and, with −log|u|, the size.
    u = torch.rand(size, dimension + 1, generator=generator, device=device).mul_(2).sub_(1)
    sizes = u.abs().clamp_min_(torch.finfo(u.dtype).tiny).log_().neg_()
    return sizes[:, :-1].copysign(u[:, :-1]) / sizes.sum(dim=1, keepdim=True)
