"""Certified radii and certified decisions by CROWN and by interval bound propagation.

Margins are bounded directly: for each other class ``j`` the function ``f_c - f_j`` is carried back through the layers,
so that what two logits share cancels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from benchmark.certificates.ball import Ball, distance_to_halfspace
from benchmark.certificates.bounds import SLACK, LayerBounds, LinearBound, Method, backward
from benchmark.certificates.coefficients import Dense
from benchmark.certificates.graph import Graph
from benchmark.threat import DUAL, Norm, norms_of

TOLERANCE: Final = 5e-3
"""Radii are searched until certified and refused ones are this near, relatively."""

EVALUATIONS: Final = 16
"""Balls tried a sample at most."""

FIRST: Final[dict[Method, float]] = {"crown": 0.4, "ibp": 0.05}
"""First radius to try, as a share of what the gradients at the image would allow."""


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

    The lowest margin falls as the ball grows: its zero is looked for by the secant, within a bisection's bracket. A
    linear bound computed for a ball of radius R is valid inside it, so each trial, refused or not, certifies
    min(d, R) where d is the distance at which the bound reaches 0.

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


@dataclass(frozen=True, eq=False)
class _Trial:
    """What a ball of radius ``eps`` showed of each sample.

    Attributes:
        reach: The radius it certifies, at most ``eps``.
        margin: The smallest margin's lower bound; it falls as ``eps`` grows, and the search looks for its zero.
        slope: The largest dual norm of the linear bounds on the image, how fast a margin falls; 0 for IBP.
    """

    reach: Tensor
    margin: Tensor
    slope: Tensor


def _try(graph: Graph, x: Tensor, y: Tensor, eps: Tensor, *, norm: Norm, method: Method) -> _Trial:
    ball = Ball(x, eps, norm)
    bounds = LayerBounds(graph, ball, method)
    linear = margin_bound(bounds, y, method)
    margin = linear.smallest(ball, bounds.intervals).amin(dim=1)
    reach = torch.where(margin > SLACK, eps, 0.0)
    if set(linear.rows) != {0}:  # bounds that stop at a layer above the image say nothing about smaller balls
        return _Trial(reach, margin, torch.zeros_like(eps))
    rows, offset = (t.expand(len(x), *t.shape[1:]) for t in (linear.on_image(), linear.constant - SLACK))
    distance = distance_to_halfspace(rows, offset, x.flatten(1), norm).amin(dim=1) * (1 - SLACK)
    slope = norms_of(rows.flatten(0, 1), DUAL[norm]).view(len(x), -1).amax(dim=1)
    return _Trial(torch.maximum(reach, torch.minimum(distance, eps)), margin, slope)


def _search(graph: Graph, x: Tensor, y: Tensor, *, norm: Norm, method: Method) -> Tensor:
    """`radius` of correctly classified images in float64."""
    n, d = len(x), x[0].numel()
    span = {"linf": 1.0, "l2": math.sqrt(d), "l1": float(d)}[norm]
    low = x.new_zeros(n)
    high = x.new_full((n,), math.inf)
    # Within a vanishing ball the linear bounds are the margins' gradients: they set the scale.
    start = _try(graph, x, y, low, norm=norm, method="crown")
    trial_eps = (FIRST[method] * start.margin / start.slope.clamp(min=1e-30)).clamp(max=span)
    before = [low.clone(), start.margin]
    stuck = torch.zeros_like(low, dtype=torch.bool)
    for _ in range(EVALUATIONS):
        wide = torch.isinf(high) | (high - low > TOLERANCE * high)
        rows = (wide & (trial_eps > 0)).nonzero().squeeze(1)
        if not len(rows):
            break
        eps, old_low, old_high = trial_eps[rows], low[rows], high[rows]
        trial = _try(graph, x[rows], y[rows], eps, norm=norm, method=method)
        low[rows] = torch.maximum(old_low, trial.reach)
        high[rows] = torch.where((trial.reach >= eps) & (eps < span), old_high, torch.minimum(old_high, eps))
        zero = _secant(before[0][rows], before[1][rows], eps, trial.margin)
        before[0][rows], before[1][rows] = eps, trial.margin
        trial_eps[rows] = _next(low[rows], high[rows], zero, stuck[rows]).clamp(max=span)
        # A secant that has left more than half of the bracket is not followed twice.
        stuck[rows] = ~stuck[rows] & (high[rows] - low[rows] > (old_high - old_low) / 2)
    return low


def _secant(e0: Tensor, m0: Tensor, e1: Tensor, m1: Tensor) -> Tensor:
    """Where the line through two margins reaches 0; NaN or infinite where it does not."""
    return e1 - m1 * (e1 - e0) / (m1 - m0)


def _next(low: Tensor, high: Tensor, zero: Tensor, stuck: Tensor) -> Tensor:
    """The next radius to try: the secant's zero inside the bracket, or its middle; larger while it is open."""
    step = TOLERANCE / 2 * high
    middle = torch.where(high > 4 * low, (low.clamp(min=1e-3 * high) * high).sqrt(), (low + high) / 2)
    usable = torch.isfinite(zero) & ~stuck & (zero > low / 2) & (zero < 2 * high)
    inside = torch.where(usable, torch.minimum(torch.maximum(zero, low + step), high - step), middle)
    wider = torch.where(torch.isfinite(zero), 1.02 * zero, 2 * low)
    return torch.where(torch.isfinite(high), inside, torch.minimum(torch.maximum(wider, 1.1 * low), 4 * low))
