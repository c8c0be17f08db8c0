"""Hein & Andriushchenko's local Cross-Lipschitz bound: networks with one hidden layer, and Gaussian-kernel classifiers.

Within a ball the margin ``f_c - f_j`` falls at most as fast as its gradient allows (2017, arXiv:1705.08475, theorem
2.1):

    radius = max over R of min(min_j margin_j / max over the ball of radius R of ‖∇f_c - ∇f_j‖_q, R)

Two bounds of that maximum are used, and the better one counts. For every norm: an interval of each coordinate of the
gradient, and then, tighter than a norm, the fastest way down the box allows at these rates. For l2 also the
paper's own: the squared norm as a sum over pairs of neurons (or of kernels), each term at its maximum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from benchmark.certificates.ball import Ball, refuse_outside, smallest_step
from benchmark.certificates.bounds import backward
from benchmark.certificates.coefficients import Dense, to_dense
from benchmark.certificates.costs import refuse_by_size
from benchmark.certificates.graph import Graph
from benchmark.certificates.operations import Activation
from benchmark.certificates.rows import margin_rows, neurons
from benchmark.errors import UnsupportedModelError
from benchmark.threat import Norm, get_norm

SLACK: Final = 1e-9
"""Margins are taken smaller, rates larger and radii smaller by this, relatively, against rounding in float64."""

BISECTIONS: Final = 30

ELEMENTS: Final = 2**23
"""Numbers that the gradients' bounds hold at once (64 MiB)."""


@dataclass(frozen=True, eq=False)
class GradientBounds:
    """What the gradients of the margins can be within balls.

    Attributes:
        lower: Lower bound of each coordinate, shape (n, k - 1, d).
        upper: Upper bound.
        length: Upper bound of the l2 norm, shape (n, k - 1), or None where it is not known.
    """

    lower: Tensor
    upper: Tensor
    length: Tensor | None = None


@torch.no_grad()
def cross_lipschitz(graph: Graph, x: Tensor, y: Tensor, *, norm: Norm) -> Tensor:
    """Certified radii of a network with at most one hidden layer.

    Args:
        graph: Affine layers with at most one activation (ReLU or softplus) between them.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm of the radii.

    Returns:
        Shape (n,), float64; 0 where misclassified.

    Raises:
        UnsupportedModelError: If the network has more non-linear layers, or a pooling maximum.
    """
    hidden = graph.nonlinear()
    if len(hidden) > 1 or any(not isinstance(graph.nodes[i].operation, Activation) for i in hidden):
        raise UnsupportedModelError(
            f"The Cross-Lipschitz bound is for one hidden layer; this network has {len(hidden)} non-linear layers."
        )
    refuse_outside(x)
    refuse_by_size(graph, "cross-lipschitz")
    margins = margins_of(graph.logits(x), y) - graph.margin_rounding(y)
    out = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    network = _HiddenLayer.of(graph, x)
    classes = max(1, min(graph.classes - 1, ELEMENTS // network.size))
    step = max(1, ELEMENTS // (network.size * classes))
    # The radius is the smallest over the other classes, so that they may be taken some at a time.
    for begin in range(0, len(x), step):
        samples = slice(begin, begin + step)
        for first in range(0, graph.classes - 1, classes):
            piece = slice(first, first + classes)
            images, rows = x[samples].double(), margin_rows(y[samples], graph.classes, piece)
            found = largest_radius(
                margins[samples, piece], images, norm, _bounds_of_network(network, images, rows, norm)
            )
            out[samples] = torch.minimum(out[samples], found)
    return out


def margins_of(logits: Tensor, y: Tensor) -> Tensor:
    """The label's lead over each other class, in their order: (n, k - 1)."""
    places = torch.arange(logits.shape[1] - 1, device=y.device)
    return logits.gather(1, y[:, None]) - logits.gather(1, places + (places >= y[:, None]))


def largest_radius(margins: Tensor, x: Tensor, norm: Norm, bounds: Callable[[Tensor], GradientBounds]) -> Tensor:
    """The largest certified radius that a bisection of the ball's radius finds.

    Args:
        margins: Margins over the other classes at the images, shape (n, k - 1).
        x: Images, shape (n, ...), float64.
        norm: The norm.
        bounds: Gradient bounds within balls of radii (n,).

    Returns:
        Shape (n,); 0 where a margin is not positive.
    """
    d = x[0].numel()
    below = x.flatten(1)[:, None]
    margins = margins - SLACK * (1 + margins.abs())

    def certify(radii: Tensor) -> Tensor:
        return torch.minimum(_reach(bounds(radii), margins, below, norm), radii)

    span = get_norm(norm).diameter((d,))
    low = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    # The bound at radius 0 is the gradient itself, and no larger ball can certify more than it does.
    high = _reach(bounds(low), margins, below, norm).clamp(max=span)
    best = certify(high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        reach = certify(middle)
        best = torch.maximum(best, reach)
        low, high = torch.where(reach >= middle, middle, low), torch.where(reach >= middle, high, middle)
    return torch.where((margins > 0).all(dim=1), best * (1 - SLACK), 0.0)


def _reach(bounds: GradientBounds, margins: Tensor, below: Tensor, norm: Norm) -> Tensor:
    """How far the margins stay positive if gradients stay in their bounds: (n,)."""
    above = 1 - below
    # Going down a pixel loses at most its upper bound, going up at most minus its lower bound.
    down = torch.where(below > 0, bounds.upper.clamp(min=0), 0.0)
    up = torch.where(above > 0, (-bounds.lower).clamp(min=0), 0.0)
    room = torch.maximum(torch.where(down > 0, below, 0.0), torch.where(up > 0, above, 0.0))
    reach = smallest_step(torch.maximum(down, up) * (1 + SLACK), room, margins, norm)
    if bounds.length is not None and norm != "linf":
        # In l1 the dual norm is the largest coordinate, which is at most the length.
        reach = torch.maximum(reach, margins / (bounds.length * (1 + SLACK)).clamp(min=1e-300))
    return reach.amin(dim=1)


@dataclass(frozen=True, eq=False)
class _HiddenLayer:
    """``f = head σ(rows x + offset) + ...``, cut out of a graph.

    Attributes:
        graph: The graph.
        activation: The activation's index; None for an affine network.
        rows: Shape (h, d); empty for an affine network.
        offset: Shape (h,).
    """

    graph: Graph
    activation: int | None
    rows: Tensor
    offset: Tensor

    @staticmethod
    def of(graph: Graph, x: Tensor) -> _HiddenLayer:
        d = graph.nodes[0].shape.numel()
        for i in graph.nonlinear():
            before = graph.nodes[i].inputs[0]
            (identity,) = neurons(graph.nodes[before].shape, x)
            linear = backward(graph, before, identity, {})
            rows = linear.on_image()[0]
            return _HiddenLayer(graph, i, rows, linear.constant.expand(1, len(rows))[0])
        empty = torch.zeros(0, d, dtype=torch.float64, device=x.device)
        return _HiddenLayer(graph, None, empty, empty[:, 0])

    @property
    def size(self) -> int:
        """Numbers a sample and class that the bounds hold."""
        return len(self.rows) + self.rows.shape[1]


def _bounds_of_network(
    network: _HiddenLayer, x: Tensor, rows: Tensor, norm: Norm
) -> Callable[[Tensor], GradientBounds]:
    """Gradient bounds of margins, given as coefficients of the logits (n, k - 1, k), around images."""
    graph = network.graph
    head = backward(graph, len(graph.nodes) - 1, Dense(rows), {}).rows
    direct = to_dense(head[0]).data.flatten(2) if 0 in head else x.new_zeros(1, 1, network.rows.shape[1])
    if network.activation is None:
        return lambda radii: GradientBounds(direct, direct)
    activation = graph.nodes[network.activation].operation
    assert isinstance(activation, Activation)
    weights = to_dense(head[network.activation]).data.flatten(2)
    u, offset = network.rows, network.offset
    only_hidden = 0 not in head

    def bounds(radii: Tensor) -> GradientBounds:
        ball = Ball(x, radii, norm)
        pixels = x.flatten(1)[:, None]
        low = ball.smallest(u[None], pixels, 1 - pixels) + offset
        high = offset - ball.smallest(-u[None], pixels, 1 - pixels)
        slack = SLACK * (1 + torch.maximum(low.abs(), high.abs()))
        least, most = activation.slope(low - slack)[:, None], activation.slope(high + slack)[:, None]
        gain, loss = weights.clamp(min=0), weights.clamp(max=0)
        up, down = u.clamp(min=0), u.clamp(max=0)
        upper = (gain * most) @ up + (loss * most) @ down + (gain * least) @ down + (loss * least) @ up
        lower = (gain * least) @ up + (loss * least) @ down + (gain * most) @ down + (loss * most) @ up
        length = _pairwise_length(weights, u, least, most) if only_hidden else None
        return GradientBounds(lower + direct, upper + direct, length)

    return bounds


def _pairwise_length(weights: Tensor, u: Tensor, least: Tensor, most: Tensor) -> Tensor:
    """The paper's bound of ``‖Σ_r w_r σ'_r u_r‖₂²``, a sum over pairs of neurons with each term at its maximum.

    It is ``Σ_rs max(w_r w_s <u_r, u_s>, 0) h_r⁺ h_s⁺ + min(w_r w_s <u_r, u_s>, 0) h_r⁻ h_s⁻``, where ``h⁻ = least`` and
    ``h⁺ = most`` enclose ``σ'``. Split by the signs of the weights, each half is a quadratic form.
    """
    products = u @ u.T
    positive, negative = products.clamp(min=0), products.clamp(max=0)

    def form(a: Tensor, matrix: Tensor, b: Tensor) -> Tensor:
        return ((a @ matrix) * b).sum(dim=-1)

    gain, loss = weights.clamp(min=0) * most, weights.clamp(max=0) * most
    total = form(gain, positive, gain) + form(loss, positive, loss) + 2 * form(gain, negative, loss)
    gain, loss = weights.clamp(min=0) * least, weights.clamp(max=0) * least
    total = total + form(gain, negative, gain) + form(loss, negative, loss) + 2 * form(gain, positive, loss)
    return total.clamp(min=0).sqrt()
