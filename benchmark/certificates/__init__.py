"""Certificates: per-sample radii within which no adversarial example exists.

Each method takes the classifier as a `benchmark.certificates.graph.Graph`; `certificate` traces it and picks one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, Protocol

import torch
from torch import Tensor, nn

from benchmark.certificates import crown
from benchmark.certificates.ball import refuse_outside
from benchmark.certificates.costs import refuse_by_size
from benchmark.certificates.cross_lipschitz import cross_lipschitz
from benchmark.certificates.gaussian_kernel import KernelClassifier, cross_lipschitz_of_kernels
from benchmark.certificates.graph import Graph, check_agreement, lower, trace
from benchmark.certificates.linear_region import linear_region
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.threat import Norm

__all__ = ["METHODS", "Graph", "certificate", "trace"]

NORMS: Final[tuple[Norm, ...]] = ("linf", "l2", "l1")
"""The norms that certificates are computed in."""


class GraphMethod(Protocol):
    """A certificate: the radii (n,) float64 of images (n, c, h, w) with labels (n,)."""

    def __call__(self, graph: Graph, x: Tensor, y: Tensor, *, norm: Norm) -> Tensor:
        """Certify."""


METHODS: Final[Mapping[str, GraphMethod]] = {
    "crown": partial(crown.radius, method="crown"),
    "ibp": partial(crown.radius, method="ibp"),
    "cross-lipschitz": cross_lipschitz,
    "linear-region": linear_region,
}
"""Certificates by name."""


@torch.no_grad()
def certificate(
    module: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, method: str = "crown", most_work: float | None = None
) -> Tensor:
    """Radii within which the classifier provably keeps the label.

    Args:
        module: Classifier of images in [0, 1]; traced, not only called.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm of the radii.
        method: One of `METHODS`; ``"best"``: per sample the largest of all that apply; or ``"auto"``: CROWN, and for
            Gaussian kernels the Cross-Lipschitz bound, the only one they have.
        most_work: A network is refused for which one ball around one image takes more multiplications than this, or
            than `benchmark.certificates.costs.MOST_WORK` allows. A radius takes some twenty balls.

    Returns:
        Shape (n,), float64, on the images' device; 0 where the image is misclassified.

    Raises:
        InputError: On an unknown norm or method, or images outside the box [0, 1].
        UnsupportedModelError: If the method does not apply to the model; the message names the operation.
    """
    if norm not in NORMS:
        raise InputError(f"There is no norm {norm!r}; certificates are given in {', '.join(NORMS)}.")
    if method not in ("auto", "best", *METHODS):
        raise InputError(f"There is no certificate {method!r}; choose one of {', '.join(METHODS)}, best, auto.")
    refuse_outside(x)
    kernels = KernelClassifier.of(module)
    if kernels is not None:
        if method not in ("auto", "cross-lipschitz", "best"):
            raise UnsupportedModelError(f"For Gaussian kernels the certificate is cross-lipschitz, not {method}.")
        return cross_lipschitz_of_kernels(module, kernels, x, y, norm=norm)
    if not len(x):
        return torch.zeros(0, dtype=torch.float64, device=x.device)
    graph, recorded = lower(module, x)
    if method != "best":
        name = "crown" if method == "auto" else method
        refuse_by_size(graph, name, most_work)
        check_agreement(graph, recorded, module, x)
        return METHODS[name](graph, x, y, norm=norm)
    radii: list[Tensor] = []
    refusals: list[str] = []
    for name, function in METHODS.items():
        try:
            refuse_by_size(graph, name, most_work)
            if not radii:
                check_agreement(graph, recorded, module, x)
            radii.append(function(graph, x, y, norm=norm))
        except UnsupportedModelError as refusal:
            refusals.append(f"{name}: {refusal}")
    if not radii:
        raise UnsupportedModelError("No certificate applies to this model. " + " ".join(dict.fromkeys(refusals)))
    return torch.stack(radii).amax(dim=0)
