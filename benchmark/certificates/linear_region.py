"""The linear-region certificate (MMR): a ReLU network is affine around an image, up to the nearest activation change.

Croce, Andriushchenko & Hein 2019, arXiv:1810.07481; its all-norm form: Croce & Hein 2020, arXiv:1905.11213. Within the
region of the image each pre-activation is ``z_r = <V_r, x> + a_r``. Its hyperplane is ``|z_r| / ‖V_r‖_q`` away, the
decision boundary to class j ``(f_c - f_j) / ‖V_c - V_j‖_q``; the smallest of these distances is a certified radius.

The box helps: a pixel that cannot move towards a hyperplane takes no part in its norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from benchmark.certificates.ball import refuse_outside
from benchmark.certificates.bounds import (
    CPU_ELEMENTS,
    CUDA_ELEMENTS,
    LinearBound,
    backward,
)
from benchmark.certificates.coefficients import Dense
from benchmark.certificates.costs import refuse_by_size, row_cost
from benchmark.certificates.graph import Graph
from benchmark.certificates.operations import Activation
from benchmark.certificates.relaxations import Relaxation
from benchmark.certificates.rows import margin_rows, neurons
from benchmark.errors import UnsupportedModelError
from benchmark.threat import Norm, dual, get_norm, norms_of

SLACK: Final = 1e-9
"""Radii are moved down by this, relatively, against rounding in float64."""


@torch.no_grad()
def linear_region(graph: Graph, x: Tensor, y: Tensor, *, norm: Norm) -> Tensor:
    """Radii within which the network is affine and keeps the label.

    Args:
        graph: A network of affine layers and ReLUs.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: The norm of the radii.

    Returns:
        Shape (n,), float64; 0 where misclassified.

    Raises:
        UnsupportedModelError: If the network has another non-linear layer.
    """
    return _radii(graph, x, y, norm, boxed=True)


@torch.no_grad()
def linear_region_all_norms(graph: Graph, x: Tensor, y: Tensor, *, norm: Norm) -> Tensor:
    """Radii in any norm from the linf and l1 distances alone: arguments and result as `linear_region`.

    The region where the network is affine and keeps the label is convex, so it holds the hull of the two balls.
    """
    # Without the box: the hull of two balls that were cut is less than the cut hull.
    rho_inf, rho_1 = (_radii(graph, x, y, n, boxed=False) for n in ("linf", "l1"))
    return hull_radius(rho_1, rho_inf, norm)


def hull_radius(rho_1: Tensor, rho_inf: Tensor, norm: Norm) -> Tensor:
    """Radius of the largest ball inside the convex hull of an l1 and an linf ball (arXiv:1905.11213, theorem 3.1).

    Args:
        rho_1: Radii of the l1 balls, shape (n,), from ``rho_inf`` to d times that.
        rho_inf: Radii of the linf balls, shape (n,).
        norm: The norm of the ball inside.
    """
    if norm == "l1":
        return rho_1
    ratio = rho_1 / rho_inf.clamp(min=1e-300)
    share = ratio.frac()
    dual = {"linf": 1.0, "l2": 2.0}[norm]
    return torch.where(rho_inf > 0, rho_1 / (ratio - share + share**dual) ** (1 / dual), 0.0)


def _radii(graph: Graph, x: Tensor, y: Tensor, norm: Norm, *, boxed: bool) -> Tensor:
    for i in graph.nonlinear():
        operation = graph.nodes[i].operation
        if not (isinstance(operation, Activation) and operation.kind == "relu"):
            name = operation.kind if isinstance(operation, Activation) else "max pooling"
            raise UnsupportedModelError(f"The linear-region certificate is for ReLU networks; this one has {name}.")
    refuse_outside(x)
    refuse_by_size(graph, "linear-region")
    out = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    budget = CPU_ELEMENTS if x.device.type == "cpu" else CUDA_ELEMENTS
    widest = max((row_cost(graph, graph.nodes[i].inputs[0]) for i in graph.nonlinear()), default=1)
    step = max(1, budget // widest)
    for begin in range(0, len(x), step):
        piece = slice(begin, begin + step)
        out[piece] = _of_some(graph, x[piece].double(), y[piece], norm, boxed=boxed)
    return out


def _of_some(graph: Graph, x: Tensor, y: Tensor, norm: Norm, *, boxed: bool) -> Tensor:
    radius = x.new_full((len(x),), torch.inf)
    for linear, error in _affine_pieces(graph, x, y):
        radius = torch.minimum(radius, _distance(linear, error, x, norm, boxed=boxed).amin(dim=1))
    correct = graph.logits(x).argmax(dim=1) == y
    span = get_norm(norm).diameter(x.shape[1:])
    return torch.where(correct, radius.clamp(max=span) * (1 - SLACK), 0.0)


def _affine_pieces(graph: Graph, x: Tensor, y: Tensor) -> Iterator[tuple[LinearBound, Tensor]]:
    """Every pre-activation, then every margin, as the affine function of the image that it is around ``x``.

    Each comes with what rounding can do to it, shape (n or 1, rows).
    """
    values = graph.values(x)
    lines: dict[int, Relaxation] = {}
    budget = CPU_ELEMENTS if x.device.type == "cpu" else CUDA_ELEMENTS
    for i in graph.nonlinear():
        before = graph.nodes[i].inputs[0]
        shape, error = graph.nodes[before].shape, graph.rounding[before].flatten()
        step = max(1, budget * shape[0] // (len(x) * row_cost(graph, before)))
        done = 0
        for rows in neurons(shape, x, step=step):
            linear = backward(graph, before, rows, lines)
            count = min(step, shape[0]) * (shape.numel() // shape[0])
            yield linear, error[None, done : done + count]
            done += count
        slope = (values[before] > 0).double()
        lines[i] = Relaxation(slope, slope, None, torch.zeros_like(slope))
    widest = max(node.shape.numel() for node in graph.nodes)
    classes, error = max(1, budget // (len(x) * widest)), graph.margin_rounding(y)
    for begin in range(0, graph.classes - 1, classes):
        piece = slice(begin, begin + classes)
        margins = Dense(margin_rows(y, graph.classes, piece))
        yield backward(graph, len(graph.nodes) - 1, margins, lines), error[:, piece]


def _distance(linear: LinearBound, error: Tensor, x: Tensor, norm: Norm, *, boxed: bool) -> Tensor:
    """Distance of each image from each hyperplane: (n, rows)."""
    rows, below, above = linear.rows[0].on_pixels(x)
    # Outside the image, where windows reach beyond it, there is no room in either direction.
    rows = torch.where(below + above > 0, rows, 0.0)
    constant = linear.constant.expand(-1, rows.shape[1:-1].numel())  # one number where the rows are the image's own
    value = (rows * below).sum(dim=-1) + constant.reshape(-1, *rows.shape[1:-1])
    if boxed:
        # Towards the hyperplane means down where the row and its value have one sign, up where they differ.
        rows = torch.where(torch.where(rows * value[..., None] > 0, below, above) > 0, rows, 0.0)
    size = norms_of(rows.expand(*value.shape, -1).flatten(0, -2), dual(norm)).view_as(value)
    return (value.abs().flatten(1) - error).clamp(min=0) / size.flatten(1).clamp(min=1e-300)
