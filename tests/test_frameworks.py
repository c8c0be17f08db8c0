"""JAX functions and Keras models: the same distances as a torch model with the same weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from twins import arrays, cnn, few_images, keras_cnn, mlp, same_distances, same_gradients

import benchmark
from benchmark.errors import UnsupportedModelError
from models_zoo.frameworks.bridge import filled, filled_size

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    return few_images()


def jax_mlp(jax: ModuleType, model: nn.Sequential) -> nn.Module:
    def apply(held: dict[str, object], x: object) -> object:
        hidden = jax.nn.relu(x.reshape(x.shape[0], -1) @ held["1.weight"].T + held["1.bias"])
        return hidden @ held["3.weight"].T + held["3.bias"]

    return benchmark.from_jax(apply, arrays(model))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_jax_network_has_the_distances_of_the_torch_one(
    jax: ModuleType, images: tuple[Tensor, Tensor], norm: str
) -> None:
    model = mlp()
    same_distances(model, jax_mlp(jax, model), images, norm)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_keras_network_has_the_distances_of_the_torch_one(
    keras: ModuleType, images: tuple[Tensor, Tensor], norm: str
) -> None:
    model = cnn()
    same_distances(model, benchmark.from_keras(keras_cnn(keras, model)), images, norm)


def test_gradients_are_those_of_torch_in_every_batch_size(jax: ModuleType) -> None:
    model = mlp()
    foreign = jax_mlp(jax, model)
    for n in (1, 5, 7):
        same_gradients(foreign, model, torch.rand(n, 1, 8, 8))


def test_clever_takes_a_jax_model(jax: ModuleType, images: tuple[Tensor, Tensor]) -> None:
    model = mlp()
    scores = [benchmark.clever_scores(m, images[0][:2], norm="l2", seed=0) for m in (model, jax_mlp(jax, model))]
    assert (scores[0] > 0).all()
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)


def test_few_programs_are_compiled(jax: ModuleType) -> None:
    seen = []

    def fn(x: object) -> object:
        seen.append(x.shape)  # runs when it is traced, not when it is called
        return x.reshape(x.shape[0], -1)[:, :10]

    model = benchmark.from_jax(fn)
    for n in range(1, 33):
        assert model(torch.rand(n, 1, 8, 8)).shape == (n, 10)
    assert sorted(shape[0] for shape in seen) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]


def test_batches_are_filled_by_at_most_half() -> None:
    assert filled_size(0) == filled_size(1) == 1
    for n in range(1, 3000):
        assert n <= filled_size(n) <= max(n + n // 2, 1)
    x = torch.rand(5, 2)
    assert torch.equal(filled(x), torch.cat([x, x[:1]]))
    assert torch.equal(filled(x.double().T.contiguous().T), torch.cat([x, x[:1]]).float())


def test_images_may_be_channels_last(jax: ModuleType) -> None:
    model = benchmark.from_jax(lambda x: x.reshape(x.shape[0], -1), channels_last=True)
    x = torch.rand(2, 3, 4, 5, requires_grad=True)
    flat = model(x)
    assert torch.equal(flat, x.permute(0, 2, 3, 1).flatten(1))
    (found,) = torch.autograd.grad(flat[1, 7], x)
    assert found.nonzero().tolist() == [[1, *np.argwhere(np.arange(60).reshape(4, 5, 3) == 7)[0][[2, 0, 1]]]]


def test_what_torch_does_to_the_answer_stays_with_torch(jax: ModuleType) -> None:
    model = benchmark.from_jax(lambda x: jax.numpy.zeros((x.shape[0], 3)))
    x = torch.rand(2, 1, 2, 2)
    before = x.clone()
    model(x).fill_(7)
    assert model(x).tolist() == [[0] * 3] * 2
    assert torch.equal(x, before)


def test_reduced_precision_is_computed_in_full_and_answered_in_float32(jax: ModuleType) -> None:
    model = benchmark.from_jax(lambda w, x: (x.reshape(x.shape[0], -1) @ w).astype("bfloat16"), np.eye(4, 3))
    assert model(torch.rand(2, 1, 2, 2)).dtype == torch.float32


def test_keras_dropout_and_batch_norm_are_in_inference_mode(keras: ModuleType) -> None:
    layers = keras.layers
    made = keras.Sequential(
        [layers.Input((8, 8, 1)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Flatten(), layers.Dense(10)]
    )
    model = benchmark.from_keras(made).train()
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(model(x), model(x))
    assert torch.allclose(model(x)[:1], model(x[:1]), atol=1e-6)


def test_a_softmax_or_a_model_of_another_kind_is_refused(keras: ModuleType) -> None:
    layers = keras.layers
    for end in ([layers.Dense(10, activation="softmax")], [layers.Dense(10), layers.Softmax()]):
        with pytest.raises(UnsupportedModelError, match="ends in a softmax"):
            benchmark.from_keras(keras.Sequential([layers.Input((8, 8, 1)), layers.Flatten(), *end]))
    with pytest.raises(UnsupportedModelError, match="is not built"):
        benchmark.from_keras(keras.Sequential([layers.Flatten()]))
    with pytest.raises(UnsupportedModelError, match="not a Linear"):
        benchmark.from_keras(nn.Linear(2, 2))


def test_jax_takes_functions(jax: ModuleType) -> None:
    with pytest.raises(UnsupportedModelError, match="takes a function of images"):
        benchmark.from_jax(np.ones(3))


ON_JAX = """
import sys
import numpy as np, torch, keras, benchmark
assert keras.backend.backend() == sys.argv[1]
layers = keras.layers
made = keras.Sequential([layers.Input((8, 8, 1)), layers.BatchNormalization(), layers.Flatten(), layers.Dense(10)])
model = benchmark.from_keras(made)
x = torch.rand(3, 1, 8, 8, requires_grad=True)
logits = model(x)
truth = made.predict(x.detach().permute(0, 2, 3, 1).numpy(), verbose=0)
assert np.allclose(logits.detach().numpy(), truth, atol=1e-5)
(found,) = torch.autograd.grad(logits[:, 4].sum(), x)
weights = torch.tensor(np.asarray(made.get_weights()[4][:, 4]).reshape(8, 8)) / (1 + 1e-3) ** 0.5
assert torch.allclose(found[:, 0], weights.expand(3, 8, 8), atol=1e-5)
"""


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_keras_on_jax_is_taken_too(jax: ModuleType, keras: ModuleType) -> None:
    done = python(ON_JAX, "jax", KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr


def test_keras_on_another_backend_is_told_what_to_do(keras: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = keras_cnn(keras, cnn())
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(UnsupportedModelError, match=r"Keras runs on openvino; .* KERAS_BACKEND=torch"):
        benchmark.from_keras(made)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    makers = {"jax": benchmark.from_jax, "keras": benchmark.from_keras, "tensorflow": benchmark.from_tensorflow}
    for name, make in makers.items():
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UnsupportedModelError, match=rf"model needs .*pip install 'curveboard\[{name}\]'"):
            make(lambda x: x)


def test_the_face_loads_no_framework() -> None:
    code = (
        "import sys, benchmark; benchmark.from_jax; benchmark.from_tensorflow; "
        "sys.exit(bool({'jax', 'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert python(code).returncode == 0
