"""Submitted code: it computes like any model, and its accidents stay its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmark.conformance import check_conformance
from benchmark.isolation import isolated
from models_zoo.cards import Entry, Weights
from models_zoo.errors import CodeError
from models_zoo.fetch import sha256_of
from models_zoo.loading import load_entry
from models_zoo.serving.builders import Served
from models_zoo.serving.sandbox import Limits, SandboxedModel

CODE = """
import os, time, urllib.request
from pathlib import Path
import torch
from safetensors.torch import load_file
from torch import nn


class Model(nn.Module):
    def __init__(self, state):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.linear.load_state_dict(state)

    def forward(self, x):
        value = 100 * x[0, 0, 0, 0].item() - 0.5
        mode = round(value) if abs(value - round(value)) < 1e-4 else 0
        if mode == 90:
            raise ValueError("a bad\\x1b image")
        if mode == 91:
            print("K" * 100)
            os.write(1, b"K" * 100)
        if mode == 92:
            urllib.request.urlopen("http://127.0.0.1:9/")
        if mode == 93:
            Path("file").write_text("x" * 5000)
        if mode == 94:
            torch.ones(10**11)
        if mode == 95:
            return self.linear(x.flatten(1)).tolist()
        if mode == 96:
            with torch.enable_grad():
                leaf = x.detach().clone().requires_grad_()
                self.linear(leaf.flatten(1)).sum().backward()
        if mode == 97:
            os._exit(9)
        if mode == 98:
            time.sleep(60)
        if mode == 99:
            for fd in range(3, 30):
                try:
                    os.write(fd, b"K" + b"\\xff" * 64)
                except OSError:
                    pass
        return self.linear(x.flatten(1)) ** 3


def make(folder):
    assert set(os.environ) <= {"PATH", "HOME", "LANG", "LC_CTYPE"}, dict(os.environ)
    return Model(load_file(folder / "w.safetensors"))
"""


@pytest.fixture(scope="module")
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, linear: nn.Linear) -> Path:
    made = tmp_path_factory.mktemp("code")
    (made / "model.py").write_text(CODE)
    save_file(linear.state_dict(), made / "w.safetensors")
    return made


@pytest.fixture(scope="module")
def entry(folder: Path) -> Entry:
    files = tuple(
        Weights(name, sha256_of(folder / name), (folder / name).stat().st_size)
        for name in ("model.py", "w.safetensors")
    )
    return Entry("mine", "Mine", "digits", "code", folder, weights=files, code="model.py", factory="make")


@pytest.fixture(scope="module")
def model(entry: Entry) -> nn.Module:
    return load_entry(dataclasses.replace(entry, trusted=entry.weights[0].sha256))


def images(mode: int = 0, n: int = 5) -> Tensor:
    x = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(1)) * 0.5
    x[0, 0, 0, 0] = mode / 100 + 0.005 if mode else 0.25
    return x


def test_it_computes_and_differentiates_like_the_same_model_here(model: nn.Module, linear: nn.Linear) -> None:
    x = images().requires_grad_()
    expected = linear(x.flatten(1)) ** 3
    found = model(x)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(5, 3)
    (one,) = torch.autograd.grad((expected * weights).sum(), x)
    for _ in range(2):  # the graph stays for further gradients of the same outputs
        (other,) = torch.autograd.grad((found * weights).sum(), x, retain_graph=True)
        torch.testing.assert_close(other, one)


def test_an_older_forward_pass_still_has_its_gradient(model: nn.Module) -> None:
    x, z = images().requires_grad_(), torch.rand(2, 1, 2, 2).requires_grad_()
    first = model(x)
    model(z)
    (late,) = torch.autograd.grad(first.sum(), x)
    (prompt,) = torch.autograd.grad(model(x).sum(), x)
    torch.testing.assert_close(late, prompt)


def test_images_are_sent_once_for_a_forward_pass_and_its_gradient(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[tuple[int, ...]]] = []
    ask = SandboxedModel._ask

    def spy(self: SandboxedModel, operation: bytes, *tensors: Tensor, number: int = 0) -> Tensor | None:
        sent.append([tuple(tensor.shape) for tensor in tensors])
        return ask(self, operation, *tensors, number=number)

    monkeypatch.setattr(SandboxedModel, "_ask", spy)
    x = images().requires_grad_()
    first = model(x)
    torch.autograd.grad(first.sum(), x, retain_graph=True)
    assert sent == [[(5, 1, 2, 2)], [(5, 3)]]
    model(x)
    sent.clear()
    torch.autograd.grad(first.sum(), x)
    assert sent == [[(5, 3)], [(5, 1, 2, 2), (5, 3)]], "the child holds one pass only: of another it needs the images"


def test_an_attack_that_asked_once_leaves_nothing_behind(model: nn.Module, linear: nn.Linear) -> None:
    """Attributes are put back after an attack; the number of a call is none that the child has seen before."""
    x, z = images().requires_grad_(), torch.rand(5, 1, 2, 2).requires_grad_()
    with isolated(model, x, torch.zeros(5, dtype=torch.int64)) as own:
        own.model(x)
    torch.testing.assert_close(model(z), linear(z.flatten(1)) ** 3)


def test_parameters_and_inner_optimisation_are_reported(model: nn.Module) -> None:
    y = torch.zeros(5, dtype=torch.int64)
    report = {c.name: c for c in check_conformance(model, images(), y, classes=3).checks}
    assert report["parameters"].value == 15
    assert report["inner_optimisation"].verdict == "pass"
    report = {c.name: c for c in check_conformance(model, images(96), y, classes=3).checks}
    assert report["inner_optimisation"].verdict == "flag"


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (90, "ValueError: a bad image"),
        (92, "URLError"),
        (93, "File too large"),
        (94, "can't allocate memory|out of memory|alloc"),
        (95, "AttributeError: 'list' object"),
    ],
)
def test_a_failing_call_is_an_error_here_and_the_next_call_works(model: nn.Module, mode: int, message: str) -> None:
    with pytest.raises(CodeError, match=message):
        model(images(mode))
    assert model(images()).shape == (5, 3)


def test_what_the_code_prints_does_not_disturb_its_answers(model: nn.Module) -> None:
    assert model(images(91)).shape == (5, 3)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (97, "ended during a call with status 9"),
        (98, "a call took more than 3 seconds"),
        (99, "wrote into the line that its answers come by"),
    ],
)
def test_a_dead_endless_or_lying_process_is_an_error_from_then_on(folder: Path, mode: int, message: str) -> None:
    model = SandboxedModel(Served("code", str(folder / "model.py"), "make", str(folder)), limits=Limits(call_seconds=3))
    with pytest.raises(CodeError, match=message):
        model(images(mode))
    with pytest.raises(CodeError):
        model(images())


def test_code_that_cannot_be_built_says_why(folder: Path) -> None:
    with pytest.raises(CodeError, match="has no function 'build'"):
        SandboxedModel(Served("code", str(folder / "model.py"), "build", str(folder)))


def test_only_exactly_the_trusted_code_is_run(entry: Entry) -> None:
    with pytest.raises(CodeError, match="nobody here has said to trust"):
        load_entry(entry)
    with pytest.raises(CodeError, match="nobody here has said to trust"):
        load_entry(dataclasses.replace(entry, trusted="0" * 64))
    with pytest.raises(CodeError, match="nobody here has said to trust"):
        load_entry(dataclasses.replace(entry, trusted="", weights=()))


def test_the_code_is_part_of_the_digest(entry: Entry) -> None:
    code, weights = entry.weights
    other = dataclasses.replace(entry, weights=(dataclasses.replace(code, sha256="0" * 64), weights))
    assert other.digest != entry.digest
    assert dataclasses.replace(entry, factory="other").digest != entry.digest
    assert dataclasses.replace(entry, trusted=code.sha256).digest == entry.digest


def test_the_process_ends_with_the_model(folder: Path) -> None:
    model = SandboxedModel(Served("code", str(folder / "model.py"), "make", str(folder)))
    child = model._child
    assert child.poll() is None
    del model
    assert child.poll() is not None
