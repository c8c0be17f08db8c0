"""All certificates: exact on linear models, never above a distance an attack reaches, refusals by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.attacks import get_attack, run_attack
from benchmark.certificates import METHODS, certificate, trace
from benchmark.certificates.cross_lipschitz import GradientBounds, _bounds_of_network, _HiddenLayer
from benchmark.certificates.crown import TOLERANCE
from benchmark.certificates.gaussian_kernel import KernelClassifier, _bounds, _Pairs
from benchmark.certificates.linear_region import hull_radius, linear_region, linear_region_all_norms
from benchmark.certificates.rows import margin_rows
from benchmark.data import get_dataset
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.library import robustness_curve
from benchmark.measures import Inputs, Task, get_measure
from benchmark.measures.certificate import CertificateParameters
from benchmark.threat import Norm, dual, norms_of
from benchmark.verification import verify
from models_zoo import load_model, preprocessing
from models_zoo.architectures import build, gaussian_kernel

NORMS = ("linf", "l2", "l1")

SHARP = ("crown", "cross-lipschitz", "linear-region", "best")
"""Methods that are exact on linear models; interval bounds are too, up to the tolerance of their bisection."""


def linear_model() -> tuple[nn.Module, Tensor, Tensor]:
    """Logits of a linear model, and images so far inside the box that it does not bind."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 4))
    x = torch.rand(40, 1, 4, 5) * 0.02 + 0.49
    model[1].bias.data -= model(x).mean(dim=0)  # so that every class occurs, and boundaries are near
    y = model(x).argmax(dim=1)
    y[::10] = (y[::10] + 1) % 4  # some misclassified
    return model, x, y


def closed_form(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    w, b = model[1].weight.detach().double(), model[1].bias.detach().double()
    logits = x.flatten(1).double() @ w.T + b
    gaps = logits.gather(1, y[:, None]) - logits
    lengths = torch.stack([norms_of(w[c] - w, dual(norm)) for c in y.tolist()])
    away = torch.where(lengths > 0, gaps / lengths.clamp(min=1e-30), torch.inf)
    return away.amin(dim=1).clamp(min=0)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", [*METHODS, "best"])
def test_on_a_linear_model_it_is_the_distance_to_the_hyperplane(method: str, norm: Norm) -> None:
    model, x, y = linear_model()
    truth = closed_form(model, x, y, norm)
    assert (truth[::10] == 0).all()
    assert (truth > 0).sum() > 30
    found = certificate(model, x, y, norm=norm, method=method)
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-6)
    assert (found <= truth).all()


@pytest.mark.parametrize("norm", NORMS)
def test_the_box_lengthens_the_distance_and_the_certificate_follows(norm: Norm) -> None:
    """At a corner of the box half of the directions are closed; the certificate is the distance in the others."""
    model, x, y = linear_model()
    corner = x.round()
    y = model(corner).argmax(dim=1)
    found = certificate(model, corner, y, norm=norm, method="crown")
    free = closed_form(model, corner, y, norm)
    assert (found >= free * (1 - 1e-6)).all()
    assert (found > 1.05 * free).any()
    nearest = robustness_curve(model, corner, y, norm=norm, effort="quick", pool=torch.rand(50, 1, 4, 5)).distances
    assert (found.numpy() <= nearest).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "slug", ["digits-16-16", "digits-16-16-adv-linf", "digits-softplus", "digits-conv", "digits-cross-lipschitz"]
)
def test_no_certificate_is_above_a_distance_that_an_attack_reaches(slug: str, norm: Norm) -> None:
    model = load_model(slug)
    x, y = get_dataset("digits").load(24)
    attacked = robustness_curve(model, x, y, norm=norm, effort="quick").distances
    applied = []
    for method in METHODS:
        try:
            radius = certificate(model, x, y, norm=norm, method=method).numpy()
        except UnsupportedModelError:
            continue
        applied.append(method)
        assert (radius <= attacked).all(), f"{method} certifies more than an attack's distance"
        assert ((radius > 0) == (attacked > 0)).all()
    assert {"crown", "ibp"} <= set(applied)
    best = certificate(model, x, y, norm=norm, method="best").numpy()
    assert (best <= attacked).all()


def hidden_layer(activation: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 9), activation, nn.Linear(9, 3))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Softplus(beta=4)])
def test_gradients_in_a_ball_stay_within_the_cross_lipschitz_bounds(activation: nn.Module, norm: Norm) -> None:
    net = hidden_layer(activation)
    x = torch.rand(1, 1, 3, 4)
    graph = trace(net, x)
    rows = margin_rows(torch.tensor([1]), 3)
    bounds = _bounds_of_network(_HiddenLayer.of(graph, x), x.double(), rows, norm)
    _check_gradients(bounds, lambda p: torch.einsum("jk,nk->nj", rows[0], graph.logits(p)), x.double(), norm)


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_in_a_ball_stay_within_the_kernel_bounds(norm: Norm) -> None:
    torch.manual_seed(1)
    net = kernel_classifier()
    x = torch.rand(1, 1, 3, 4).double()
    classifier = KernelClassifier.of(net)
    assert classifier is not None
    rows = margin_rows(torch.tensor([1]), 3)[0]
    bounds = _bounds(classifier, _Pairs.of(classifier), x, rows @ classifier.weight, norm)
    _check_gradients(bounds, lambda p: classifier.logits(p) @ rows.T, x, norm)


def _check_gradients(
    bounds: Callable[[Tensor], GradientBounds], margins: Callable[[Tensor], Tensor], x: Tensor, norm: Norm
) -> None:
    generator = torch.Generator().manual_seed(4)
    for radius in (0.01, 0.1, 0.4):
        size = radius * (1 if norm == "linf" else 2)
        delta = torch.randn(200, *x.shape[1:], generator=generator, dtype=torch.float64)
        delta = delta * (size / norms_of(delta, norm)).view(-1, 1, 1, 1)
        points = (x + delta).clamp(0, 1).requires_grad_(True)
        found = bounds(torch.full((len(x),), size, dtype=torch.float64))
        for j in range(2):
            (gradient,) = torch.autograd.grad(margins(points)[:, j].sum(), points)
            flat = gradient.flatten(1)
            assert (flat <= found.upper[0, j] + 1e-9).all()
            assert (flat >= found.lower[0, j] - 1e-9).all()
            if found.length is not None and norm != "linf":
                assert (flat.square().sum(dim=1).sqrt() <= found.length[0, j] + 1e-9).all()


def kernel_classifier() -> nn.Module:
    net = gaussian_kernel.build(inputs=12, centres=15, outputs=3, gamma=0.8)
    net.weight.data = torch.randn(3, 15)
    return net


@pytest.mark.parametrize("norm", NORMS)
def test_a_kernel_classifier_is_certified_below_what_an_attack_reaches(norm: Norm) -> None:
    torch.manual_seed(2)
    net = kernel_classifier().eval()
    x = torch.rand(12, 1, 3, 4)
    y = net(x).argmax(dim=1)
    radius = certificate(net, x, y, norm=norm, method="best").numpy()
    assert (radius > 0).all()
    attacked = robustness_curve(net, x, y, norm=norm, effort="quick", pool=torch.rand(200, 1, 3, 4)).distances
    assert (radius <= attacked).all()
    assert np.median(radius / attacked) > 0.1
    with pytest.raises(UnsupportedModelError, match="not crown"):
        certificate(net, x, y, norm=norm, method="crown")


@pytest.mark.parametrize("norm", NORMS)
def test_the_zoos_kernel_classifier_has_a_row(norm: Norm) -> None:
    """What the standard protocol asks for, "auto", is for kernels the one certificate that they have."""
    model = load_model("digits-gaussian-kernel")
    x, y = get_dataset("digits").load(10)
    radius = certificate(model, x, y, norm=norm, method="auto")
    assert torch.equal(radius, certificate(model, x, y, norm=norm, method="cross-lipschitz"))
    assert ((radius > 0) == (model(x).argmax(dim=1) == y)).all()
    assert (radius.numpy() <= robustness_curve(model, x, y, norm=norm, effort="quick").distances).all()


def test_a_module_that_only_looks_like_a_kernel_classifier_is_refused() -> None:
    class Impostor(gaussian_kernel.GaussianKernelClassifier):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 3

    net = Impostor(inputs=12, centres=4, outputs=3, gamma=1.0)
    net.weight.data.normal_()
    with pytest.raises(UnsupportedModelError, match="not its logits"):
        certificate(net, torch.rand(2, 1, 3, 4), torch.tensor([0, 1]), norm="l2", method="cross-lipschitz")


@pytest.mark.parametrize("norm", NORMS)
def test_the_linear_region_is_where_the_activations_do_not_change(norm: Norm) -> None:
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 3)
    )
    x = torch.rand(10, 1, 3, 4)
    graph = trace(net, x)
    y = graph.logits(x).argmax(dim=1)
    radius = linear_region(graph, x, y, norm=norm)
    assert (radius > 0).all()

    def patterns(points: Tensor) -> list[Tensor]:
        return [graph.values(points)[graph.nodes[i].inputs[0]] > 0 for i in graph.nonlinear()]

    delta = torch.randn(200, 10, 1, 3, 4, dtype=torch.float64)
    for k in range(200):
        scaled = delta[k] * (0.9999 * radius / norms_of(delta[k], norm)).view(-1, 1, 1, 1)
        points = (x.double() + scaled).clamp(0, 1)
        assert all(torch.equal(a, b) for a, b in zip(patterns(points), patterns(x), strict=True))
        assert torch.equal(graph.logits(points).argmax(dim=1), y)


@pytest.mark.parametrize("norm", NORMS)
def test_the_all_norm_form_is_between_nothing_and_the_direct_form(norm: Norm) -> None:
    model = load_model("digits-16-16")
    x, y = get_dataset("digits").load(30)
    graph = trace(model, x)
    direct = linear_region(graph, x, y, norm=norm)
    hull = linear_region_all_norms(graph, x, y, norm=norm)
    assert (hull <= direct * (1 + 1e-9)).all()
    rho_inf = linear_region_all_norms(graph, x, y, norm="linf")
    if norm == "l2":  # beyond what the linf ball alone gives
        assert (hull[hull > 0] > rho_inf[hull > 0]).all()


def test_the_hull_radius_is_that_of_the_largest_ball_inside() -> None:
    """Against the support function: the hull's width in direction v is the larger of the two balls' widths."""
    torch.manual_seed(5)
    rho_1, rho_inf = torch.tensor([2.3], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    directions = torch.randn(300_000, 4, dtype=torch.float64) * torch.rand(300_000, 4).pow(3)
    directions /= directions.norm(dim=1, keepdim=True)
    width = torch.maximum(rho_1 * directions.abs().amax(dim=1), rho_inf * directions.abs().sum(dim=1))
    radius = hull_radius(rho_1, rho_inf, "l2")
    assert float(radius) <= float(width.min())
    assert float(radius) == pytest.approx(float(width.min()), rel=0.01)


@pytest.mark.parametrize("norm", NORMS)
def test_heins_attack_finds_the_hyperplane_of_a_linear_model_within_the_box(norm: Norm) -> None:
    model, x, _ = linear_model()
    y = model(x).argmax(dim=1)
    claimed = run_attack(get_attack("hein"), model, x, y, norm=norm)
    verdict = verify(model, x, y, claimed.adversarials)
    assert verdict.holds.all()
    truth = closed_form(model, x, y, norm)
    np.testing.assert_allclose(verdict.distances[norm], truth, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_heins_attack_ends_between_certificate_and_box(norm: Norm) -> None:
    model = load_model("digits-16-16")
    x, y = get_dataset("digits").load(40)
    verdict = verify(
        model, x, y, get_attack("hein").run(model, x, y, norm=norm, effort="standard", seed=0, pool=None).adversarials
    )
    radius = certificate(model, x, y, norm=norm, method="best")
    assert (radius <= verdict.distances[norm]).all()
    assert verdict.holds.double().mean() > 0.85 * verdict.correct.double().mean()
    one = verify(
        model, x, y, get_attack("hein").run(model, x, y, norm=norm, effort="quick", seed=0, pool=None).adversarials
    )
    assert (verdict.distances[norm] <= one.distances[norm]).all()


class Tanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x.flatten(1))


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) + torch.randn(1)


class Attention(nn.Module):
    """Its rows attend to one another; the operator could draw numbers (dropout), and does not."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x).flatten(1)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) * x.flatten(1)


class Softmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.softmax(x.flatten(1), dim=1)


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "a function": (Tanh(), "operation tanh of Tanh"),
    "a module": (nn.Sequential(nn.Flatten(), nn.LayerNorm(16)), "operation layer_norm of LayerNorm"),
    "a product": (Product(), "operation mul of Product"),
    "probabilities": (Softmax(), "operation softmax of Softmax"),
    "randomness": (Random(), "of Random is random.*randn"),
    "attention": (Attention(), "operation .* of Attention is not supported"),
    "control flow": (Branch(), "Branch cannot be traced: it reads a value"),
    "statistics of the batch": (
        nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten()), "operation batch_norm",
    ),
    "a transformation": (
        nn.Sequential(preprocessing.build([{"kind": "bit_depth", "bits": 3}]), nn.Flatten()),
        "BitDepth cannot be traced",
    ),
    "a transformation that leaves torch": (
        nn.Sequential(preprocessing.build([{"kind": "jpeg"}]), nn.Flatten()), "Jpeg cannot be traced",
    ),
    "images as output": (nn.Sequential(nn.ReLU()), "logits are"),
    "one logit": (nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), r"one logit an image.*\(-s, s\)"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_an_operation_that_is_not_supported_is_refused_by_name(why: str) -> None:
    module, message = REFUSED[why]
    with pytest.raises(UnsupportedModelError, match=message):
        certificate(module, torch.rand(2, 1, 4, 4), torch.tensor([0, 1]), norm="linf")


def test_a_method_that_does_not_apply_says_so() -> None:
    x, y = get_dataset("digits").load(2)
    with pytest.raises(UnsupportedModelError, match="one hidden layer; this network has 2"):
        certificate(load_model("digits-16-16"), x, y, norm="l2", method="cross-lipschitz")
    with pytest.raises(UnsupportedModelError, match="this one has softplus"):
        certificate(load_model("digits-softplus"), x, y, norm="l2", method="linear-region")


@pytest.mark.parametrize("wrong", [{"norm": "l3"}, {"method": "crwon"}])
def test_an_unknown_norm_or_method_is_an_error_that_lists_the_known(wrong: dict[str, Any]) -> None:
    x, y = torch.rand(1, 1, 4, 4), torch.tensor([0])
    with pytest.raises(InputError, match=r"linf, l2, l1|crown, ibp"):
        certificate(nn.Flatten(), x, y, **{"norm": "linf", **wrong})


def test_the_measure_reports_radii_that_are_0_where_misclassified() -> None:
    model = load_model("digits-16-16")
    x, y = get_dataset("digits").load(30)
    y[0] = (model(x)[0].argmax() + 1) % 10
    measure = get_measure("certificate")
    for method in ("auto", "crown", "best"):
        parameters = CertificateParameters(norm="l2", method=method)  # type: ignore[arg-type]
        radius = measure.run(Task(model, model, x, y), parameters).arrays["radius"]
        assert radius.dtype == np.float64
        assert radius[0] == 0
        correct = verify(model, x, y, x).correct.numpy()
        assert ((radius > 0) == correct).all()
        scores = {s.name: s.value for s in measure.summarise(Inputs({"radius": radius}, y.numpy()), parameters)}
        assert scores["mean_radius"] == pytest.approx(radius.mean())


@pytest.mark.parametrize("norm", NORMS)
def test_the_size_of_a_batch_does_not_matter(norm: Norm) -> None:
    model = load_model("digits-conv")
    x, y = get_dataset("digits").load(6)
    whole = certificate(model, x, y, norm=norm, method="crown")
    alone = torch.cat([certificate(model, x[i : i + 1], y[i : i + 1], norm=norm, method="crown") for i in range(6)])
    torch.testing.assert_close(whole, alone, rtol=TOLERANCE, atol=0)


@pytest.mark.parametrize("method", ["crown", "ibp", "auto"])
def test_a_network_of_imagenets_size_is_refused_by_its_size_at_once(method: str) -> None:
    """A ResNet at 224 × 224: CROWN had not ended after four minutes, interval bounds failed to allocate after six."""
    network = build("resnet_cifar", {"depth": 20, "width": 64, "classes": 1000}).eval()
    x = torch.rand(1, 3, 224, 224)
    with pytest.raises(UnsupportedModelError, match=r"too large for the certificate (crown|ibp): .* multiplications"):
        certificate(network, x, torch.zeros(1, dtype=torch.int64), norm="linf", method=method)


def test_less_work_may_be_allowed_than_a_method_would_do() -> None:
    model = load_model("digits-conv")
    x, y = get_dataset("digits").load(2)
    measure = get_measure("certificate")
    task = Task(model, model, x, y)
    with pytest.raises(
        UnsupportedModelError, match=r"too large for the certificate crown: .* at most 1\.0e\+04 are spent"
    ):
        measure.run(task, measure.Parameters(norm="linf", most_work=1e4))
    allowed = measure.run(task, measure.Parameters(norm="linf", most_work=1e12)).arrays["radius"]
    assert np.array_equal(allowed, measure.run(task, measure.Parameters(norm="linf")).arrays["radius"])
    with pytest.raises(InputError, match="got most_work=0"):
        measure.Parameters(most_work=0)
