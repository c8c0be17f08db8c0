"""What a norm is: distance, projection and the cheapest step in it. Importable without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from benchmark.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


class Geometry(ABC):
    """A norm of a threat model; one instance a file in `benchmark.threat.norms`, as its constant ``NORM``.

    A norm that only has a name, an order and a `size` is measured, recorded and shown. What else it has decides which
    attacks and certificates can be computed in it; what it lacks is refused with a clear error.

    Attributes:
        name: In keys, file names and on the command line: lower-case letters, digits and ``_``.
        symbol: For people, for instance ``"ℓ∞"``.
        title: What it measures, in a few words.
        unit: Of a distance, for instance ``"pixels"``.
        order: Its place wherever norms are listed; equal ones are sorted by name.
        dual: Name of the dual norm (1/p + 1/q = 1), or None.
        p: The p of an ℓp norm of the values (``inf``, 2, 1, 0), or None for anything else.
        counts: Whether distances are whole numbers.
    """

    name: ClassVar[str]
    symbol: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str] = "distance"
    order: ClassVar[int] = 100
    dual: ClassVar[str | None] = None
    p: ClassVar[float | None] = None
    counts: ClassVar[bool] = False

    @abstractmethod
    def size(self, delta: Tensor) -> Tensor:
        """The norm of each perturbation, shape (n, ...) -> (n,), in ``delta``'s dtype."""

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Distance of each image (n, c, h, w) from its other, measured in float64; shape (n,)."""
        return self.size(x_adv.double() - x.double())

    def diameter(self, shape: Sequence[int]) -> float:
        """The largest distance of two images in [0, 1] of shape (c, h, w), or of d values, shape (d,)."""
        import torch

        return float(self.size(torch.ones((1, *shape), dtype=torch.float64, device="cpu")))

    def pairwise(self, x: Tensor, z: Tensor) -> Tensor:
        """Distance of each of n images from each of m others, shapes (n, ...), (m, ...) -> (n, m), in their dtype."""
        import torch

        if self.p is not None:
            return torch.cdist(x.flatten(1), z.flatten(1), p=self.p)
        return torch.stack([self.size(z - image) for image in x])

    def project_(self, delta: Tensor, eps: Tensor) -> Tensor:
        """Project each row onto the ball of its radius, in place (Euclidean projection).

        Args:
            delta: Perturbations, shape (n, ...), contiguous; overwritten.
            eps: Radii, shape (n,), >= 0.

        Returns:
            ``delta``.

        Raises:
            InputError: If this norm has no projection.
        """
        raise InputError(f"The norm {self.name!r} has no projection onto its ball; use an attack that needs none.")

    def cheapest_point(
        self, gradient: Tensor, level: Tensor, low: Tensor, high: Tensor, *, iterations: int, guess: Tensor | None
    ) -> Tensor:
        """The smallest perturbation between bounds on which a linear function reaches a level.

        See `benchmark.threat.cheapest_point`; raises `InputError` where the norm has no such step.
        """
        raise InputError(f"The norm {self.name!r} has no cheapest step in a box; use an attack that needs none.")
