"""What callers bring: every common form gives the same curve, and what cannot be taken is refused in words."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import flags, robustness_curve
from benchmark.errors import BenchmarkError, InputError, UnsupportedModelError
from benchmark.inputs import prepared
from benchmark.twin import double_logits, has_gradient, is_randomised, twin_of

SHAPE, CLASSES = (1, 3, 3), 3


def linear() -> nn.Module:
    """Logits ``W x + b``, whose linf distances are known: margin ÷ l1 norm of the rows' difference."""
    torch.manual_seed(0)
    layer = nn.Linear(9, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(CLASSES, 9))
        layer.bias.copy_(-layer.weight.sum(1) / 2)  # all classes are equal at mid-grey
    return nn.Sequential(nn.Flatten(), layer).eval()


NET = linear()
X = 0.3 + 0.4 * torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    Y = NET(X).argmax(1)


def exact() -> np.ndarray:
    w, b = NET[1].weight.detach().double(), NET[1].bias.detach().double()
    logits = X.double().flatten(1) @ w.T + b
    found = []
    for row, y in zip(logits.tolist(), Y.tolist(), strict=True):
        found.append(min((row[y] - row[j]) / float((w[y] - w[j]).abs().sum()) for j in range(CLASSES) if j != y))
    return np.array(found)


def curve(model=NET, x=X, y=Y, *, attack="hein"):
    """By one linearisation, which is exact here; by the engine where that matters."""
    return robustness_curve(model, x, y, norm="linf", attack=attack)


class Wrapped(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.net, self.change = NET, change

    def forward(self, x):
        return self.change(self.net(x))


class InPlace(nn.Module):
    """Subtracts and adds back in the caller's tensor: what it computes is the net's own, once."""

    def forward(self, x):
        return NET(x.sub_(0.0625).add(0.0625))


def inference_tensor():
    with torch.inference_mode():
        return X + 0


def double_net():
    return linear().double()


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what people have
    SCRIPT = torch.jit.script(NET)
    FROZEN = torch.jit.freeze(torch.jit.script(NET))


def function(x):
    return NET(x)


MODELS = {
    "a plain function": function,
    "a TorchScript module": SCRIPT,
    "a frozen TorchScript module": FROZEN,
    "an object with logits": Wrapped(lambda z: SimpleNamespace(logits=z)),
    "a dictionary with logits": Wrapped(lambda z: {"loss": None, "logits": z}),
    "a tuple of one": Wrapped(lambda z: (z,)),
    "one that changes its input": InPlace(),
    "one of float64": double_net(),
    "one in train mode": linear().train(),
}

DATA = {
    "arrays": (X.numpy(), Y.numpy()),
    "lists": (X.tolist(), Y.tolist()),
    "a list of tensors": (list(X), list(Y)),
    "float64 images": (X.double(), Y),
    "int32 labels": (X, Y.to(torch.int32)),
    "uint8 labels": (X, Y.numpy().astype(np.uint8)),
    "images that ask for a gradient": (X.clone().requires_grad_(), Y),
    "inference-mode images": (inference_tensor(), Y),
    "images channels last": (X.contiguous(memory_format=torch.channels_last), Y),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_form_of_a_model_gives_the_exact_distances(model):
    x = X.clone()
    found = curve(model, x)
    np.testing.assert_allclose(found.distances, exact(), rtol=2e-3)
    assert torch.equal(x, X)


@pytest.mark.parametrize(("x", "y"), DATA.values(), ids=DATA)
def test_every_form_of_data_gives_the_exact_distances(x, y):
    np.testing.assert_allclose(curve(NET, x, y).distances, exact(), rtol=2e-3)


def test_the_callers_modes_are_put_back_and_have_no_effect():
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_allclose(curve().distances, exact(), rtol=2e-3)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        np.testing.assert_allclose(curve().distances, exact(), rtol=2e-3)
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((255 * X).to(torch.uint8), Y, r"uint8 with values from \d+ to \d+. Scale images to \[0, 1\]"),
        (255 * X, Y, "outside"),
        (None, Y, "no images"),
        (X[0], Y, r"\(n, c, h, w\)"),
        (X[:0], Y[:0], "at least one"),
        ([[0.1, 0.2], [0.3]], Y, "no array of numbers"),
        (X.to(torch.complex64), Y, "real numbers"),
        (torch.where(X > 0.6, torch.nan, X), Y, "outside"),
        (X, None, "no labels"),
        (X, Y.float(), "float32.*int64"),
        (X, nn.functional.one_hot(Y, CLASSES).float(), "argmax"),
        (X, Y[:3], r"shape \(3,\)"),
        (X, Y[:, None], r"shape \(8, 1\)"),
        (X, torch.tensor([1, 2, 3, 1, 2, 3, 1, 2]), "subtract 1"),
        (X, Y + 7, "has 3 outputs, 0 to 2"),
        (X, Y - 1, "has 3 outputs, 0 to 2"),
        (X, ["a"] * 8, "no array of numbers"),
    ],
)
def test_data_that_cannot_be_taken_is_named(x, y, message):
    with pytest.raises(InputError, match=message):
        curve(NET, x, y)


def in_inference_mode():
    with torch.inference_mode():
        return nn.Sequential(nn.Flatten(), nn.Linear(9, CLASSES))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Wrapped(lambda z: (z, z)), "tuple of 2"),
        (Wrapped(lambda z: {"scores": z}), "keys scores"),
        (Wrapped(lambda z: z[:, :1]), "1 output"),
        (Wrapped(lambda z: z[:, 0]), r"shape \(4,\)"),
        (Wrapped(lambda z: z.argmax(1)), "int64"),
        (Wrapped(lambda z: 1 / 0), "ZeroDivisionError"),
        (Wrapped(lambda z: z - 0.1 * z.mean(0)), "other images of its batch"),
        (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), NET), "other images of its batch"),
        (Wrapped(lambda z: z.flip(0)), "other images of its batch"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), NET), "RuntimeError"),
        (nn.ReLU, "torch module"),
        ("resnet18", "torch module"),
        (in_inference_mode(), "inference_mode"),
    ],
)
def test_a_model_that_cannot_be_taken_is_named(model, message):
    with pytest.raises(UnsupportedModelError, match=message):
        curve(model)


def test_an_unknown_effort_and_norm_are_named():
    with pytest.raises(InputError, match="effort 'fast'"):
        robustness_curve(NET, X, Y, norm="linf", effort="fast")
    with pytest.raises(BenchmarkError, match="no norm called 'l3'"):
        robustness_curve(NET, X, Y, norm="l3")


def test_labels_may_be_left_out_where_predictions_do():
    with prepared(NET, X, None, labels_needed=False) as given:
        assert torch.equal(given.y, Y)
        assert given.model is NET
        assert given.classes == CLASSES


# models without gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [lambda x: NET(x.detach()), lambda x: NET((x * 64).round() / 64 + 0 * x.detach()), lambda x: NET(x).detach()],
)
def test_without_a_gradient_the_curve_comes_from_random_search_and_says_so(model):
    found = robustness_curve(model, X, Y, norm="linf", effort="quick")
    assert "no-gradients" in [flag.code for flag in found.flags] or has_gradient(model, X)
    assert (found.distances >= exact() * (1 - 0.2)).all()
    assert (found.distances <= exact() * 2 + 1 / 64).all()


# twins and flags ------------------------------------------------------------------------------------------------------


def test_a_twin_computes_in_float64_and_follows_the_weights():
    net = linear()
    logits = double_logits(twin_of(net), X)
    truth = X.double().flatten(1) @ net[1].weight.detach().double().T + net[1].bias.detach().double()
    torch.testing.assert_close(logits, truth, rtol=1e-14, atol=1e-14)
    assert twin_of(net) is twin_of(net)
    with torch.no_grad():
        net[1].weight.mul_(2)
    torch.testing.assert_close(
        double_logits(twin_of(net), X), 2 * truth - net[1].bias.detach().double(), rtol=1e-14, atol=1e-14
    )
    assert net[1].weight.dtype == torch.float32


def test_what_stays_in_float32_has_no_twin():
    assert double_logits(twin_of(Wrapped(lambda z: z.float())), X) is None
    assert double_logits(twin_of(nn.Sequential(NET, nn.Identity())), X) is not None


def test_one_rule_decides_what_is_randomised_and_what_are_probabilities():
    assert is_randomised(Wrapped(lambda z: z + 3e-4 * torch.randn_like(z)), X)
    masked = Wrapped(lambda z: torch.cat([z + 3e-4 * torch.randn_like(z), torch.full_like(z[:, :1], -1e9)], 1))
    assert is_randomised(masked, X)
    assert not is_randomised(NET, X)
    with torch.no_grad():
        assert flags.are_probabilities(NET(X).softmax(1))
        assert not flags.are_probabilities(NET(X))
    assert not flags.are_probabilities(torch.tensor([[1.5, -0.5]]))


@pytest.mark.parametrize("measure", ["clean", "conformance", "autoattack", "curve"])
@pytest.mark.parametrize(
    ("change", "code"),
    [(lambda z: z.softmax(1), "softmax-outputs"), (lambda z: z + 0.1 * torch.randn_like(z), "randomised")],
)
def test_every_measure_gives_one_thing_one_code(measure, change, code):
    from benchmark.measures import Task, get_measure

    chosen = get_measure(measure)
    parameters = chosen.Parameters(**{"autoattack": {"eps": 1e-4}, "curve": {"effort": "quick"}}.get(measure, {}))
    model = Wrapped(change).eval()
    result = chosen.run(Task(model=model, module=model, x=X, y=Y), parameters)
    known = {"softmax-outputs", "randomised"}
    assert known & {flag.code for flag in result.flags} == {code}
