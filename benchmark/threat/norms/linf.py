"""ℓ∞: the largest change of a value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from benchmark.threat.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor


class Linf(Geometry):
    """The largest change of any value."""

    name = "linf"
    symbol = "ℓ∞"
    title = "largest change of a value"
    order = 10
    dual = "l1"
    p = math.inf

    def size(self, delta: Tensor) -> Tensor:
        """The largest absolute value of each row."""
        return delta.flatten(1).abs().amax(dim=1)

    def project_(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Clamp every value to ± the radius."""
        import torch

        radius = eps.to(delta.dtype).view(-1, *[1] * (delta.ndim - 1))
        return torch.minimum(torch.maximum(delta, -radius, out=delta), radius, out=delta)

    def cheapest_point(
        self, gradient: Tensor, level: Tensor, low: Tensor, high: Tensor, *, iterations: int, guess: Tensor | None
    ) -> Tensor:
        """All values move alike, along the gradient's sign."""
        from benchmark.threat.box import fill_evenly, nearest_to_zero

        at = self.size(nearest_to_zero(low, high)) if guess is None else guess.to(gradient.dtype)
        return fill_evenly(gradient, gradient.sign(), level, low, high, at=at, iterations=iterations)


NORM = Linf()
