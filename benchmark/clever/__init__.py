"""CLEVER: estimated distances to the nearest adversarial example, from extreme values of sampled gradients.

Weng et al. 2018, arXiv:1801.10578; second order: arXiv:1810.08640. Works on any differentiable torch module, without
database or files. `clever_scores` gives the scores, `clever_estimates` all that they are made of, and
`scores_by_radius` how they depend on the radius of the ball.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.clever.estimate import Settings, clever_estimates
from benchmark.clever.presets import PRESETS, Preset
from benchmark.clever.radius import scores_by_radius
from benchmark.clever.scores import CleverEstimates
from benchmark.clever.weibull import ReverseWeibull, fit_reverse_weibull
from benchmark.threat import Norm

__all__ = [
    "PRESETS",
    "CleverEstimates",
    "Preset",
    "ReverseWeibull",
    "clever_estimates",
    "clever_scores",
    "fit_reverse_weibull",
    "scores_by_radius",
]


def clever_scores(
    model: nn.Module,
    x: Tensor,
    *,
    norm: Norm | Sequence[Norm] = "l2",
    preset: str | Preset = "board",
    radius: float | None = None,
    **settings: Unpack[Settings],
) -> NDArray[np.float64]:
    """CLEVER scores of images: the smallest over the targets.

    Args:
        model: Classifier of images in [0, 1].
        x: Images, shape (n, c, h, w), float32.
        norm: A norm, or several.
        preset: ``"board"``, ``"paper"``, ``"clever2018"``, or settings of one's own.
        radius: R in every norm, instead of the preset's.
        **settings: ``targets``, ``y``, ``seed``, ``order``, ``batches``, ``samples``, ``first``, ``batch_size`` and
            ``most_targets``; see
            `benchmark.clever.estimate.clever_estimates`.

    Returns:
        Shape (n,) for one norm, (n, q) for a sequence of q, float64. A misclassified image (with ``y``) scores 0, and
        so does one whose two largest logits are equal. NaN where every sampled gradient is zero: nothing is known then.

    Raises:
        InputError: If a number is out of range, the images do not fit, a target is the label, or gradients overflow.
        UnknownNameError: If a norm, a preset or a rule for targets is unknown.
        UnsupportedModelError: If the model is not differentiable (order 2: not twice).
    """
    score = clever_estimates(model, x, norm=norm, preset=preset, radius=radius, **settings).score
    return score[:, 0] if isinstance(norm, str) else score
