"""ℓ₀ of pixels: how many positions change; all channels of a position count as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.errors import InputError
from benchmark.threat.geometry import Geometry
from benchmark.threat.norms.l0 import keep_largest_

if TYPE_CHECKING:
    from torch import Tensor


def _pixels(delta: Tensor) -> Tensor:
    """The perturbations (n, c, h, w) as (n, h * w, c): a view."""
    if delta.ndim != 4:
        raise InputError(f"Pixels are counted in images of shape (n, c, h, w), got {tuple(delta.shape)}.")
    return delta.flatten(2).transpose(1, 2)


class L0Pixels(Geometry):
    """The number of positions at which any channel differs."""

    name = "l0_pixels"
    symbol = "ℓ₀ (pixels)"
    title = "number of changed pixels, all channels of a position as one"
    unit = "pixels"
    order = 41
    counts = True

    def size(self, delta: Tensor) -> Tensor:
        """How many positions (n, c, h, w) are not 0 in all channels."""
        return (_pixels(delta) != 0).any(dim=2).sum(dim=1).to(delta.dtype)

    def project_(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Keep the pixels whose change is longest."""
        pixels = _pixels(delta)
        keep_largest_(pixels, pixels.square().sum(dim=2), eps)
        return delta


NORM = L0Pixels()
