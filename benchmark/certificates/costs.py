"""What the bounds of a graph cost: which layers get CROWN's bounds, and which networks are too large for any."""

from __future__ import annotations

import math
from typing import Final, Literal, get_args

from benchmark.certificates.graph import Graph
from benchmark.certificates.operations import (
    Activation,
    ChannelMax,
    Convolution,
    Gather,
    Input,
    Linear,
    Moving,
    Reshape,
)
from benchmark.errors import UnsupportedModelError

Use = Literal["signs", "positive", "all"]
"""What of a layer's interval counts: where its sign is open; where it is positive too (ReLU, then a maximum); all."""

USES: Final[tuple[Use, ...]] = get_args(Use)

AFFORDABLE: Final = 2**25
"""Coefficients a sample, for all neurons of a layer, above which the layer keeps its interval bounds.

The second convolution of a LeNet with 12,544 neurons (2.9e7) is below: CROWN bounds of its unsettled neurons triple the
time of a trial, and the radii grow by a third in linf and to twice their size in l1.
"""

MOST_WORK: Final = {"crown": 2**39, "ibp": 2**30, "cross-lipschitz": 2**39, "linear-region": 2**39}
"""Multiplications, for one ball around one image, above which a method refuses: about half a minute on one core."""

MOST_ACTIVATIONS: Final = 2**26
"""Outputs of all layers for one image above which every method refuses (bounds of them take 2 GiB)."""


def affine_of_image(graph: Graph) -> set[int]:
    """Layers that are affine functions of the image."""
    out = {0}
    for i, node in enumerate(graph.nodes):
        if (
            node.inputs
            and not isinstance(node.operation, Activation | ChannelMax)
            and all(j in out for j in node.inputs)
        ):
            out.add(i)
    return out


def to_refine(graph: Graph) -> dict[int, Use]:
    """Affine layers whose interval a non-linear layer reads, directly or passed on, and what of it counts."""
    uses: dict[int, Use] = {}
    for i in graph.nonlinear():
        operation = graph.nodes[i].operation
        use: Use = "signs" if isinstance(operation, Activation) and operation.kind == "relu" else "all"
        if isinstance(operation, ChannelMax) and operation.rectified:
            use = "positive"
        j = graph.nodes[i].inputs[0]
        while _passes_bounds(graph, j):
            above = graph.nodes[j].operation
            if use == "all" and isinstance(above, Activation) and above.kind == "relu":
                use = "positive"
            j = graph.nodes[j].inputs[0]
        if not isinstance(graph.nodes[j].operation, Input):
            uses[j] = max(use, uses.get(j, "signs"), key=USES.index)
    return uses


def _passes_bounds(graph: Graph, i: int) -> bool:
    operation = graph.nodes[i].operation
    if isinstance(operation, Convolution):
        return operation.selects
    return isinstance(operation, Moving | Activation | ChannelMax)


def row_cost(graph: Graph, node: int) -> int:
    """Coefficients a sample, at the widest layer, that `backward` holds for all neurons of a layer and both signs."""
    shape = graph.nodes[node].shape
    windows: dict[int, tuple[float, float]] = {node: (1, 1) if len(shape) == 3 else (math.inf, math.inf)}
    widest = 1
    for i in range(node, 0, -1):
        if i not in windows:
            continue
        height, width = windows[i]
        operation = graph.nodes[i].operation
        if isinstance(operation, Convolution):
            height = (height - 1) * operation.stride[0] + operation.window[0]
            width = (width - 1) * operation.stride[1] + operation.window[1]
        elif isinstance(operation, Linear | Reshape | Gather):
            height = width = math.inf
        for j in graph.nodes[i].inputs:
            before = graph.nodes[j].shape
            known = windows.get(j, (0, 0))
            windows[j] = (max(height, known[0]), max(width, known[1]))
            full = math.prod(before[1:])
            seen = windows[j][0] * windows[j][1] if len(before) == 3 else math.inf
            widest = max(widest, before[0] * int(min(seen, full)))
    return 2 * math.prod(shape) * widest


def work(graph: Graph, method: str) -> int:
    """Multiplications that a method takes for one ball around one image, roughly."""
    products = [_products(graph, i) for i in range(len(graph.nodes))]
    whole, rows = sum(products), graph.classes - 1
    if method == "ibp":
        return whole
    if method == "cross-lipschitz":
        hidden = max((graph.nodes[i].shape.numel() for i in graph.nonlinear()), default=1)
        return 2 * rows * hidden * (hidden + graph.nodes[0].shape.numel())
    before = [graph.nodes[i].inputs[0] for i in graph.nonlinear()]
    if method == "linear-region":
        return rows * whole + sum(graph.nodes[i].shape.numel() * sum(products[: i + 1]) for i in set(before))
    refined = [cost for i in to_refine(graph) if (cost := row_cost(graph, i)) <= AFFORDABLE]
    widest = max((_fan_in(graph, i) for i in range(len(graph.nodes))), default=1)
    return rows * whole + sum(refined) * min(widest, 2**8)


def refuse_by_size(graph: Graph, method: str, most_work: float | None = None) -> None:
    """Refuse a network that a method would work on for minutes an image, or that would not fit the memory.

    Args:
        graph: The network.
        method: A key of `MOST_WORK`.
        most_work: Multiplications for one ball around one image that are spent at most, if fewer than it says there.

    Raises:
        UnsupportedModelError: With the estimate.
    """
    estimate, most = work(graph, method), min(MOST_WORK[method], most_work or math.inf)
    if estimate > most:
        raise UnsupportedModelError(
            f"The model is too large for the certificate {method}: a single bound of one image would take about "
            f"{estimate:.1e} multiplications, and at most {most:.1e} are spent."
        )
    activations = sum(node.shape.numel() for node in graph.nodes)
    if activations > MOST_ACTIVATIONS:
        raise UnsupportedModelError(
            f"The model is too large for certificates: its layers have {activations:,} outputs an image, and bounds "
            f"are kept of at most {MOST_ACTIVATIONS:,}."
        )


def _fan_in(graph: Graph, i: int) -> int:
    operation = graph.nodes[i].operation
    return operation.weight[0].numel() if isinstance(operation, Linear | Convolution) else 1


def _products(graph: Graph, i: int) -> int:
    operation = graph.nodes[i].operation
    if isinstance(operation, Convolution) and operation.selects:
        return graph.nodes[i].shape.numel()
    return graph.nodes[i].shape.numel() * _fan_in(graph, i)
