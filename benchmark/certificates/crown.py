"""Certified radii and certified decisions by CROWN and by interval bound propagation.

Margins are bounded directly: for each other class ``j`` the function ``f_c - f_j`` is carried back through the layers,
so that what two logits share cancels.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from benchmark.certificates.ball import Ball, distance_to_halfspace
from benchmark.certificates.bounds import SLACK, LayerBounds, LinearBound, Method, backward
from benchmark.certificates.coefficients import Dense
from benchmark.certificates.graph import Graph
from benchmark.certificates.search import Trial, largest_radius
from benchmark.threat import Norm, dual, get_norm, norms_of

TOLERANCE: Final = 5e-3
"""Radii are searched until certified and refused ones are this near, relatively."""

COARSE: Final = 0.05
"""The same of the radii over interval bounds, which only show CROWN where to start."""

FIRST: Final = 0.1
"""First radius to try, as a share of what the gradients at the image would allow."""

WIDER: Final = 1.5
"""First radius CROWN tries, as a multiple of the one certified over interval bounds."""


def margin_rows(y: Tensor, classes: int) -> Tensor:
    """The functions ``f_c - f_j`` for each ``j != c`` as coefficients of the logits.

    Args:
        y: Labels, shape (n,).
        classes: Number of logits, k.

    Returns:
        Shape (n, k - 1, k), float64; classes in their order, the label left out.
    """
    eye = torch.eye(classes, dtype=torch.float64, device=y.device)
    rows = eye[y][:, None] - eye
    others = torch.arange(classes, device=y.device) != y[:, None]
    return rows[others].view(len(y), classes - 1, classes)


def margin_bound(bounds: LayerBounds, y: Tensor, method: Method) -> LinearBound:
    """Lower bounds of the margins over the classes other than the label, rows as in `margin_rows`."""
    last = len(bounds.graph.nodes) - 1
    rows = Dense(margin_rows(y, bounds.graph.classes))
    return backward(bounds.graph, last, rows, bounds.relaxations if method == "crown" else {})


def margins(graph: Graph, x: Tensor, y: Tensor, eps: Tensor, *, norm: Norm, method: Method = "crown") -> Tensor:
    """Lower bounds of the margins over the other classes within balls.

    Args:
        graph: The classifier.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        eps: Radii, shape (n,).
        norm: The norm of the balls.
        method: ``"crown"`` or ``"ibp"``.

    Returns:
        Shape (n, k - 1), float64.
    """
    ball = Ball(x.double(), eps.double(), norm)
    bounds = LayerBounds(graph, ball, method)
    return margin_bound(bounds, y, method).smallest(ball, bounds.intervals)


@torch.no_grad()
def certified(graph: Graph, x: Tensor, y: Tensor, eps: float, *, norm: Norm, method: Method = "crown") -> Tensor:
    """Whether no adversarial example exists within ``eps``.

    Args:
        graph: The classifier.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        eps: Radius.
        norm: Its norm.
        method: ``"crown"`` or ``"ibp"``.

    Returns:
        Shape (n,), bool; False where misclassified or not decided.
    """
    correct = graph.logits(x).argmax(dim=1) == y
    out = torch.zeros_like(correct)
    if correct.any():
        radii = torch.full((int(correct.sum()),), eps, dtype=torch.float64, device=x.device)
        out[correct] = (margins(graph, x[correct], y[correct], radii, norm=norm, method=method) > SLACK).all(dim=1)
    return out


@torch.no_grad()
def radius(graph: Graph, x: Tensor, y: Tensor, *, norm: Norm, method: Method = "crown") -> Tensor:
    """The largest radius found to be certified.

    A linear bound computed for a ball of radius R is valid inside it, so each trial of the search, refused or not,
    certifies min(d, R) where d is the distance at which the bound reaches 0.

    Args:
        graph: The classifier.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm of the radius.
        method: ``"crown"`` or ``"ibp"``.

    Returns:
        Shape (n,), float64; 0 where misclassified, never above the distance of an adversarial example in the box.
    """
    out = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    rows = (graph.logits(x).argmax(dim=1) == y).nonzero().squeeze(1)
    if len(rows):
        out[rows] = _search(graph, x[rows].double(), y[rows], norm=norm, method=method)
    return out


def _search(graph: Graph, x: Tensor, y: Tensor, *, norm: Norm, method: Method) -> Tensor:
    """`radius` of correctly classified images in float64."""
    low = x.new_zeros(len(x))
    span = get_norm(norm).diameter(x.shape[1:])
    if not graph.nonlinear():  # the bounds are the margins themselves, on a ball of any size
        return _try(graph, x, y, torch.full_like(low, span), norm=norm, intervals=method, method=method).reach
    # Within a vanishing ball the linear bounds are the margins' gradients: they set the scale.
    linear, margin = _margins(graph, x, y, low, norm=norm, intervals="crown", method="crown")
    slope = norms_of(linear.on_image().flatten(0, 1), dual(norm)).view(len(x), -1).amax(dim=1)
    first = FIRST * margin / slope.clamp(min=1e-30)

    def search(intervals: Method, method: Method, first: Tensor, low: Tensor, tolerance: float) -> Tensor:
        def evaluate(rows: Tensor, eps: Tensor) -> Trial:
            return _try(graph, x[rows], y[rows], eps, norm=norm, intervals=intervals, method=method)

        return largest_radius(evaluate, margin=margin, first=first, low=low, span=span, tolerance=tolerance)

    if method == "ibp":
        return search("ibp", "ibp", first, low, TOLERANCE)
    # CROWN's margins over interval bounds of the layers cost a small part of a trial, and show where to start.
    low = search("ibp", "crown", first, low, COARSE)
    return search("crown", "crown", torch.where(low > 0, WIDER * low, first), low, TOLERANCE)


def _margins(
    graph: Graph, x: Tensor, y: Tensor, eps: Tensor, *, norm: Norm, intervals: Method, method: Method
) -> tuple[LinearBound, Tensor]:
    """Linear bounds of the margins within balls, and the smallest margin's lower bound (n,).

    ``intervals`` says how the layers below are bounded, ``method`` how the margins are.
    """
    ball = Ball(x, eps, norm)
    bounds = LayerBounds(graph, ball, intervals)
    linear = margin_bound(bounds, y, method)
    return linear, linear.smallest(ball, bounds.intervals).amin(dim=1)


def _try(graph: Graph, x: Tensor, y: Tensor, eps: Tensor, *, norm: Norm, intervals: Method, method: Method) -> Trial:
    """What balls of these radii show; arguments as `_margins`."""
    linear, margin = _margins(graph, x, y, eps, norm=norm, intervals=intervals, method=method)
    reach = torch.where(margin > SLACK, eps, 0.0)
    if set(linear.rows) != {0}:  # bounds that stop at a layer above the image say nothing about smaller balls
        return Trial(reach, margin)
    rows, offset = (t.expand(len(x), *t.shape[1:]) for t in (linear.on_image(), linear.constant - SLACK))
    distance = distance_to_halfspace(rows, offset, x.flatten(1), norm).amin(dim=1) * (1 - SLACK)
    return Trial(torch.maximum(reach, torch.minimum(distance, eps)), margin)
