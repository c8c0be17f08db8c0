"""How a CLEVER score depends on the radius of the ball.

In a larger ball the local Lipschitz constant is larger, so g(x₀)/â falls with R while the cap R rises. Their minimum is
a valid estimate for every R; it is largest where they meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.clever.estimate import Settings, clever_estimates
from benchmark.clever.presets import Preset, resolve
from benchmark.threat import Norm


def scores_by_radius(
    model: nn.Module,
    x: Tensor,
    radii: Sequence[float],
    *,
    norm: Norm,
    preset: str | Preset = "board",
    **settings: Unpack[Settings],
) -> NDArray[np.float64]:
    """Scores without a cap for several radii.

    Args:
        model: Classifier of images in [0, 1].
        x: Images, shape (n, c, h, w), float32.
        radii: Radii of the balls, in the norm.
        norm: Which norm.
        preset: The other settings.
        **settings: See `benchmark.clever.estimate.clever_estimates`; ``batches`` and ``samples`` save time.

    Returns:
        Shape (n, len(radii)), float64. A score above its radius is extrapolated.

    Raises:
        InputError: If a radius is not positive, or as `benchmark.clever.estimate.clever_estimates`.
    """
    uncapped = replace(resolve(preset), cap=False)
    columns = [
        clever_estimates(model, x, norm=norm, preset=uncapped, radius=radius, **settings).score[:, 0]
        for radius in radii
    ]
    return np.stack(columns, axis=1) if columns else np.empty((len(x), 0))
