"""The CLEVER paper's MNIST networks: their layers, and that training them is reproducible and gives a usable card."""

import numpy as np
import pytest
import torch
from torch import nn

from models_zoo import architectures
from models_zoo.cards import read_card
from models_zoo.loading import load_entry
from models_zoo.training import mnist_clever

MLP = "clever2018-mnist-mlp"


@pytest.fixture
def little_data(monkeypatch):
    """A few noisy images with a bright row that says the class, and as few for validation."""
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=400)
    images = rng.integers(60, size=(400, 1, 28, 28)).astype(np.uint8)
    images[np.arange(400), 0, labels] = 255
    monkeypatch.setattr(mnist_clever, "mnist", lambda split: (images, labels))
    monkeypatch.setattr(mnist_clever, "VALIDATION", 100)


def test_the_cnn_has_the_seven_layers_of_carlini_and_wagners_table():
    network = architectures.build("seven_layer_cnn", {})
    assert sum(isinstance(layer, nn.Linear | nn.Conv2d) for layer in network) == 7
    sizes = [9 * 32, 9 * 32 * 32, 9 * 32 * 64, 9 * 64 * 64, 1024 * 200, 200 * 200, 200 * 10]
    assert sum(p.numel() for p in network.parameters()) == sum(sizes) + 32 + 32 + 64 + 64 + 200 + 200 + 10
    assert network.eval()(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_the_cnn_takes_images_of_cifar_too():
    network = architectures.build(
        "seven_layer_cnn", {"shape": [3, 32, 32], "channels": [64, 64, 128, 128], "hidden": [256, 256]}
    )
    assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.usefixtures("little_data")
def test_training_learns_and_a_seed_determines_it():
    recipe = mnist_clever.RECIPES[MLP]
    first, accuracy = mnist_clever.train(recipe, epochs=8, seed=1)
    second, _ = mnist_clever.train(recipe, epochs=8, seed=1)
    assert accuracy > 0.8
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("little_data")
def test_what_is_written_is_a_model_of_a_workspace(tmp_path):
    recipe = mnist_clever.RECIPES[MLP]
    state, accuracy = mnist_clever.train(recipe, epochs=1)
    mnist_clever.write(MLP, state, tmp_path, f"accuracy {accuracy}")
    model = load_entry(read_card(tmp_path / MLP / "model.toml"))
    x = torch.rand(3, 1, 28, 28)
    network = architectures.build(recipe.architecture, recipe.arguments)
    network.load_state_dict(state)
    assert torch.allclose(model(x), network.eval()(x - 0.5), atol=1e-6)
