"""The measure `autoattack`: right where the answer is known, and robust to the package's faults."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.counting import CountingModel
from benchmark.errors import InputError
from benchmark.measures import Inputs, Result, Task, autoattack, get_measure
from benchmark.measures.autoattack import AutoAttackParameters, inner_eps
from benchmark.threat import Norm, dual, norms_of
from benchmark.verification import verify

NORMS = ("linf", "l2", "l1")

AUTOATTACK = get_measure("autoattack")
SIDE = 5


@pytest.fixture(autouse=True)
def fewer_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Square Attack's 5,000 queries would be most of the time spent here, and change none of the answers."""
    whole = autoattack._package

    def package(*arguments: Any) -> Any:
        found = whole(*arguments)
        assert found.square.n_queries == 5000
        found.square.n_queries = 200
        return found

    monkeypatch.setattr(autoattack, "_package", package)


class Linear(nn.Module):
    """Logits ``W x + b``; the distance to class j is (margin to j) / (dual norm of the weights' difference)."""

    def __init__(self, classes: int, seed: int = 0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, SIDE * SIDE, generator=g))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5).flatten(1) @ self.weight.T + self.bias

    def distance(self, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
        """Exact minimal distances while the box does not matter, shape (n,)."""
        with torch.no_grad():
            logits = self(x)
            gap = logits.gather(1, y[:, None]) - logits
            slope = torch.stack([norms_of(w - self.weight, dual(norm)) for w in self.weight])[y]
            return torch.where(slope > 0, gap / slope, torch.inf).amin(dim=1).clamp(min=0)


def images(n: int, seed: int = 0) -> Tensor:
    """Images near grey, so that small balls lie inside the box."""
    return 0.5 + 0.1 * (torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) - 0.5)


def attack(model: nn.Module, x: Tensor, y: Tensor, **parameters: Any) -> tuple[Result, dict[str, float]]:
    """Run and summarise as the evaluator does: with re-verified distances."""
    p = AutoAttackParameters(**parameters)
    result = AUTOATTACK.run(Task(CountingModel(model), model, x, y), p)
    assert result.adversarials is not None
    verified = verify(model, x, y, result.adversarials).distances
    arrays = {**result.arrays, **{f"distance_{norm}": d.numpy() for norm, d in verified.items()}}
    return result, {score.name: score.value for score in AUTOATTACK.summarise(Inputs(arrays, y.numpy()), p)}


def codes(result: Result) -> set[str]:
    return {flag.code for flag in result.flags}


@pytest.mark.parametrize("norm", NORMS)
def test_on_a_linear_model_robust_accuracy_is_exact_and_examples_are_within_eps(norm: Norm) -> None:
    model, x = Linear(10), images(12)
    y = model(x).argmax(dim=1)
    y[0] = (y[0] + 1) % 10  # misclassified
    distances = model.distance(x, y, norm)
    eps = float(distances[1:].sort().values[5:7].mean())  # between two samples
    result, scores = attack(model, x, y, norm=norm, eps=eps)
    robust = (distances > eps).numpy()
    assert 0 < robust.sum() < 11
    np.testing.assert_array_equal(result.arrays["robust"], robust)
    assert scores["robust_accuracy"] == pytest.approx(robust.mean())
    assert result.arrays["broken_by"][0] == b"clean"
    found = verify(model, x, y, result.adversarials).distances[norm]
    assert (found[found < torch.inf] <= eps).all()  # exactly, not up to rounding


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_logits_may_be_of_any_floating_type(dtype: torch.dtype) -> None:
    class Cast(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).to(dtype)

    model, x = Cast(4), images(6)
    y = model(x).argmax(dim=1)
    distances = model.distance(x, y, "linf").double()
    assert float(distances.min()) > 0
    for eps, robust in ((float(distances.min()) / 2, 1.0), (float(distances.max()) * 2, 0.0)):
        assert attack(model, x, y, norm="linf", eps=eps)[1]["robust_accuracy"] == robust


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("version", ["standard", "plus"])
def test_few_classes_are_attacked_with_what_applies_and_flagged(classes: int, version: str) -> None:
    model, x = Linear(classes), images(6, seed=1)
    y = model(x).argmax(dim=1)
    distances = model.distance(x, y, "linf")
    eps = float(distances.max()) * 1.05  # everything can be broken, so the run is short
    result, scores = attack(model, x, y, norm="linf", eps=eps, version=version)
    assert scores["robust_accuracy"] == 0
    assert ("few-classes" in codes(result)) == (classes < 4)


def test_losses_that_need_more_classes_are_left_out_also_when_samples_survive() -> None:
    model, x = Linear(3), images(1, seed=1)
    result, scores = attack(model, x, model(x).argmax(dim=1), norm="l2", eps=1e-4)
    (flag,) = [flag for flag in result.flags if flag.code == "few-classes"]
    assert "3 classes" in flag.message
    assert "apgd-t" in flag.message
    assert "apgd-dlr" not in flag.message
    assert scores["robust_accuracy"] == 1


def test_images_too_small_for_square_attack_are_attacked_without_it() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
    x = 0.5 + 0.1 * torch.rand(2, 1, 2, 2)
    result, _ = attack(model, x, model(x).argmax(dim=1), norm="l2", eps=2)  # any label is within reach: a short run
    assert "small-images" in codes(result)
    assert b"square" not in result.arrays["broken_by"]


def test_a_chunk_of_misclassified_samples_needs_no_attack() -> None:
    model, x = Linear(10), images(4)
    result, scores = attack(model, x, (model(x).argmax(dim=1) + 1) % 10, eps=0.1)
    assert scores == {"robust_accuracy": 0.0, "square_gain": 0.0}
    assert set(result.arrays["broken_by"]) == {b"clean"}
    assert not result.arrays["robust"].any()


def test_a_single_sample_is_a_chunk() -> None:
    model, x = Linear(10), images(1)
    y = model(x).argmax(dim=1)
    eps = 1.1 * float(model.distance(x, y, "l2"))
    _, scores = attack(model, x, y, norm="l2", eps=eps)
    assert scores["robust_accuracy"] == 0


def test_claims_are_not_believed() -> None:
    arrays = {
        "robust": np.array([False, False, True, True]),
        "broken_by": np.array([b"apgd-ce", b"fab-t", b"", b""]),
        "distance_l2": np.array([0.1, np.inf, np.inf, 0.2]),  # re-verified: the second example does not hold
    }
    scores = AUTOATTACK.summarise(Inputs(arrays, np.zeros(4, dtype=np.int64)), AutoAttackParameters(norm="l2", eps=0.2))
    assert scores[0].value == 0.5
    assert scores[0].low is not None
    assert scores[0].high is not None
    assert scores[0].low < 0.5 < scores[0].high


def test_the_same_seed_finds_the_same_examples_and_leaves_the_process_as_it_was(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model, x = Linear(10), images(3)
    y = model(x).argmax(dim=1)
    eps = 1.5 * float(model.distance(x, y, "linf").max())
    state = torch.random.get_rng_state()
    handlers, trace = list(logging.getLogger("auto-attack").handlers), sys.gettrace()
    one, _ = attack(model, x, y, eps=eps)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert logging.getLogger("auto-attack").handlers == handlers
    assert sys.gettrace() is trace
    torch.rand(5)
    two, _ = attack(model, x, y, eps=eps)
    assert one.adversarials is not None
    assert two.adversarials is not None
    assert torch.equal(one.adversarials, two.adversarials)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert capsys.readouterr().out == ""
    assert caplog.records == []


class Probabilities(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(dim=1)


class Noisy(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.01 * torch.randn(len(x), 1)


class Optimising(Linear):
    """A defence that differentiates inside its forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            inner = x.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(super().forward(inner).amax(dim=1).sum(), inner)
        return super().forward(x + 0 * gradient)


class Flat(Linear):
    """Rounds its input, so its gradient is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + (torch.round(16 * x) / 16 - x).detach() - x + x.detach())


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (Probabilities(10), "softmax-outputs"),
        (Noisy(10), "randomised"),
        (Optimising(10), "inner-optimisation"),
        (Flat(10), "zero-gradients"),
    ],
)
def test_what_the_package_only_prints_becomes_a_flag(model: Linear, code: str) -> None:
    x = images(2, seed=2)
    y = model(x).argmax(dim=1)
    eps = 0.005 if code == "zero-gradients" else 0.4  # survivors are needed where the second attack notices it
    result, _ = attack(model, x, y, eps=eps, version="standard")
    assert code in codes(result)
    clean, _ = attack(Linear(10), x, Linear(10)(x).argmax(dim=1), eps=0.4)
    assert code not in codes(clean)  # the package's counter of calls is not carried over to the next model


def test_the_number_of_samples_is_capped() -> None:
    assert AUTOATTACK.samples(AutoAttackParameters(samples=100), 1000) == 100
    assert AUTOATTACK.samples(AutoAttackParameters(samples=100), 10) == 10


def test_the_inner_budget_differs_by_rounding_only() -> None:
    for norm, eps in (("linf", 8 / 255), ("l2", 0.5), ("l1", 12.0)):
        inner = inner_eps(eps, norm, 3 * 32 * 32)  # type: ignore[arg-type]
        assert (1 - 1e-5) * eps < inner < eps


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"eps": 0.0}, "eps > 0, got 0.0"),
        ({"norm": "l3"}, "no norm called 'l3'"),
        ({"norm": "l0"}, "got 'l0'"),
        ({"version": "fast"}, "standard, plus, rand, got 'fast'"),
        ({"samples": 0}, "at least 1 sample, got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoAttackParameters(**parameters)
