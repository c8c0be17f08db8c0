"""ℓ₁: the sum of all changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.threat.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor


class L1(Geometry):
    """The sum of the absolute changes."""

    name = "l1"
    symbol = "ℓ₁"
    title = "sum of all changes"
    order = 30
    dual = "linf"
    p = 1.0

    def size(self, delta: Tensor) -> Tensor:
        """The sum of each row's absolute values."""
        return delta.flatten(1).abs().sum(dim=1)

    def project_(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Lower every absolute value by one threshold a row, so that the sum is the radius."""
        from benchmark.threat.box import soft_threshold

        rows = delta.flatten(1)
        radius = eps.to(delta.dtype)
        size = rows.abs()
        size.sub_(soft_threshold(size, radius)[:, None]).clamp_(min=0)
        total = size.sum(dim=1, keepdim=True)
        size.mul_((radius[:, None] / total.clamp_(min=1e-30)).clamp_(max=1))
        return delta.sign_().mul_(size.view_as(delta))

    def cheapest_point(
        self, gradient: Tensor, level: Tensor, low: Tensor, high: Tensor, *, iterations: int, guess: Tensor | None
    ) -> Tensor:
        """Whole values move, the steepest first."""
        from benchmark.threat.box import fill_best_first

        return fill_best_first(gradient, level, low, high)


NORM = L1()
