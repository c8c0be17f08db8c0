"""Trains the two MNIST networks of the CLEVER paper, as the code its authors released does.

``python -m models_zoo.training.mnist_clever FOLDER`` trains both from scratch and writes ``FOLDER/<slug>/model.toml``
and the weights beside it (3 and 1.3 MB, too large for the repository). The MLP takes about ten minutes, the CNN about a
quarter of an hour of one core; its steps are computed in bfloat16, its weights stay float32.

The recipe: images in [−0.5, 0.5]; the first 5,000 training images are left out for validation; batches of 128; SGD with
Nesterov momentum 0.9 and a learning rate that decays with the step t as 1 / (1 + decay·t); 50 epochs; weights start as
Keras starts them. The paper calls the MLP's activation ReLU; the released code trains a softplus with β = 10, which is
what its published scores are of.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli_w
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from models_zoo import architectures, preprocessing
from models_zoo.cards import Entry, Weights, card_table
from models_zoo.data import mnist
from models_zoo.fetch import sha256_of

PREPROCESSING: Final = ({"kind": "normalise", "mean": [0.5], "std": [1.0]},)
VALIDATION: Final = 5000
BATCH: Final = 128


@dataclass(frozen=True)
class Recipe:
    """How one of the networks is trained.

    Attributes:
        title: For its card.
        architecture: Name of the architecture.
        arguments: What it is built with.
        rate: Learning rate at the start.
        decay: Of the learning rate, a step.
        reduced: Whether the steps are computed in bfloat16.
    """

    title: str
    architecture: str
    arguments: Mapping[str, Any]
    rate: float
    decay: float
    reduced: bool = False


RECIPES: Final[Mapping[str, Recipe]] = {
    "clever2018-mnist-mlp": Recipe(
        "MLP 784-1024-10 of the CLEVER paper",
        "mlp",
        {"inputs": 784, "hidden": [1024], "outputs": 10, "activation": "softplus", "beta": 10.0},
        rate=0.1,
        decay=1e-3,
    ),
    "clever2018-mnist-cnn": Recipe(
        "Seven-layer CNN of the CLEVER paper", "seven_layer_cnn", {}, rate=0.01, decay=1e-6, reduced=True
    ),
}


def train(recipe: Recipe, *, epochs: int, seed: int = 0) -> tuple[dict[str, Tensor], float]:
    """Train one network from scratch.

    Args:
        recipe: How.
        epochs: Passes over the training images.
        seed: Of the initial weights, the order of the images and dropout.

    Returns:
        The state dict, float32, and the accuracy on the validation images.
    """
    images, labels = mnist("train")
    x, y = torch.from_numpy(images / 255.0).float(), torch.from_numpy(labels.copy())
    transform = preprocessing.build(PREPROCESSING)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = architectures.build(recipe.architecture, recipe.arguments).train()
        network.apply(_as_keras)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster, and nothing else
        optimiser = torch.optim.SGD(network.parameters(), lr=recipe.rate, momentum=0.9, nesterov=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (1 + recipe.decay * step))
        for epoch in range(epochs):
            total = 0.0
            order = VALIDATION + torch.randperm(len(x) - VALIDATION, generator=generator)
            for batch in torch.split(order, BATCH):
                with torch.autocast("cpu", torch.bfloat16, enabled=recipe.reduced):
                    logits = network(transform(x[batch]))
                loss = functional.cross_entropy(logits.float(), y[batch])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += float(loss.detach()) * len(batch)
            print(f"epoch {epoch + 1} of {epochs}: loss {total / len(order):.4f}", flush=True)
    network.eval()
    with torch.no_grad():
        right = network(transform(x[:VALIDATION])).argmax(dim=1) == y[:VALIDATION]
    state = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    return state, float(right.float().mean())


def _as_keras(module: nn.Module) -> None:
    """Glorot's uniform weights and zero biases."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


def write(slug: str, state: Mapping[str, Tensor], folder: Path, notes: str) -> Entry:
    """Write a network's weights and its card into ``folder/<slug>``; returns the entry that the card describes."""
    home = folder / slug
    home.mkdir(parents=True, exist_ok=True)
    file = home / f"{slug}.safetensors"
    file.write_bytes(save(dict(state)))
    recipe = RECIPES[slug]
    entry = Entry(
        slug=slug,
        title=recipe.title,
        dataset="mnist",
        form="weights",
        folder=home,
        authors=("The Curveboard developers",),
        paper="https://arxiv.org/abs/1801.10578",
        year=2026,
        licence="MIT",
        architecture=recipe.architecture,
        arguments=recipe.arguments,
        preprocessing=PREPROCESSING,
        training_method="Standard training",
        notes=notes,
        weights=(Weights(file.name, sha256_of(file), file.stat().st_size),),
    )
    (home / "model.toml").write_text(tomli_w.dumps(card_table(entry)), encoding="utf-8")
    return entry


def main() -> None:
    """Train what the command line asks for."""
    parser = argparse.ArgumentParser(description="Train the two MNIST networks of the CLEVER paper.")
    parser.add_argument("folder", type=Path, help="where the cards and weights go")
    parser.add_argument("--only", choices=sorted(RECIPES), help="one of the two")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for slug, recipe in RECIPES.items():
        if options.only in {None, slug}:
            state, accuracy = train(recipe, epochs=options.epochs, seed=options.seed)
            notes = f"Trained for {options.epochs} epochs with seed {options.seed}; validation accuracy {accuracy:.4f}."
            write(slug, state, options.folder, notes)
            print(f"{slug}: {notes}")


if __name__ == "__main__":
    main()
