"""TensorFlow functions, and Keras on TensorFlow: run by ``make test-adapters``, in an environment that has them."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tomli_w
import torch
import twins
from torch import Tensor, nn

if not os.environ.get("CURVEBOARD_ADAPTERS") or importlib.util.find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow: make test-adapters", allow_module_level=True)

import benchmark
from benchmark.errors import UnsupportedModelError
from models_zoo.errors import ZooError
from models_zoo.loading import load_entry
from models_zoo.submission import stage

pytestmark = pytest.mark.filterwarnings("ignore")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    return twins.few_images()


@pytest.fixture(scope="module")
def cnn() -> nn.Sequential:
    return twins.cnn()


@pytest.fixture(scope="module")
def tf(cnn: nn.Sequential) -> ModuleType:
    """Imported after the training: torch's optimisers import Triton, which crashes once TensorFlow is there."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return importlib.import_module("tensorflow")


def in_tensorflow(tf: ModuleType, model: nn.Sequential) -> nn.Module:
    class Network(tf.Module):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.held = [tf.Variable(value) for value in twins.channels_last(model)]

        def __call__(self, x: object) -> object:
            kernel, bias, matrix, last = self.held
            hidden = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
            return tf.reshape(hidden, (-1, 256)) @ matrix + last

    return benchmark.from_tensorflow(Network())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_tensorflow_function_has_the_distances_of_the_torch_model(
    norm: str, tf: ModuleType, cnn: nn.Sequential, images: tuple[Tensor, Tensor]
) -> None:
    twins.same_distances(cnn, in_tensorflow(tf, cnn), images, norm)


def test_its_gradients_are_those_of_torch_in_every_batch_size(tf: ModuleType, cnn: nn.Sequential) -> None:
    foreign = in_tensorflow(tf, cnn)
    assert foreign.n_parameters == sum(p.numel() for p in cnn.parameters())
    for n in (1, 5, 7):
        twins.same_gradients(foreign, cnn, torch.rand(n, 1, 8, 8))


def test_few_programs_are_traced(tf: ModuleType) -> None:
    seen = []

    def fn(x: object) -> object:
        seen.append(x.shape[0])  # type: ignore[attr-defined]  # runs when it is traced, not when it is called
        return tf.reshape(x, (-1, 64))[:, :10]

    model = benchmark.from_tensorflow(fn)
    for n in range(1, 17):
        assert model(torch.rand(n, 1, 8, 8)).shape == (n, 10)
    assert sorted(seen) == [1, 2, 3, 4, 6, 8, 12, 16]


def test_what_does_not_depend_on_the_images_has_the_gradient_zero(tf: ModuleType) -> None:
    model = benchmark.from_tensorflow(lambda x: tf.zeros((x.shape[0], 3)))
    x = torch.rand(2, 1, 4, 4, requires_grad=True)
    model(x.detach()).fill_(7)
    logits = model(x)
    assert logits.tolist() == [[0] * 3] * 2  # what torch does to the answer stays with torch
    (found,) = torch.autograd.grad(logits.sum(), x)
    assert torch.equal(found, torch.zeros_like(x))


def test_full_float32_is_asked_for_while_it_computes_and_no_longer(tf: ModuleType) -> None:
    settings, seen = tf.config.experimental, []

    def fn(x: object) -> object:
        seen.append(settings.tensor_float_32_execution_enabled())
        return tf.reshape(x, (-1, 16))

    before = settings.tensor_float_32_execution_enabled()
    benchmark.from_tensorflow(fn)(torch.rand(1, 1, 4, 4))
    assert before
    assert seen == [False]
    assert settings.tensor_float_32_execution_enabled()


def test_it_takes_functions(tf: ModuleType) -> None:
    with pytest.raises(UnsupportedModelError, match="takes a function of images"):
        benchmark.from_tensorflow(np.ones(3))


ON_TENSORFLOW = """
import sys
import numpy as np, torch, keras, benchmark
assert keras.backend.backend() == "tensorflow"
made = keras.saving.load_model(sys.argv[1], compile=False)
held = torch.load(sys.argv[2], weights_only=True)
x, y = held["x"], held["y"]
curve = benchmark.robustness_curve(benchmark.from_keras(made), x, y, norm="l2", effort="quick")
np.testing.assert_allclose(curve.distances, held["distances"], atol=1e-4, rtol=1e-4)
"""


def keras_file(path: Path, model: nn.Sequential) -> None:
    """The model as a ``.keras`` file, written by Keras on TensorFlow, in a process of its own."""
    np.savez(path.with_suffix(".npz"), *twins.channels_last(model))
    code = (
        "import sys, keras, numpy as np; k = keras.layers\n"
        "made = keras.Sequential([k.Input((8, 8, 1)), k.Conv2D(4, 3, padding='same', activation='relu'),"
        " k.Flatten(), k.Dense(10)])\n"
        "made.set_weights(list(np.load(sys.argv[2]).values())); made.save(sys.argv[1])"
    )
    python(code, str(path), str(path.with_suffix(".npz")))


def python(code: str, *arguments: str) -> None:
    place = os.environ | {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments], env=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def saved(cnn: nn.Sequential, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "model.keras"
    keras_file(path, cnn)
    return path


def test_a_keras_network_on_tensorflow_has_the_distances_of_the_torch_one(
    cnn: nn.Sequential, saved: Path, images: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    curve = benchmark.robustness_curve(cnn, *images, norm="l2", effort="quick")
    told = {"x": images[0], "y": images[1], "distances": torch.from_numpy(curve.distances.copy())}
    torch.save(told, tmp_path / "told.pt")
    python(ON_TENSORFLOW, str(saved), str(tmp_path / "told.pt"))


def card(folder: Path, saved: Path, backend: object) -> Path:
    folder.mkdir()
    model = {"form": "keras", "arguments": {"backend": backend}}
    table = {"slug": "net", "title": "net", "dataset": "digits", "model": model, "weights": [{"file": "model.keras"}]}
    (folder / "model.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    (folder / "model.keras").write_bytes(saved.read_bytes())
    return folder


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_a_card_names_the_backend(
    backend: str, cnn: nn.Sequential, saved: Path, images: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    """Served by a process that sees no network and writes no file."""
    (tmp_path / "target").mkdir()
    served = load_entry(stage(card(tmp_path / "source", saved, backend), tmp_path / "target"))
    twins.same_gradients(served, cnn, images[0])


def test_another_backend_is_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    with pytest.raises(ZooError, match=r"backend is 'numpy'; Keras runs on one of torch, jax, tensorflow"):
        load_entry(stage(card(tmp_path / "source", saved, "numpy"), tmp_path / "target"))
