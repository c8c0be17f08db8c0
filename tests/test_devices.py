"""No tensor is made without its device: on a GPU it would be on the CPU, and fail or be copied at every use.

There need be no GPU for it: a mode watches the calls that make tensors, and refuses ours that do not say where.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import benchmark
from benchmark.attacks import attacks, run_attack
from benchmark.certificates import certificate
from benchmark.cli import run
from benchmark.cli.evaluate import check_device
from benchmark.counting import CountingModel
from benchmark.data import get_dataset
from benchmark.errors import InputError
from benchmark.measures import Task, measures
from benchmark.verification import verify
from models_zoo import load_model

OURS = str(Path(benchmark.__file__).parent)
MAKERS = frozenset(
    getattr(torch, name)
    for name in (
        "arange",
        "as_tensor",
        "empty",
        "eye",
        "full",
        "linspace",
        "logspace",
        "ones",
        "rand",
        "randint",
        "randn",
        "randperm",
        "scalar_tensor",
        "tensor",
        "tril_indices",
        "triu_indices",
        "zeros",
    )
)


class DeviceStated(TorchFunctionMode):
    """Refuses tensors that our code makes without saying on which device; what torch itself does is torch's matter."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func in MAKERS and "device" not in given:
            caller = traceback.extract_stack(limit=2)[0]
            if caller.filename.startswith(OURS):
                raise AssertionError(f"{caller.filename}:{caller.lineno} has no device: {caller.line}")
        return func(*args, **given)


X, Y = get_dataset("digits").batch(0, 2)


def sequential(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*layers).eval()


def dense() -> nn.Module:
    return sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))


def convolutional() -> nn.Module:
    return sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)
    )


def test_the_mode_sees_what_it_is_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_devices.OURS", str(Path(__file__).parent))
    with DeviceStated():
        torch.zeros(2, device=X.device)
        torch.zeros_like(X)
        for make in (lambda: torch.zeros(2), lambda: torch.arange(3), lambda: torch.tensor([1.0])):
            with pytest.raises(AssertionError, match="has no device"):
                make()


@pytest.mark.parametrize("model", [dense, convolutional])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_engine_says_where(model: Callable[[], nn.Module], norm: str) -> None:
    network = model()
    labels = network(X).argmax(1)
    with DeviceStated():
        curve = benchmark.robustness_curve(network, X, labels, norm=norm, effort="quick")
    assert (curve.distances > 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_clever_says_where(norm: str) -> None:
    with DeviceStated():
        scores = benchmark.clever_scores(dense(), X[:1], norm=norm)
    assert scores.min() >= 0


def test_verification_says_where() -> None:
    network = dense()
    labels = network(X).argmax(1)
    with DeviceStated():
        verdict = verify(network, X, labels, 1 - X)
    assert verdict.correct.all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(
    ("model", "method"),
    [
        (dense, "crown"),
        (convolutional, "crown"),
        (convolutional, "ibp"),
        (dense, "linear-region"),
        (lambda: load_model("digits-cross-lipschitz"), "cross-lipschitz"),
    ],
)
def test_certificates_say_where(model: Callable[[], nn.Module], method: str, norm: str) -> None:
    network = model()
    labels = network(X).argmax(1)
    with DeviceStated():
        radii = certificate(network, X, labels, norm=norm, method=method)
    assert (radii >= 0).all()


@pytest.mark.parametrize("name", sorted(attacks()))
def test_every_attack_says_where(name: str) -> None:
    attack, network = attacks()[name], dense()
    labels = network(X).argmax(1)
    for norm in attack.norms:
        goal = attack.goals[0]
        targets = None if goal == "untargeted" else (labels + 1) % 10
        with DeviceStated():
            found = run_attack(
                attack, network, X, labels, norm=norm, goal=goal, targets=targets, effort="quick", pool=X
            )
        assert found.adversarials.shape == X.shape


SKIPPED = {
    "challenge": "of examples that are brought",
    "transfer": "of examples that are brought",
    "corruption_strength": "needs a suite",
    "corruptions": "needs a suite",
    "sequences": "needs a suite",
}
"""Measures that need more than a network: suites are numpy's, and what is brought goes through the verification."""


@pytest.mark.parametrize("name", sorted(set(measures()) - set(SKIPPED)))
def test_every_measure_says_where(name: str) -> None:
    measure, network, dataset = measures()[name], dense(), get_dataset("digits")
    given = {"effort": "quick", "eps": 0.5, "sources": ("other",)}  # little to search for
    parameters = measure.Parameters(**{k: v for k, v in given.items() if k in vars(measure.Parameters())})
    needs = measure.needs(parameters)
    task = Task(
        CountingModel(network), network, X, network(X).argmax(1), pool=X, dataset=dataset,
        splits={name: dataset.split(name) for name in needs.splits}, initial=dense(),
        sources={name: CountingModel(dense()) for name in needs.sources},
    )  # fmt: skip
    with DeviceStated():
        result = measure.run(task, parameters)
    assert result.arrays or result.adversarials is not None


class Probe(nn.Module):
    """Answers where autocast and fast products are off, and fails where they are on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = dense()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "highest"
        return self.inner(x)


def test_mixed_precision_never_reaches_the_verification() -> None:
    model = Probe()
    labels = model.inner(X).argmax(1)
    expected = verify(model, X, labels, 1 - X)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model.inner(X).dtype == torch.bfloat16  # so it would be, if it were left on
            found = verify(model, X, labels, 1 - X)
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    for norm, distances in expected.distances.items():
        assert torch.equal(found.distances[norm], distances)


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what is said where there is no GPU")
@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda", "CUDA"),
        ("cuda:1", "CUDA"),
        ("mps", "no float64"),
        ("meta", "on the CPU and on CUDA"),
        ("gpu", "no such kind of device"),
        ("cuda:x", "no such kind of device"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    device: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", str(tmp_path / "board")]) == 0
    capsys.readouterr()
    assert run(["evaluate", "-w", str(tmp_path / "board"), "--device", device]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"Error: The device {device!r} cannot be used: ")
    assert said in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("devices", "device", "there"), [(1, "cuda:0", True), (1, "cuda:1", False), (2, "cuda:1", True)]
)
def test_a_numbered_gpu_is_understood(devices: int, device: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    if there:
        check_device(device)
    else:
        with pytest.raises(InputError, match="has 1 CUDA device, the last cuda:0"):
            check_device(device)
