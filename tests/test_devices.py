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
from benchmark.certificates import certificate
from benchmark.data import get_dataset
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
