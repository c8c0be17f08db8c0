"""Interval bounds and CROWN: sound on every supported layer, exact on linear models, as published on real nets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.certificates.ball import Ball
from benchmark.certificates.bounds import LayerBounds, Method, backward
from benchmark.certificates.coefficients import to_dense
from benchmark.certificates.crown import margins
from benchmark.certificates.graph import trace
from benchmark.certificates.operations import Activation, ChannelMax
from benchmark.certificates.rows import margin_rows, neurons
from benchmark.threat import Norm, norms_of

NORMS = ("linf", "l2", "l1")

METHODS: tuple[Method, ...] = ("crown", "ibp")


class Residual(nn.Module):
    """Convolutions of unlike windows joined by additions, batch-norm, a padded max pooling, a global average."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.narrow = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.skip = nn.Conv2d(4, 4, 1, stride=2)
        self.grouped = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2)
        self.head = nn.Linear(4, 3)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.4) / 0.3
        x = functional.relu(self.norm(self.stem(x)))
        x = functional.relu(self.narrow(x) + self.skip(x))
        x = x + self.grouped(x).relu()
        x = functional.max_pool2d(x, 3, stride=1, padding=1)
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def conv_pool() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(4, 3, 3, stride=2, padding=1), nn.ReLU(),
        nn.AvgPool2d(2, stride=1), nn.Flatten(), nn.Dropout(), nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Softplus(beta=3),
        nn.Linear(6, 3),
    )  # fmt: skip


def deep_patches() -> nn.Module:
    """Windows grow over three convolutions and reach beyond the image."""
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(),
        nn.Conv2d(3, 3, (2, 3), stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 3, 3),
    )  # fmt: skip


class Pooled(nn.Module):
    """ReLU and max pooling as one layer, where the ReLU has another reader and where it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 2, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        x = functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2)
        x = functional.max_pool2d(functional.relu(self.second(x)), 3, stride=1, padding=1)
        return self.head(functional.max_pool2d(x, (2, 4)).flatten(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))


NETS: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "conv-pool": conv_pool,
    "deep-patches": deep_patches,
    "mlp": mlp,
    "pooled": Pooled,
}


def build(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = NETS[name]().eval()
    for parameter in net.parameters():
        parameter.data.mul_(1.5)
    return net


def images(n: int, seed: int = 1) -> Tensor:
    """Some pixels on the box's edges, where the ball is cut."""
    x = torch.rand(n, 2, 6, 6, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.2
    return x.clamp(0, 1)


def inside(ball: Ball, n: int, seed: int = 2) -> Tensor:
    """Random points of the cut balls, most of them on the edge: (n, samples, ...)."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for k in range(n):
        delta = torch.randn(ball.x.shape, generator=generator, dtype=torch.float64)
        if k % 2:  # sparse steps reach further in l1, steps of equal size in linf
            delta = (
                delta.sign() if ball.norm == "linf" else delta * (torch.rand(delta.shape, generator=generator) < 0.1)
            )
        scale = (1 - 1e-9) * ball.eps / norms_of(delta, ball.norm).clamp(min=1e-12)
        out.append((ball.x + delta * scale.view(-1, 1, 1, 1)).clamp(0, 1))
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETS)
def test_every_layer_stays_within_its_bounds(name: str, norm: Norm, method: Method) -> None:
    x = images(4)
    graph = trace(build(name), x)
    ball = Ball(x.double(), torch.tensor([0.02, 0.1, 0.3, 0.6], dtype=torch.float64) * (3 if norm == "l1" else 1), norm)
    bounds = LayerBounds(graph, ball, method)
    points = inside(ball, 60)
    values = graph.values(points.flatten(0, 1))
    for value, interval in zip(values, bounds.intervals, strict=True):
        seen = value.unflatten(0, points.shape[:2])
        assert (seen >= interval.lower[:, None]).all()
        assert (seen <= interval.upper[:, None]).all()


def test_a_relu_under_max_pooling_is_part_of_it_unless_something_else_reads_it() -> None:
    graph = trace(build("pooled"), images(2))
    kinds = [node.operation for node in graph.nodes]
    assert [k.rectified for k in kinds if isinstance(k, ChannelMax)] == [True, True, False]
    assert sum(isinstance(k, Activation) for k in kinds) == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETS)
def test_margins_are_never_below_their_bounds(name: str, norm: Norm, method: Method) -> None:
    x = images(6)
    graph = trace(build(name), x)
    y = graph.logits(x).argmax(dim=1)
    eps = torch.full((6,), 0.1, dtype=torch.float64)
    lowest = margins(graph, x, y, eps, norm=norm, method=method)
    points = inside(Ball(x.double(), eps, norm), 100)
    rows = margin_rows(y, 3)
    logits = graph.logits(points.flatten(0, 1)).unflatten(0, points.shape[:2])
    assert (torch.einsum("njk,nsk->nsj", rows, logits) >= lowest[:, None]).all()


@pytest.mark.parametrize("name", ["residual", "deep-patches", "conv-pool", "pooled"])
def test_patches_are_the_dense_rows_in_less_memory(name: str) -> None:
    x = images(3)
    graph = trace(build(name), x)
    ball = Ball(x.double(), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), "linf")
    lines = LayerBounds(graph, ball).relaxations
    for i in graph.nonlinear():
        node = graph.nodes[i].inputs[0]
        if len(graph.nodes[node].shape) != 3:
            continue
        (patches,) = neurons(graph.nodes[node].shape, ball.x, both_signs=True)
        below = {k: r for k, r in lines.items() if k <= node}
        ours, dense = (backward(graph, node, rows, below) for rows in (patches, to_dense(patches)))
        torch.testing.assert_close(ours.smallest(ball), dense.smallest(ball))
        torch.testing.assert_close(ours.on_image(), dense.on_image())
