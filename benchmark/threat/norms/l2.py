"""ℓ₂: the Euclidean length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.threat.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor


class L2(Geometry):
    """The Euclidean length of the change."""

    name = "l2"
    symbol = "ℓ₂"
    title = "Euclidean length of the change"
    order = 20
    dual = "l2"
    p = 2.0

    def size(self, delta: Tensor) -> Tensor:
        """The Euclidean length of each row."""
        import torch

        lengths: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
        return lengths

    def project_(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Shorten rows that are longer than the radius."""
        factor = (eps.to(delta.dtype) / self.size(delta).clamp_(min=1e-30)).clamp_(max=1)
        return delta.mul_(factor.view(-1, *[1] * (delta.ndim - 1)))

    def cheapest_point(
        self, gradient: Tensor, level: Tensor, low: Tensor, high: Tensor, *, iterations: int, guess: Tensor | None
    ) -> Tensor:
        """Values move along the gradient, each until its bound."""
        from benchmark.threat.box import fill_evenly, nearest_to_zero

        at = self.size(nearest_to_zero(low, high)) if guess is None else guess.to(gradient.dtype)
        at = at / self.size(gradient).clamp(min=1e-12)
        return fill_evenly(gradient, gradient, level, low, high, at=at, iterations=iterations)


NORM = L2()
