"""ℓ₀: how many values change; each channel of a pixel counts. Pixels are counted by `l0_pixels`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.threat.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor


def keep_largest_(rows: Tensor, weight: Tensor, eps: Tensor) -> Tensor:
    """Set to 0, in each row (n, d, ...), all but the ``floor(eps)`` entries along the second axis of largest weight.

    Args:
        rows: Shape (n, d) or (n, d, c); overwritten.
        weight: Shape (n, d), >= 0.
        eps: Shape (n,), >= 0.
    """
    rank = weight.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    dropped = rank >= eps.floor()[:, None]
    return rows.masked_fill_(dropped.view(*dropped.shape, *[1] * (rows.ndim - 2)), 0)


class L0(Geometry):
    """The number of values that differ at all."""

    name = "l0"
    symbol = "ℓ₀"
    title = "number of changed values (features)"
    unit = "values"
    order = 40
    p = 0.0
    counts = True

    def size(self, delta: Tensor) -> Tensor:
        """How many entries of each row are not 0."""
        return (delta.flatten(1) != 0).sum(dim=1).to(delta.dtype)

    def project_(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Keep the largest changes."""
        rows = delta.view(len(delta), -1)
        keep_largest_(rows, rows.abs(), eps)
        return delta


NORM = L0()
