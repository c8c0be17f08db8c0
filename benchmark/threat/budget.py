"""The one rule by which a distance is compared with a perturbation budget ε. No torch.

A distance is measured in float64 on float32 images, and a published ε such as 8/255 is no float32 number. Each of two
images in [0, 1] is off by at most 2⁻²⁵ from the numbers that it was rounded from (half the spacing of float32 below 1),
so a change that was meant to be exactly ε is measured as up to 2⁻²⁴ more, in ℓ∞; ε itself, rounded to float32, adds a
relative 2⁻²⁴. In ℓ₂ and ℓ₁ the errors of many values add up, mostly cancelling each other; a relative 2⁻¹⁶ bounds what
remains, and what 8-bit levels of 1/255 make of it (255 · 2⁻²⁴ < 2⁻¹⁶). So

    a distance d is within ε   if and only if   d <= ε · (1 + 2⁻¹⁶) + 2⁻²⁴,   and for ε = 0 only if d = 0.

A larger ε never has a smaller limit. For distances that are counts the rule changes nothing.
"""

from __future__ import annotations

from typing import Final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

RELATIVE: Final = 2.0**-16
"""Share of ε by which a distance within it may exceed it."""

ABSOLUTE: Final = 2.0**-24
"""What it may exceed it by besides."""


@overload
def limit(eps: float) -> float: ...
@overload
def limit(eps: NDArray[np.float64]) -> NDArray[np.float64]: ...
def limit(eps: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
    """The largest distance that counts as within a budget.

    Args:
        eps: Budgets, >= 0.

    Returns:
        A float for a number, otherwise float64 of the same shape.
    """
    wide = np.asarray(eps, dtype=np.float64)
    found = np.where(wide > 0, wide * (1 + RELATIVE) + ABSOLUTE, wide)
    return float(found) if np.ndim(eps) == 0 else found


def within(distance: ArrayLike, eps: float) -> NDArray[np.bool_]:
    """Whether each distance is within ε; ``inf`` never is."""
    return np.asarray(np.asarray(distance, dtype=np.float64) <= limit(eps))
