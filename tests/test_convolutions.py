"""Faster convolutions: the same values and gradients, for any model, and everything put back."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, dropout, relu

from benchmark import robustness_curve
from benchmark.attacks.engine.convolutions import convolve_image, faster_convolutions
from models_zoo.formats import load_program

X = torch.rand(3, 1, 9, 8, generator=torch.Generator().manual_seed(0))


def network(**first):
    torch.manual_seed(1)
    convolutions = nn.Conv2d(1, 6, **{"kernel_size": 3, **first}), nn.Conv2d(6, 4, 2)
    net = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    net(X)
    return net.eval().requires_grad_(False)


def passed(net, x=X):
    """Logits and the gradient of their squares' sum by the image."""
    leaf = x.detach().requires_grad_(True)
    logits = net(leaf)
    (gradient,) = torch.autograd.grad(logits.square().sum(), leaf)
    return logits.detach(), gradient


def state(net):
    """What must be as it was afterwards: where each weight lies, in which order, and what runs."""
    weights = [(p.data_ptr(), p.stride(), p.detach().clone().tolist()) for p in net.parameters()]
    return weights, [vars(module).get("forward") for module in net.modules()]


def is_faster(net):
    first, second = (module for module in net.modules() if type(module) is nn.Conv2d)
    return "forward" in vars(first) and second.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "first",
    [
        {},
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": (2, 3), "stride": (1, 2), "padding": (0, 2), "dilation": (2, 1), "bias": False},
        {"padding": 1, "padding_mode": "reflect"},
    ],
)
def test_values_and_gradients_stay(first):
    net = network(**first)
    before, expected = state(net), passed(net)
    with faster_convolutions(net, X):
        assert is_faster(net)
        for found, wanted in zip(passed(net), expected, strict=True):
            torch.testing.assert_close(found, wanted)
        with torch.no_grad():
            torch.testing.assert_close(net(X), expected[0])
    assert state(net) == before


def test_a_padding_that_has_a_name_and_many_channels_keep_pytorchs_gradient():
    for net in (network(padding="same"), nn.Sequential(nn.Conv2d(8, 2, 3), nn.Flatten()).requires_grad_(False)):
        x = torch.rand(2, net[0].in_channels, 9, 8)
        expected = passed(net, x)
        with faster_convolutions(net, x):
            assert "forward" not in vars(net[0])
            torch.testing.assert_close(passed(net, x), expected)


class Normalised(nn.Module):
    """Convolutions with a normalisation behind them: alone, of a fixed scale, of a group, and where it must stay."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.first_norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.grouped, self.grouped_norm = nn.Conv2d(6, 6, 3, stride=2, groups=3), nn.BatchNorm2d(6, affine=False)
        self.same, self.seen_twice, self.norm = (
            nn.Conv2d(6, 6, 3, padding="same"),
            nn.Conv2d(6, 6, 1),
            nn.BatchNorm2d(6),
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.1, 4)
                if module.affine:
                    nn.init.normal_(module.weight)
                    nn.init.normal_(module.bias)

    def forward(self, x):
        x = relu(self.first_norm(self.first(x)))
        x = self.same(relu(self.grouped_norm(self.grouped(x))))
        x = self.seen_twice(x)
        return (x + self.norm(x)).flatten(1)


def test_a_programs_normalisations_become_part_of_its_convolutions(tmp_path):
    net, x = Normalised().eval().requires_grad_(False), torch.rand(3, 1, 9, 9)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(net, (x,), dynamic_shapes=shapes), tmp_path / "net.pt2")
    program = load_program(tmp_path / "net.pt2", "net.pt2").eval()
    before, expected = state(program), passed(net, x)
    wrapped = nn.Sequential(program)
    with faster_convolutions(wrapped, x):
        rewritten = vars(program)["forward"].__self__
        functions = [node.target for node in rewritten.graph.nodes]
        assert functions.count(batch_norm) == 1  # what it is given is used elsewhere too
        assert functions.count(convolve_image) == 1
        for found, wanted in zip(passed(wrapped, x), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert state(program) == before
    for found, wanted in zip(passed(program, x), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_everything_is_put_back_after_an_error():
    net = network()
    before = state(net)
    with pytest.raises(KeyError), faster_convolutions(net, X):
        assert is_faster(net)
        raise KeyError
    assert state(net) == before


class Changed(nn.Module):
    """A network with its features changed between the convolutions and the last layer."""

    def __init__(self, change):
        super().__init__()
        self.net, self.change = network(), change

    def forward(self, x):
        return self.net[5](self.change(relu(self.net[2](relu(self.net[0](x))))))


def by_order(features):
    return features.flatten(1) * (2 if features.is_contiguous() else 1)


def at_random(features):
    return dropout(features.flatten(1), training=True)


@pytest.mark.parametrize("change", [lambda f: f.view(len(f), -1), by_order, at_random], ids=["view", "order", "random"])
def test_a_model_that_another_order_breaks_is_left_alone(change):
    net = Changed(change)
    before = state(net)
    with faster_convolutions(net, X):
        assert state(net) == before
    assert state(net) == before


def test_a_model_that_calls_a_convolution_in_its_own_way():
    class Own(nn.Module):
        """One image at a time, a convolution used twice, and a gradient taken inside."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(2)
            self.once, self.twice = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            features = torch.stack([self.once(image) for image in x])
            logits = self.twice(relu(self.twice(features))).flatten(2).mean(dim=2)
            with torch.enable_grad():
                leaf = x if x.requires_grad else x.detach().requires_grad_(True)
                (slope,) = torch.autograd.grad(self.once(leaf).sin().sum(), leaf, create_graph=True)
            return logits + slope.flatten(1).square().sum(dim=1, keepdim=True)

    net = Own().requires_grad_(False)
    before, expected = state(net), passed(net)
    with faster_convolutions(net, X):
        assert is_faster(net)
        torch.testing.assert_close(passed(net), expected)
    assert state(net) == before


def test_a_forward_of_the_users_own_is_kept():
    net = network()
    net[0].forward = lambda x: torch.zeros(len(x), 6, 7, 6) + 0 * x.sum()
    before = state(net)
    with faster_convolutions(net, X):
        assert state(net)[1] == before[1]
    assert state(net) == before


def test_the_engine_leaves_the_model_as_it_was_and_finds_the_same_with_a_view():
    plain, viewing = network(), Changed(lambda features: features.view(len(features), -1))
    before = state(plain)
    y = plain(X).argmax(dim=1)
    found = [robustness_curve(net, X, y, norm="l2").distances for net in (plain, viewing, copy.deepcopy(plain))]
    assert state(plain) == before
    assert np.isfinite(found[0]).all()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)
    np.testing.assert_array_equal(found[0], found[2])
