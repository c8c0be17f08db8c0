"""The conformance report: every kind of unusual model is named, and a sound one passes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.conformance import Report, check_conformance, looked_at
from benchmark.data import get_dataset
from benchmark.errors import InputError
from benchmark.measures import Inputs, Task, get_measure
from models_zoo import load_model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return get_dataset("digits").load(200)[0]


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return get_dataset("digits").load(200)[1]


@pytest.fixture(scope="module")
def sound() -> nn.Module:
    return load_model("digits-adv-l2")


class Changed(nn.Module):
    """A sound model with something done to it."""

    def __init__(self, model: nn.Module, forward: Callable[[nn.Module, Tensor], object]) -> None:
        super().__init__()
        self.model, self.change = model, forward

    def forward(self, x: Tensor) -> object:
        return self.change(self.model, x)


class Noisy(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) + 0.1 * torch.randn(len(x), 10)


def optimising(model: nn.Module, x: Tensor) -> Tensor:
    """Purifies its input by a gradient step first."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return model(x + 0.0 * gradient)


def optimising_by_backward(model: nn.Module, x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_()
        model(leaf).logsumexp(1).sum().backward()
    return model(x)


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def test_a_sound_model_passes_every_check(sound: nn.Module, images: Tensor, labels: Tensor) -> None:
    report = check_conformance(sound, images, labels, classes=10, claimed_accuracy=0.92)
    assert report.verdict == "pass"
    names = (
        "parameters size input_shape classes seconds inner_optimisation finite_outputs flops input_unchanged "
        "extreme_inputs logits deterministic batch_independent input_gradients accuracy input_range claimed_accuracy"
    )
    assert verdicts(report) == dict.fromkeys(names.split(), "pass")
    assert all(check.message for check in report.checks)


@pytest.mark.parametrize(
    ("change", "name", "verdict"),
    [
        pytest.param(lambda m, x: m(x).softmax(1), "logits", "flag", id="softmax"),
        pytest.param(lambda m, x: m(x) * torch.nan, "finite_outputs", "refuse", id="nan"),
        pytest.param(lambda m, x: m(x)[:, :9], "classes", "refuse", id="nine classes"),
        pytest.param(lambda m, x: m(x).argmax(1), "classes", "refuse", id="labels"),
        pytest.param(lambda m, x: m(x).long(), "classes", "refuse", id="integers"),
        pytest.param(lambda m, x: (m(x), x), "input_shape", "refuse", id="a tuple"),
        pytest.param(lambda m, x: m(x[:, :, :4]), "input_shape", "refuse", id="another size"),
        pytest.param(lambda m, x: m(x - x.mean(0)), "batch_independent", "refuse", id="batch statistics"),
        pytest.param(lambda m, x: m(x.flip(0)), "batch_independent", "refuse", id="rows exchanged"),
        pytest.param(lambda m, x: m(x).detach(), "input_gradients", "flag", id="no gradient"),
        pytest.param(lambda m, x: m(x.round() + 0 * x), "input_gradients", "flag", id="zero gradient"),
        pytest.param(
            lambda m, x: m(x) + 0 * (x.amax() - 1).sqrt().sum(), "input_gradients", "refuse", id="nan gradient"
        ),
        pytest.param(lambda m, x: m(x / x.amax((1, 2, 3), keepdim=True)), "extreme_inputs", "flag", id="black is nan"),
        pytest.param(lambda m, x: m(x / 255), "input_range", "flag", id="forgotten scale"),
        pytest.param(lambda m, x: m(x).roll(1, dims=1), "accuracy", "flag", id="classes in another order"),
        pytest.param(optimising, "inner_optimisation", "flag", id="purification"),
        pytest.param(optimising_by_backward, "inner_optimisation", "flag", id="backward"),
    ],
)
def test_what_is_wrong_is_named(sound, images, labels, change, name, verdict):  # noqa: PLR0917 - fixtures
    report = check_conformance(Changed(sound, change), images, labels, classes=10)
    assert verdicts(report)[name] == verdict
    assert report.verdict == verdict


def test_a_randomised_model_is_flagged_and_not_blamed_for_its_batches(
    images: Tensor, labels: Tensor, sound: nn.Module
) -> None:
    found = verdicts(check_conformance(Noisy(sound), images, labels, classes=10))
    assert found["deterministic"] == "flag"
    assert found["batch_independent"] == "flag"


def test_batch_normalisation_in_training_mode_is_refused(images: Tensor, labels: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)).train()
    report = check_conformance(model, images, labels, classes=10)
    assert report.verdict == "refuse"


def test_a_program_of_one_batch_size_is_refused_with_the_way_out(
    images: Tensor, labels: Tensor, sound: nn.Module
) -> None:
    def fixed(model: nn.Module, x: Tensor) -> Tensor:
        return model(x.reshape(1, 1, 8, 8))

    report = check_conformance(Changed(sound, fixed), images, labels, classes=10)
    (refused,) = [check for check in report.checks if check.verdict == "refuse"]
    assert "dynamic first dimension" in refused.message


@pytest.mark.parametrize(("claimed", "verdict"), [(0.92, "pass"), (0.99, "flag"), (0.5, "flag")])
def test_a_claim_is_held_against_the_interval_of_what_is_seen(
    sound: nn.Module, images: Tensor, labels: Tensor, claimed: float, verdict: str
) -> None:
    report = check_conformance(sound, images, labels, classes=10, claimed_accuracy=claimed)
    assert verdicts(report)["claimed_accuracy"] == verdict


def test_parameters_are_counted(sound: nn.Module, images: Tensor, labels: Tensor) -> None:
    report = check_conformance(sound, images, labels, classes=10)
    assert {c.name: c.value for c in report.checks}["parameters"] == 64 * 128 + 128 + 128 * 10 + 10


def test_the_measure_stores_what_the_report_says(sound: nn.Module, images: Tensor, labels: Tensor) -> None:
    measure = get_measure("conformance")
    module = Changed(sound, lambda m, x: m(x).softmax(1))
    parameters = measure.Parameters()
    result = measure.run(Task(model=module, module=module, x=images, y=labels), parameters)
    assert [flag.code for flag in result.flags] == ["softmax-outputs"]
    assert all(array.shape == (200,) for array in result.arrays.values())
    scores = {score.name: score.value for score in measure.summarise(Inputs(result.arrays, labels.numpy()), parameters)}
    report = check_conformance(module, images, labels, classes=10)
    assert {**scores, "seconds": 0} == {check.name: check.value for check in report.checks} | {"seconds": 0}


def test_the_measure_fails_on_what_the_report_refuses(sound: nn.Module, images: Tensor, labels: Tensor) -> None:
    module = Changed(sound, lambda m, x: m(x.flip(0)))
    measure = get_measure("conformance")
    with pytest.raises(InputError, match="depend on the others of its batch"):
        measure.run(Task(model=module, module=module, x=images, y=labels), measure.Parameters())


@pytest.mark.parametrize(
    ("forgotten", "best"),
    [
        pytest.param(lambda m, x: m(1 - x), "inverted", id="inverted"),
        pytest.param(lambda m, x: m(x / 255), "0 to 255", id="8-bit"),
    ],
)
def test_the_best_of_all_ranges_is_named_and_not_the_first_that_is_better(sound, images, labels, forgotten, best):
    report = check_conformance(Changed(sound, forgotten), images, labels, classes=10)
    (check,) = (check for check in report.checks if check.name == "input_range")
    assert check.verdict == "flag"
    assert f"of the range {best}," in check.message


def test_a_model_that_writes_into_its_images_is_refused_and_they_stay_as_they_are(sound, images, labels):
    before = images.clone()
    report = check_conformance(Changed(sound, lambda m, x: m(x.sub_(0.001))), images, labels, classes=10)
    assert verdicts(report)["input_unchanged"] == "refuse"
    assert torch.equal(images, before)


def test_large_images_are_looked_at_few_at_a_time() -> None:
    """500 images of 224 × 224 in one call took 2.9 GB of a small network."""
    seen: list[int] = []

    class Pooled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return torch.nn.functional.adaptive_avg_pool2d(x, (2, 2)).flatten(1)

    pixel = torch.rand(400, 3, 1, 1)
    report = check_conformance(Pooled(), pixel.expand(-1, -1, 224, 224), torch.arange(400) % 12, classes=12)
    assert report.verdict != "refuse"
    assert looked_at((3, 224, 224)) == 111
    assert looked_at((3, 32, 32)) == looked_at((1, 8, 8)) == 500
    assert max(seen) <= 14
    assert sum(seen) < 400  # of 111 images most are passed once
    assert "111 images" in next(check.message for check in report.checks if check.name == "input_shape")


def test_operations_are_counted_as_the_layers_say(images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10)).eval()
    report = check_conformance(network, images, torch.zeros(200, dtype=torch.int64), classes=10)
    found = {check.name: check for check in report.checks}["flops"]
    assert found.value == 2 * (4 * 36 * 9 + 4 * 36 * 10)  # a multiplication and an addition each


class Elsewhere(nn.Module):
    """What torch cannot count: the work is done outside of it."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.detach().flatten(1).numpy()
        return torch.from_numpy(rows[:, :10].copy())


def test_operations_that_cannot_be_counted_are_unknown_and_not_none(images: Tensor) -> None:
    report = check_conformance(Elsewhere(), images, torch.zeros(200, dtype=torch.int64), classes=10)
    found = {check.name: check for check in report.checks}["flops"]
    assert math.isnan(found.value)
    measure = get_measure("conformance")
    task = Task(model=Elsewhere(), module=Elsewhere(), x=images, y=torch.zeros(200, dtype=torch.int64))
    arrays = measure.run(task, measure.Parameters()).arrays
    names = {score.name for score in measure.summarise(Inputs(arrays, np.zeros(200, np.int64)), measure.Parameters())}
    assert "flops" not in names
    assert "parameters" in names
