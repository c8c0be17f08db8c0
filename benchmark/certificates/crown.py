"""Certified radii and certified decisions by CROWN and by interval bound propagation.

Margins are bounded directly: for each other class ``j`` the function ``f_c - f_j`` is carried back through the layers,
so that what two logits share cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from benchmark.certificates.ball import Ball, distance_to_halfspace, refuse_outside
from benchmark.certificates.bounds import LayerBounds, LinearBound, Method, backward
from benchmark.certificates.coefficients import Dense
from benchmark.certificates.costs import refuse_by_size
from benchmark.certificates.graph import Graph
from benchmark.certificates.relaxations import SLACK
from benchmark.certificates.rows import margin_rows
from benchmark.certificates.search import Trial, largest_radius
from benchmark.threat import Norm, dual, get_norm, norms_of

TOLERANCE: Final = 5e-3
"""Radii are searched until certified and refused ones are this near, relatively."""

COARSE: Final = 0.05
"""The same of the radii over interval bounds, which only show CROWN where to start."""

FIRST: Final = 0.1
"""First radius to try, as a share of what the gradients at the image would allow."""

TINY: Final = 1e-7
"""A ball that is as good as a point, as a share of the largest."""

TOGETHER: Final = 2**24
"""Outputs of layers whose bounds are kept at once (256 MiB with both bounds), one image at least."""

WIDER: Final = 1.5
"""First radius CROWN tries, as a multiple of the one certified over interval bounds."""


MARGIN_ELEMENTS: Final = 2**23
"""Coefficients of margins held at once (64 MiB): of many classes, some at a time."""


def margin_bounds(bounds: LayerBounds, y: Tensor, method: Method) -> Iterator[LinearBound]:
    """Lower bounds of the margins over the classes other than the label, some classes at a time, in their order.

    What rounding can do is taken off already.
    """
    graph = bounds.graph
    last, others = len(graph.nodes) - 1, graph.classes - 1
    widest = max(node.shape.numel() for node in graph.nodes)
    step = max(1, MARGIN_ELEMENTS // (len(y) * widest))
    error = graph.margin_rounding(y)
    for begin in range(0, others, step):
        piece = slice(begin, begin + step)
        rows = Dense(margin_rows(y, graph.classes, piece))
        linear = backward(graph, last, rows, bounds.relaxations if method == "crown" else {})
        yield LinearBound(linear.rows, linear.constant - error[:, piece])


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
    return torch.cat([b.smallest(ball, bounds.intervals) for b in margin_bounds(bounds, y, method)], dim=1)


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
    refuse_outside(x)
    refuse_by_size(graph, method)
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
    refuse_outside(x)
    refuse_by_size(graph, method)
    out = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    rows = (graph.logits(x).argmax(dim=1) == y).nonzero().squeeze(1)
    together = max(1, TOGETHER // sum(node.shape.numel() for node in graph.nodes))
    for piece in torch.split(rows, together) if len(rows) else ():
        out[piece] = _search(graph, x[piece].double(), y[piece], norm=norm, method=method)
    return out


def _search(graph: Graph, x: Tensor, y: Tensor, *, norm: Norm, method: Method) -> Tensor:
    """`radius` of correctly classified images in float64."""
    low = x.new_zeros(len(x))
    span = get_norm(norm).diameter(x.shape[1:])
    if not graph.nonlinear():  # the bounds are the margins themselves, on a ball of any size
        return _try(graph, x, y, torch.full_like(low, span), norm=norm, intervals=method, method=method).reach
    first, margin = _first(graph, x, y, span, norm=norm, method=method)

    def search(intervals: Method, method: Method, first: Tensor, low: Tensor, tolerance: float) -> Tensor:
        def evaluate(rows: Tensor, eps: Tensor) -> Trial:
            return _try(graph, x[rows], y[rows], eps, norm=norm, intervals=intervals, method=method)

        return largest_radius(evaluate, margin=margin, first=first, low=low, span=span, tolerance=tolerance)

    if method == "ibp":
        return search("ibp", "ibp", first, low, TOLERANCE)
    # CROWN's margins over interval bounds of the layers cost a small part of a trial, and show where to start.
    low = search("ibp", "crown", first, low, COARSE)
    return search("crown", "crown", torch.where(low > 0, WIDER * low, first), low, TOLERANCE)


def _first(graph: Graph, x: Tensor, y: Tensor, span: float, *, norm: Norm, method: Method) -> tuple[Tensor, Tensor]:
    """Radii to try first, from how fast the margins fall at the image, and the margins there; both (n,)."""
    ball = Ball(x, x.new_zeros(len(x)), norm)
    bounds = LayerBounds(graph, ball, method)
    slope, margin = x.new_zeros(len(x)), x.new_full((len(x),), torch.inf)
    for linear in margin_bounds(bounds, y, method):
        margin = torch.minimum(margin, linear.smallest(ball, bounds.intervals).amin(dim=1))
        if method == "crown":  # within a vanishing ball the linear bounds are the margins' gradients
            steepest = norms_of(linear.on_image().flatten(0, 1), dual(norm)).view(len(linear.on_image()), -1)
            slope = torch.maximum(slope, steepest.amax(dim=1))
    if method == "ibp":
        tiny = torch.full_like(slope, TINY * span)
        slope = (margin - margins(graph, x, y, tiny, norm=norm, method="ibp").amin(dim=1)) / tiny
    first = (FIRST * margin / slope.clamp(min=1e-30)).clamp(min=TINY * span)
    return torch.where(margin > 0, first, 0.0), margin


def _try(graph: Graph, x: Tensor, y: Tensor, eps: Tensor, *, norm: Norm, intervals: Method, method: Method) -> Trial:
    """What balls of these radii show; ``intervals`` says how the layers are bounded, ``method`` how the margins are."""
    ball = Ball(x, eps, norm)
    bounds = LayerBounds(graph, ball, intervals)
    margin, distance = x.new_full((len(x),), torch.inf), x.new_full((len(x),), torch.inf)
    for linear in margin_bounds(bounds, y, method):
        margin = torch.minimum(margin, linear.smallest(ball, bounds.intervals).amin(dim=1))
        if set(linear.rows) != {0}:  # bounds that stop at a layer above the image say nothing about smaller balls
            distance = torch.zeros_like(distance)
            continue
        rows, offset = (t.expand(len(x), *t.shape[1:]) for t in (linear.on_image(), linear.constant - SLACK))
        nearest = distance_to_halfspace(rows, offset, x.flatten(1), norm).amin(dim=1)
        distance = torch.minimum(distance, nearest * (1 - SLACK))
    reach = torch.where(margin > SLACK, eps, 0.0)
    return Trial(torch.maximum(reach, torch.minimum(distance, eps)), margin)
