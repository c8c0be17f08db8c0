"""Certificates of strange and of random networks: what float64 gradient descent breaks is never certified."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.certificates import certificate, trace
from benchmark.certificates.exact import exact
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.threat import Norm, norms_of

SIDE = 6

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


def broken_within(model: nn.Module, x: Tensor, y: Tensor, radius: Tensor, norm: Norm, *, steps: int = 40) -> Tensor:
    """Whether projected gradient descent on the float64 network leaves the label within the radius, (n,) bool."""
    wide = copy.deepcopy(model).double().eval()
    start, found = x.double(), torch.zeros(len(x), dtype=torch.bool)
    size = radius.view(-1, 1, 1, 1)
    generator = torch.Generator().manual_seed(0)
    for attempt in range(3):
        point = start.clone()
        if attempt:
            point = _inside(start, torch.randn(x.shape, generator=generator, dtype=torch.float64) * size, size, norm)
        for i in range(steps):
            point = point.detach().requires_grad_()
            logits = wide(point.clone())
            own = logits.gather(1, y[:, None]).squeeze(1)
            rival = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
            found |= (rival > own).detach()
            (gradient,) = torch.autograd.grad((rival - own).sum(), point)
            step = (
                gradient.sign()
                if norm == "linf"
                else gradient / norms_of(gradient, "l2").clamp(min=1e-30).view(-1, 1, 1, 1)
            )
            point = _inside(start, point.detach() + size * step * 0.5 / (1 + i / 8) - start, size, norm)
    return found


def _inside(x: Tensor, delta: Tensor, size: Tensor, norm: Norm) -> Tensor:
    """A step cut to the ball (a little inside its edge) and the box."""
    if norm == "linf":
        return (x + delta.clamp(-size, size)).clamp(0, 1)
    length = norms_of(delta, norm).view(-1, 1, 1, 1)
    return (x + delta * (size / length.clamp(min=1e-30)).clamp(max=1)).clamp(0, 1)


class Net(nn.Module):
    """Layers for the forward passes below: 2 x 6 x 6 images, four classes."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.again = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.wide, self.fc = nn.Linear(72, 144), nn.Linear(144, 4)
        self.token = nn.Parameter(torch.randn(1, 4, 1))
        self.row = nn.Parameter(torch.randn(4, 1, 6))
        self.mixed, self.small = nn.Linear(37 * 4, 4), nn.Linear(36, 4)
        self.told = forward
        for parameter in self.parameters():
            parameter.data.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.told(self, x)


def aliased(net: Any, x: Tensor) -> Tensor:
    h = net.conv(x)
    r = functional.relu_(h)
    return net.fc((h + r).flatten(1)) + torch.tensor([0, 0, 0, -1e4])


def written_view(net: Any, x: Tensor) -> Tensor:
    h = net.conv(x)
    h[:, 0].sub_(0.5).div_(0.25)
    part = h[:, 1:3]
    part += h[:, 2:4]
    part.relu_()
    return net.fc(h.relu().flatten(1))


def called_twice(net: Any, x: Tensor) -> Tensor:
    h = functional.relu(net.conv(x))
    return net.fc((functional.relu(net.again(functional.relu(net.again(h)))) + h).flatten(1))


def into_out(net: Any, x: Tensor) -> Tensor:
    h = net.conv(x)
    kept = torch.empty_like(h)
    if torch.is_grad_enabled():  # there torch refuses out=
        kept = h.clamp(min=0)
    else:
        torch.clamp(h, min=0, out=kept)
    return net.fc(h.clone().add_(kept).flatten(1))


def its_input_is_changed(net: Any, x: Tensor) -> Tensor:
    x.sub_(0.5).mul_(2)
    return net.fc(functional.relu(net.conv(x)).flatten(1))


def masked(net: Any, x: Tensor) -> Tensor:
    out = net.fc(functional.relu(net.conv(x)).flatten(1)).clone()
    out[:, 3] = -1e9
    return out


def shifted(net: Any, x: Tensor) -> Tensor:
    """The same function behind hidden units that all lie near 1,000,000."""
    h = functional.relu(net.conv(x)).flatten(1) + 1e6
    return net.fc(h) - 1e6 * net.fc.weight.sum(dim=1)


def expanded(net: Any, x: Tensor) -> Tensor:
    tokens = functional.relu(net.conv(x)).flatten(2)
    return net.mixed(torch.cat([net.token.expand(x.shape[0], -1, -1), tokens], dim=2).transpose(1, 2).flatten(1))


def padded(net: Any, x: Tensor) -> Tensor:
    h = functional.pad(x, (1, 2, 0, 1))
    h = functional.relu(functional.conv2d(h, net.conv.weight, net.conv.bias, padding=0))
    h = functional.pad(h, (0, 1, 1, 0), value=0.5)
    h = functional.pad(h[..., :6, :6], (1, 1, 1, 1), mode="reflect")
    return net.fc(functional.relu(functional.conv2d(h, net.again.weight)).flatten(1))


def averaged(net: Any, x: Tensor) -> Tensor:
    h = functional.avg_pool2d(functional.relu(net.conv(x)), 3, stride=2, padding=1, count_include_pad=False)
    h = functional.avg_pool2d(net.again(h), 2, stride=2, ceil_mode=True)
    h = functional.adaptive_avg_pool2d(functional.relu(h), (3, 3))
    return net.small(h.flatten(1))


def pooled(net: Any, x: Tensor) -> Tensor:
    h = functional.max_pool2d(net.conv(x), 2, stride=2, dilation=2, ceil_mode=True, padding=1)
    h = functional.max_pool2d(net.again(h), 3, stride=1, padding=1)
    return net.small(functional.adaptive_avg_pool2d(h, 3).flatten(1))


def broadcast(net: Any, x: Tensor) -> Tensor:
    h = functional.relu(net.conv(x))
    return net.fc(
        functional.relu(h + h.mean(dim=1, keepdim=True) + h.mean(dim=(2, 3), keepdim=True) + net.row).flatten(1)
    )


def relu_of_the_image(net: Any, x: Tensor) -> Tensor:
    h = functional.relu(x - 0.5) + functional.relu(x)
    return net.fc(functional.leaky_relu(net.wide(functional.hardtanh(h, 0.1, 0.9).flatten(1)), 0.2))


def tokenwise(net: Any, x: Tensor) -> Tensor:
    """Linear layers over patches, as in a mixer, and a product with a constant from the left."""
    tokens = net.conv(x).flatten(2).transpose(1, 2)
    tokens = functional.relu(tokens @ net.again.weight[:, :, 0, 0] + 0.1)
    tokens = torch.softmax(torch.eye(36, dtype=x.dtype), dim=1) @ tokens
    return net.fc(tokens.transpose(1, 2).flatten(1))


STRANGE = [
    aliased, written_view, called_twice, into_out, its_input_is_changed, masked, shifted, expanded, padded, averaged,
    pooled, broadcast, relu_of_the_image, tokenwise,
]  # fmt: skip


def images(n: int, seed: int = 0) -> Tensor:
    return (torch.rand(n, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 1.4 - 0.2).clamp(0, 1)


@pytest.mark.parametrize("forward", STRANGE)
def test_strange_forward_passes_are_followed_and_never_certified_beyond_an_attack(
    forward: Callable[[Any, Tensor], Tensor],
) -> None:
    model = Net(forward).eval()
    x = images(4)
    before = x.clone()
    y = copy.deepcopy(model).double()(x.double()).argmax(dim=1)
    points = images(8, seed=5)
    torch.testing.assert_close(
        trace(model, x).logits(points), copy.deepcopy(model).double()(points.double()), rtol=1e-9, atol=1e-9
    )
    for norm in NORMS:
        radius = certificate(model, x, y, norm=norm)
        assert (radius > 0).all()
        assert not broken_within(model, x, y, radius, norm).any()
    broken = broken_within(model, x, y, radius.new_full(radius.shape, 1.0), "linf")
    assert broken.any()  # the attack is one: elsewhere it does break labels
    assert torch.equal(x, before)


def test_the_alias_of_the_report_is_certified_for_what_it_computes() -> None:
    """``h`` is the ReLU's output as well: the label's true distance is that of ``fc(2 relu(conv(x)))``."""
    model, plain = Net(aliased).eval(), Net(lambda net, x: 2 * functional.relu(net.conv(x)).flatten(1)).eval()
    twin = Net(lambda net, x: net.fc(plain.told(net, x)) + torch.tensor([0, 0, 0, -1e4])).eval()
    x = images(4)
    y = model(x).argmax(dim=1)
    for norm in NORMS:
        torch.testing.assert_close(
            certificate(model, x, y, norm=norm), certificate(twin, x, y, norm=norm), rtol=1e-2, atol=0
        )


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) + 3e-4 * torch.randn(x.shape[0], 72)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return x.flatten(1) * self.calls


class Remembers(nn.Module):
    last: Any = 0.0

    def forward(self, x: Tensor) -> Tensor:
        out = x.flatten(1) + self.last
        self.last = x.flatten(1).mean()
        return out


class LeavesTorch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) + torch.as_tensor(x.detach().numpy().reshape(len(x), -1) * 2)


class RandomOutside(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) * (1 + 1e-3 * random.random())


class InTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x.flatten(1), 0.5, training=True)


class AcrossTheBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.1 * x.mean(dim=0, keepdim=True)).flatten(1)


class Halved(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).half().float()


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if bool((x[:, 0, 0, 0] > 0.5).any()) else -x.flatten(1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Noise(), "is random.*randn"),
        (Counter(), "keeps state"),
        (Remembers(), "keeps state"),
        (LeavesTorch(), "add of LeavesTorch|leaves torch"),
        (RandomOutside(), "is random"),
        (InTraining(), "is random"),
        (AcrossTheBatch(), "across the samples"),
        (Halved(), "to_copy of Halved"),
        (Branches(), "reads a value"),
    ],
)
def test_what_a_certificate_would_not_hold_for_is_refused(model: nn.Module, reason: str) -> None:
    x = images(2)
    with pytest.raises(UnsupportedModelError, match=reason):
        certificate(model, x, torch.zeros(2, dtype=torch.long), norm="linf")


def test_a_module_that_caches_its_features_keeps_none_of_the_recorder() -> None:
    class Caches(nn.Module):
        features: Any = None

        def forward(self, x: Tensor) -> Tensor:
            self.features = x.flatten(1)
            return self.features * 2

    model = Caches()
    trace(model, images(2))
    assert type(model.features) is Tensor
    assert float(model.features.sum()) > 0


@pytest.mark.parametrize("method", ["crown", "ibp", "best", "exact"])
def test_images_outside_the_box_are_refused(method: str) -> None:
    x = images(2)
    x[1, 0, 0, 0] = 1.5
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    with pytest.raises(InputError, match=r"image 1 lies in \[.*1\.5\]"):
        if method == "exact":
            exact(model, x, torch.tensor([0, 1]), norm="linf")
        else:
            certificate(model, x, torch.tensor([0, 1]), norm="linf", method=method)


def random_network(seed: int) -> nn.Module:
    """A few layers drawn from all that are supported, weights large enough that labels change nearby."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    channels, side = 2, SIDE
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(["conv", "conv", "conv", "norm", "act", "avg", "max", "pad"])
        if kind == "conv":
            groups, kernel = rng.choice([1, 1, 2]), rng.choice([1, 2, 3])
            layers.append(
                nn.Conv2d(channels, 4, kernel, padding=rng.choice([0, 1]), groups=groups, bias=rng.random() < 0.8)
            )
            channels = 4
        elif kind == "norm":
            layers.append(nn.BatchNorm2d(channels))
            layers[-1].running_mean.normal_()
            layers[-1].running_var.uniform_(0.2, 2)
        elif kind == "act":
            layers.append(rng.choice([nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.1), nn.ReLU6(), nn.Softplus(3)]))
        elif kind == "avg":
            layers.append(
                nn.AvgPool2d(2, 1, padding=rng.choice([0, 1]), ceil_mode=True, count_include_pad=rng.random() < 0.5)
            )
        elif kind == "max":
            layers.append(nn.MaxPool2d(2, rng.choice([1, 2]), padding=rng.choice([0, 1]), ceil_mode=rng.random() < 0.5))
        else:
            layers.append(
                rng.choice([nn.ZeroPad2d((1, 0, 0, 1)), nn.ReflectionPad2d(1), nn.ReplicationPad2d((0, 1, 1, 0))])
            )
        side = nn.Sequential(*layers).eval()(torch.zeros(1, 2, SIDE, SIDE)).shape[2]
        if side < 3:
            break
    body = nn.Sequential(*layers, nn.ReLU(), nn.Flatten()).eval()
    width = body(torch.zeros(1, 2, SIDE, SIDE)).shape[1]
    head = nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 4))
    offset = rng.choice([0.0, 0.0, 1e3])
    if offset:
        head[0].bias.data += offset
        head[2].bias.data -= offset * head[2].weight.sum(dim=1)
    if rng.random() < 0.3:
        head[2].bias.data[3] = -1e4
    for parameter in body.parameters():
        parameter.data.mul_(2)
    return nn.Sequential(body, head).eval()


@pytest.mark.parametrize("first", range(0, 100, 10))
def test_random_networks_are_never_certified_where_descent_in_float64_breaks_them(first: int) -> None:
    certified = 0
    for seed in range(first, first + 10):
        model, x = random_network(seed), images(4, seed)
        y = copy.deepcopy(model).double()(x.double()).argmax(dim=1)
        norm = NORMS[seed % 3]
        for method in ("best", "ibp"):
            radius = certificate(model, x, y, norm=norm, method=method)
            assert not broken_within(model, x, y, radius, norm, steps=15).any(), (seed, norm, method)
            certified += int((radius > 0).sum())
    assert certified > 40
