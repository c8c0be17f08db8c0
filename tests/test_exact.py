"""The exact solver: equal to closed forms and to brute force, between certificate and attack on trained nets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.certificates import certificate
from benchmark.certificates.exact import ExactNorm, exact
from benchmark.counting import CountingModel
from benchmark.data import get_dataset
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.library import robustness_curve
from benchmark.measures import Inputs, Task, get_measure
from benchmark.measures.exact import ExactParameters
from benchmark.threat import norms_of
from benchmark.verification import verify
from models_zoo import load_model

EXACT_NORMS: tuple[ExactNorm, ...] = ("linf", "l1")


def digits(n: int) -> tuple[Tensor, Tensor]:
    return get_dataset("digits").load(n)


def linear_in_box(w: Tensor, b: float, x: Tensor, norm: ExactNorm) -> float:
    """Distance of ``x`` from ``w x' + b <= 0`` within the box, by following the cheapest path in small steps."""
    value, room = float(w @ x + b), torch.where(w > 0, x, 1 - x)
    if norm == "l1":
        spent = 0.0
        for i in w.abs().argsort(descending=True).tolist():
            gain = float(w[i].abs() * room[i])
            if gain >= value:
                return spent + value / float(w[i].abs())
            value, spent = value - gain, spent + float(room[i])
        return float("inf")
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float((w.abs() * room.clamp(max=middle)).sum()) < value else (low, middle)
    return high


@pytest.mark.parametrize("norm", EXACT_NORMS)
def test_on_a_linear_model_it_is_the_distance_to_the_hyperplane_within_the_box(norm: ExactNorm) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    x = (torch.rand(12, 1, 3, 4) * 1.6 - 0.3).clamp(0, 1)
    y = model(x).argmax(dim=1)
    w, b = model[1].weight.detach().double(), model[1].bias.detach().double()
    found = exact(model, x, y, norm=norm)
    free = 0
    for i in range(len(x)):
        c = int(y[i])
        truth = linear_in_box(w[c] - w[1 - c], float(b[c] - b[1 - c]), x[i].flatten().double(), norm)
        if truth > 1:  # for linf the box holds no adversarial example beyond 1
            assert norm == "l1" or not np.isfinite(float(found.upper[i]))
        assert float(found.upper[i]) == pytest.approx(truth, rel=1e-4, abs=1e-5)
        assert float(found.lower[i]) == pytest.approx(truth, rel=1e-4, abs=1e-5)
        dual = norms_of((w[c] - w[1 - c])[None], "l1" if norm == "linf" else "linf")
        free += truth > float((w[c] - w[1 - c]) @ x[i].flatten().double() + b[c] - b[1 - c]) / float(dual) * 1.0001
    assert found.solved.all()
    assert free >= 3  # on some images the box binds, so that the closed form without it would be too small


@pytest.mark.parametrize("norm", EXACT_NORMS)
@pytest.mark.parametrize("seed", range(4))
def test_on_two_pixels_it_is_what_a_fine_grid_finds(seed: int, norm: ExactNorm) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    for layer in (model[1], model[3], model[5]):
        layer.weight.data.mul_(2.5)
        layer.bias.data.mul_(1.5)
    x = torch.rand(5, 1, 1, 2)
    y = model(x).argmax(dim=1)
    found = exact(model, x, y, norm=norm)
    ticks = torch.linspace(0, 1, 1001)
    grid = torch.cartesian_prod(ticks, ticks).view(-1, 1, 1, 2)
    classes = model(grid).argmax(dim=1)
    for i in range(len(x)):
        other = grid[classes != y[i]]
        brute = float(norms_of(other - x[i], norm).min()) if len(other) else float("inf")
        assert float(found.lower[i]) <= brute + 1e-6
        assert float(found.upper[i]) == pytest.approx(brute, abs=2e-3)


@pytest.mark.parametrize("norm", EXACT_NORMS)
def test_certificate_exact_attack_in_this_order_on_digits(norm: ExactNorm) -> None:
    model = load_model("digits-16-16")
    x, y = digits(12)
    curve = robustness_curve(model, x, y, norm=norm, effort="quick")
    attacked = torch.tensor(curve.distances)
    found = exact(model, x, y, norm=norm, within=attacked, time_limit=60)
    certified = certificate(model, x, y, norm=norm, method="crown")
    correct = verify(model, x, y, x).correct
    assert found.solved.all()
    assert (certified <= found.lower * (1 + 1e-4) + 1e-5).all()
    assert (found.lower <= found.upper).all()
    assert (found.upper <= attacked * (1 + 1e-4) + 1e-5).all()
    assert (found.upper[correct] - found.lower[correct] <= 1e-4 * found.upper[correct] + 1e-5).all()
    verdict = verify(model, x, y, found.adversarials)
    assert torch.equal(verdict.distances[norm], found.upper)


def test_a_convolution_and_a_residual_connection_are_solved_too() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.BatchNorm2d(2)
            self.skip, self.head = nn.Conv2d(2, 2, 1), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.norm(self.conv((x - 0.5) / 0.25)))
            return self.head((h + torch.relu(self.skip(h))).flatten(1))

    torch.manual_seed(3)
    model = Net().eval()
    x = torch.rand(40, 1, 4, 4)
    y = model(x).argmax(dim=1)
    x, y, pool = x[:4], y[:4], x
    attacked = torch.tensor(robustness_curve(model, x, y, norm="linf", effort="quick", pool=pool).distances)
    found = exact(model, x, y, norm="linf")
    assert found.solved.all()
    assert (certificate(model, x, y, norm="linf") <= found.lower + 1e-5).all()
    assert (found.upper <= attacked + 1e-5).all()


def test_a_time_out_gives_the_two_bounds_reached() -> None:
    model = load_model("digits-16-16")
    x, y = digits(2)
    found = exact(model, x, y, norm="linf", time_limit=1e-6)
    assert not found.solved.any()
    torch.testing.assert_close(found.lower, certificate(model, x, y, norm="linf"))
    assert (found.upper == torch.inf).all()


def test_misclassified_images_have_distance_0() -> None:
    model = load_model("digits-16-16")
    x, _ = digits(3)
    found = exact(model, x, (model(x).argmax(dim=1) + 1) % 10, norm="l1")
    assert found.lower.tolist() == found.upper.tolist() == [0, 0, 0]
    assert found.solved.all()


def test_refusals_name_what_is_wrong() -> None:
    x, y = torch.rand(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Softplus(), nn.Linear(4, 2))
    with pytest.raises(UnsupportedModelError, match="softplus"):
        exact(net, x, y, norm="linf")
    with pytest.raises(UnsupportedModelError, match="max pooling"):
        exact(nn.Sequential(nn.MaxPool2d(2), nn.Flatten()), x, y, norm="linf")
    with pytest.raises(InputError, match="linf and l1, not in 'l2'"):
        exact(net, x, y, norm="l2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="time limit is 0"):
        exact(net, x, y, norm="l1", time_limit=0)


def test_the_measure_refuses_a_network_before_it_attacks_it() -> None:
    x, y = digits(2)
    for layers in ([nn.Linear(64, 10), nn.Softplus()], [nn.Linear(64, 65), nn.ReLU(), nn.Linear(65, 10)]):
        module = nn.Sequential(nn.Flatten(), *layers).eval()
        model = CountingModel(module)
        with pytest.raises(UnsupportedModelError, match=r"this has softplus|has 65 ReLUs"):
            get_measure("exact").run(Task(model, module, x, y), ExactParameters())
        assert model.forward_passes == 0


def test_the_measure_starts_from_the_ledger_and_attacks_where_it_is_silent() -> None:
    model = load_model("digits-16-16")
    x, y = digits(3)
    measure = get_measure("exact")
    alone = measure.run(Task(model, model, x, y), ExactParameters())
    ledger = np.array([np.inf, *alone.arrays["upper"][1:]])
    again = measure.run(Task(model, model, x, y, distances={"linf": ledger}), ExactParameters())
    np.testing.assert_allclose(again.arrays["upper"], alone.arrays["upper"], rtol=1e-4)
    assert alone.adversarials is not None
    np.testing.assert_array_equal(verify(model, x, y, alone.adversarials).distances["linf"], alone.arrays["upper"])
    assert measure.samples(ExactParameters(samples=100), 500) == 100
    assert measure.samples(ExactParameters(samples=100), 40) == 40
    assert {s.name: s.value for s in measure.summarise(Inputs(alone.arrays, y.numpy()), ExactParameters())}[
        "solved"
    ] == 1.0
