"""One network in several frameworks: small ones in torch, a little trained, and what others take of their weights."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import benchmark
from benchmark.data import get_dataset


def few_images() -> tuple[Tensor, Tensor]:
    """Images and labels to compare on."""
    return get_dataset("digits").batch(0, 6)


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return trained(nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10)))


def cnn() -> nn.Sequential:
    torch.manual_seed(1)
    return trained(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)))


def trained(model: nn.Sequential) -> nn.Sequential:
    """Trained until its labels are mostly right."""
    x, y = get_dataset("digits").split("train").batch(0, 400)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval()


def arrays(model: nn.Sequential) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def channels_last(model: nn.Sequential) -> list[np.ndarray]:
    """Kernel, bias, matrix and bias of `cnn` as Keras and TensorFlow have them, which flatten in that order."""
    values = arrays(model)
    matrix = values["3.weight"].reshape(10, 4, 8, 8).transpose(2, 3, 1, 0).reshape(256, 10)
    return [values["0.weight"].transpose(2, 3, 1, 0), values["0.bias"], matrix, values["3.bias"]]


def keras_cnn(keras: ModuleType, model: nn.Sequential) -> Any:
    layers = keras.layers
    made = keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    made.set_weights(channels_last(model))
    return made


def same_distances(one: nn.Module, other: nn.Module, images: tuple[Tensor, Tensor], norm: str) -> None:
    first, second = (benchmark.robustness_curve(m, *images, norm=norm, effort="quick") for m in (one, other))
    assert np.isfinite(first.distances).all()
    assert (first.distances > 0).sum() >= 4
    np.testing.assert_allclose(first.distances, second.distances, atol=1e-4, rtol=1e-4)


def same_gradients(foreign: nn.Module, model: nn.Module, x: Tensor) -> None:
    """The logits, and the gradients of several of them after one forward pass."""
    leaf, twin = (x.detach().clone().requires_grad_() for _ in range(2))
    logits, expected = foreign(leaf), model(twin)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    for label in (3, 8):
        (found,) = torch.autograd.grad(logits[:, label].sum(), leaf, retain_graph=True)
        (truth,) = torch.autograd.grad(expected[:, label].sum(), twin, retain_graph=True)
        torch.testing.assert_close(found, truth, atol=1e-6, rtol=1e-5)
