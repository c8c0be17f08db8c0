"""The Cross-Lipschitz bound of Gaussian-kernel classifiers (Hein & Andriushchenko 2017, section 2.2).

The margins' gradient is ``∇(f_c - f_j)(y) = -2γ Σ_r β_r (y - c_r) exp(-γ ‖y - c_r‖²)``. Its squared length is a sum
over pairs of kernels, and with ``m`` the middle of a pair of centres and ``h`` half their distance a pair's term is

    4γ² β_r β_s φ(‖y - m‖²),    φ(t) = (t - h²) exp(-2γ (t + h²)),

a function of one number: it rises up to ``t = h² + 1/(2γ)`` and falls beyond, so its extremes over a ball are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.certificates.cross_lipschitz import GradientBounds, largest_radius
from benchmark.certificates.rows import margin_rows
from benchmark.errors import UnsupportedModelError
from benchmark.threat import Norm

AGREEMENT: Final = 1e-3
"""How far, relative to the largest logit, the module's float32 logits may be from the formula's."""


@dataclass(frozen=True, eq=False)
class KernelClassifier:
    """A classifier ``f_k(x) = Σ_r weight_kr exp(-gamma ‖x - centre_r‖²) + bias_k``, in float64.

    Attributes:
        centres: Shape (m, d).
        weight: Shape (k, m).
        bias: Shape (k,).
        gamma: Positive.
    """

    centres: Tensor
    weight: Tensor
    bias: Tensor
    gamma: float

    @staticmethod
    def of(module: nn.Module) -> KernelClassifier | None:
        """Read a module that has these attributes, alone or behind an empty preprocessing; None for any other."""
        while isinstance(module, nn.Sequential):
            parts = [m for m in module if not isinstance(m, nn.Identity)]
            if len(parts) != 1:
                return None
            module = parts[0]
        held = [getattr(module, name, None) for name in ("centres", "weight", "bias", "gamma")]
        if not all(isinstance(t, Tensor) for t in held):
            return None
        centres, weight, bias, gamma = (t.detach().double() for t in held if isinstance(t, Tensor))
        return KernelClassifier(centres, weight, bias, float(gamma))

    def logits(self, x: Tensor) -> Tensor:
        """Logits (n, k) of images (n, c, h, w)."""
        squared = torch.cdist(x.double().flatten(1), self.centres).square()
        return torch.exp(-self.gamma * squared) @ self.weight.T + self.bias


@torch.no_grad()
def cross_lipschitz_of_kernels(
    module: nn.Module, classifier: KernelClassifier, x: Tensor, y: Tensor, *, norm: Norm
) -> Tensor:
    """Certified radii of a Gaussian-kernel classifier.

    Args:
        module: The module itself; it must agree with the formula.
        classifier: Its parameters.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm of the radii.

    Returns:
        Shape (n,), float64; 0 where misclassified.

    Raises:
        UnsupportedModelError: If the module computes something else.
    """
    logits, theirs = classifier.logits(x), module(x).double()
    gap = float((logits - theirs).abs().amax())
    if not gap <= AGREEMENT * float(1e-3 + theirs.abs().amax()):
        raise UnsupportedModelError(
            f"{type(module).__name__} has the parameters of a Gaussian-kernel classifier but not its logits "
            f"(they differ by {gap:.3g})."
        )
    out = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    rows = margin_rows(y, logits.shape[1])
    margins = torch.einsum("nij,nj->ni", rows, logits)
    pairs = _Pairs.of(classifier)
    # One sample at a time: a pair of kernels, or a kernel and a pixel, for each other class, is as much as is held.
    for i in range(len(x)):
        image = x[i : i + 1].double()
        bounds = _bounds(classifier, pairs, image, rows[i] @ classifier.weight, norm)
        out[i] = largest_radius(margins[i : i + 1], image, norm, bounds)[0]
    return out


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The pairs of kernels.

    Attributes:
        middles: Half the sum of two centres, shape (m * m, d).
        squared_halves: Squared half distances, shape (m * m,).
    """

    middles: Tensor
    squared_halves: Tensor

    @staticmethod
    def of(classifier: KernelClassifier) -> _Pairs:
        c = classifier.centres
        middles = (c[:, None] + c[None]).flatten(0, 1) / 2
        return _Pairs(middles, ((c[:, None] - c[None]).square().sum(dim=2) / 4).flatten())


def _bounds(
    classifier: KernelClassifier, pairs: _Pairs, x: Tensor, beta: Tensor, norm: Norm
) -> Callable[[Tensor], GradientBounds]:
    """Gradient bounds of the margins with kernel weights ``beta`` (k - 1, m) around one image (1, ...)."""
    image, gamma, centres = x.flatten(1), classifier.gamma, classifier.centres
    to_middles = torch.cdist(image, pairs.middles)[0]
    to_centres = torch.cdist(image, centres)[0]

    def bounds(radii: Tensor) -> GradientBounds:
        radius = radii[0]
        low, high = (image - radius).clamp(min=0) - centres, (image + radius).clamp(max=1) - centres
        # Squared distances over the cut cube and, where the ball's norm is at least the l2 norm, over the l2 ball.
        nearest = torch.where((low <= 0) & (high >= 0), 0.0, torch.minimum(low.abs(), high.abs())).square().sum(dim=1)
        farthest = torch.maximum(low.abs(), high.abs()).square().sum(dim=1)
        length = None
        if norm != "linf":
            nearest = torch.maximum(nearest, (to_centres - radius).clamp(min=0).square())
            farthest = torch.minimum(farthest, (to_centres + radius).square())
            length = _length(pairs, to_middles, radius, beta, gamma)
        kernel_low, kernel_high = torch.exp(-gamma * farthest)[:, None], torch.exp(-gamma * nearest)[:, None]
        # (y - c) exp(...) is a product of two intervals, the second of which is positive.
        least = torch.minimum(low * kernel_low, low * kernel_high)
        most = torch.maximum(high * kernel_low, high * kernel_high)
        positive, negative = (-2 * gamma * beta).clamp(min=0), (-2 * gamma * beta).clamp(max=0)
        return GradientBounds(
            (positive @ least + negative @ most)[None], (positive @ most + negative @ least)[None], length
        )

    return bounds


def _length(pairs: _Pairs, to_middles: Tensor, radius: Tensor, beta: Tensor, gamma: float) -> Tensor:
    """Upper bounds of the gradients' l2 norm over the l2 ball: (1, k - 1)."""
    near, far = (to_middles - radius).clamp(min=0).square(), (to_middles + radius).square()
    h = pairs.squared_halves

    def phi(t: Tensor) -> Tensor:
        return (t - h) * torch.exp(-2 * gamma * (t + h))

    at_near, at_far = phi(near), phi(far)
    most = phi(torch.minimum(torch.maximum(h + 1 / (2 * gamma), near), far))
    least = torch.minimum(at_near, at_far)
    m = beta.shape[1]
    most, least = most.view(m, m), least.view(m, m)
    gain, loss = beta.clamp(min=0), beta.clamp(max=0)
    same = ((gain @ most) * gain + (loss @ most) * loss).sum(dim=1)
    mixed = 2 * ((gain @ least) * loss).sum(dim=1)
    return 2 * gamma * (same + mixed).clamp(min=0).sqrt()[None]
