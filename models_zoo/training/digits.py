"""Trains the embedded zoo: small networks on the 8×8 digits, one a training method.

``python -m models_zoo.training.digits`` trains all of them again (about a minute) and writes weights and cards into
the package; `train` gives the weights of one. Training runs in float64 in one thread with seeded generators, so that
another machine's rounding moves the float32 weights by next to nothing.

All train on the first 1,297 digits and none has seen the last 500, which are the board's test split.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomli_w
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from models_zoo import architectures, preprocessing
from models_zoo.cards import Entry, Weights, card_table
from models_zoo.catalogue import ENTRIES, WEIGHTS
from models_zoo.data import digits
from models_zoo.fetch import sha256_of

Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]

MLP: Final = {"inputs": 64, "hidden": [128], "outputs": 10}
SMALL: Final = {"inputs": 64, "hidden": [16, 16], "outputs": 10}
KERNELS: Final = {"inputs": 64, "centres": 128, "outputs": 10, "gamma": 0.5}
CONV: Final = {"shape": [1, 8, 8], "channels": [8, 16], "hidden": 64, "classes": 10}


def cross_entropy(network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """The mean cross-entropy, with nothing done to the images."""
    return functional.cross_entropy(network(x), y)


def cross_lipschitz(network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, weight: float) -> Tensor:
    """Cross-entropy plus the Cross-Lipschitz regulariser (Hein & Andriushchenko 2017, arXiv:1705.08475, eq. 5).

    The regulariser is the mean over samples and pairs of classes of ‖∇f_l − ∇f_m‖₂²; the sum over the K² pairs is
    2K Σ‖∇f_l‖² − 2‖Σ∇f_l‖².

    Args:
        network: The classifier.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        generator: Unused; all losses have one face.
        weight: Of the regulariser.
    """
    x = x.clone().requires_grad_()
    logits: Tensor = network(x)
    classes = logits.shape[1]
    gradients = torch.stack(
        [torch.autograd.grad(logits[:, k].sum(), x, create_graph=True)[0].flatten(1) for k in range(classes)], dim=1
    )
    pairs: Tensor = 2 * classes * gradients.square().sum(dim=(1, 2)) - 2 * gradients.sum(dim=1).square().sum(dim=1)
    return functional.cross_entropy(logits, y) + weight * pairs.mean() / (classes * classes)


def adversarial(
    network: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, norm: str, eps: float, steps: int = 10
) -> Tensor:
    """Cross-entropy on projected-gradient adversarial examples (Madry et al. 2018, arXiv:1706.06083).

    Args:
        network: The classifier.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        generator: Draws the random starts.
        norm: ``linf`` or ``l2``.
        eps: Perturbation budget.
        steps: Of size 2.5·eps / steps each.
    """
    delta = _inside(torch.randn(x.shape, dtype=x.dtype, generator=generator), norm, eps)
    for _ in range(steps):
        delta = ((x + delta).clamp(0, 1) - x).requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(x + delta), y), delta)
        step = gradient.sign() if norm == "linf" else gradient / _length(gradient).clamp(min=1e-12)
        delta = _inside(delta.detach() + 2.5 * eps / steps * step, norm, eps)
    return functional.cross_entropy(network((x + delta).clamp(0, 1)), y)


def _inside(delta: Tensor, norm: str, eps: float) -> Tensor:
    """The nearest perturbation within the ball."""
    return delta.clamp(-eps, eps) if norm == "linf" else delta * (eps / _length(delta).clamp(min=eps))


def _length(delta: Tensor) -> Tensor:
    return delta.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()


@dataclass(frozen=True)
class Recipe:
    """How one model of the embedded zoo is trained.

    Attributes:
        title: For its card.
        method: For its card.
        architecture: Name of the architecture.
        arguments: What it is built with.
        loss: What is minimised.
        weight_decay: Decoupled, of AdamW.
        epochs: Passes over the training split.
        norm: The norm it is trained to be robust in.
        eps: The budget it is trained for.
        paper: Source of the method.
        preprocessing: Input transformations, of the card, applied in training too.
        start: Changes the initial network, given the training images.
    """

    title: str
    method: str
    architecture: str = "mlp"
    arguments: Mapping[str, Any] = field(default_factory=lambda: MLP)
    loss: Loss = cross_entropy
    weight_decay: float = 0.0
    epochs: int = 60
    norm: str | None = None
    eps: float | None = None
    paper: str = ""
    preprocessing: tuple[Mapping[str, Any], ...] = ()
    start: Callable[[nn.Module, Tensor], None] | None = None


def centres_at_images(network: nn.Module, x: Tensor) -> None:
    """Put a kernel classifier's centres on the first images, flat; its weights start at 0."""
    centres = network.get_parameter("centres")
    centres.data.copy_(x[: len(centres)].flatten(1))


def _adversarial(norm: str, eps: float, **others: Any) -> dict[str, Any]:
    return {
        "method": "PGD adversarial training (10 steps)",
        "loss": functools.partial(adversarial, norm=norm, eps=eps),
        "norm": norm,
        "eps": eps,
        "paper": "https://arxiv.org/abs/1706.06083",
        "epochs": 100,
        **others,
    }


RECIPES: Final[Mapping[str, Recipe]] = {
    "digits-standard": Recipe("MLP 64-128-10", "Standard training"),
    "digits-weight-decay": Recipe("MLP 64-128-10, weight decay", "Weight decay 1", weight_decay=1.0),
    "digits-dropout": Recipe("MLP 64-128-10, dropout", "Dropout 0.5", arguments={**MLP, "dropout": 0.5}, epochs=150),
    "digits-cross-lipschitz": Recipe(
        "MLP 64-128-10, Cross-Lipschitz",
        "Cross-Lipschitz regularisation",
        loss=functools.partial(cross_lipschitz, weight=0.02),
        paper="https://arxiv.org/abs/1705.08475",
    ),
    "digits-softplus": Recipe(
        "MLP 64-128-10, softplus", "Standard training", arguments={**MLP, "activation": "softplus", "beta": 10.0}
    ),
    "digits-adv-linf": Recipe("MLP 64-128-10, adversarial, linf 0.15", **_adversarial("linf", 0.15)),
    "digits-adv-l2": Recipe("MLP 64-128-10, adversarial, l2 0.8", **_adversarial("l2", 0.8)),
    "digits-16-16": Recipe("MLP 64-16-16-10", "Standard training", arguments=SMALL, epochs=100),
    "digits-16-16-adv-linf": Recipe(
        "MLP 64-16-16-10, adversarial, linf 0.1", **_adversarial("linf", 0.1, arguments=SMALL)
    ),
    "digits-conv": Recipe("Small CNN", "Standard training", architecture="small_conv", arguments=CONV, epochs=40),
    "digits-bit-depth": Recipe(
        "MLP 64-128-10 on 3 bits",
        "Standard training on images of 3 bits",
        paper="https://arxiv.org/abs/1704.01155",
        preprocessing=({"kind": "bit_depth", "bits": 3},),
    ),
    "digits-gaussian-kernel": Recipe(
        "128 Gaussian kernels",
        "Standard training, centres at first on training images",
        architecture="gaussian_kernel",
        arguments=KERNELS,
        epochs=200,
        start=centres_at_images,
    ),
}
"""The embedded zoo."""


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(recipe: Recipe, *, seed: int = 0, batch_size: int = 64) -> dict[str, Tensor]:
    """Train one model from scratch, with AdamW and a learning rate that falls from 2e-3 to 0 along a cosine.

    Args:
        recipe: How.
        seed: Of the initial weights, the order of the samples, dropout and the random starts.
        batch_size: Samples a step.

    Returns:
        The state dict, float32.
    """
    images, labels = digits("train")
    x, y = torch.from_numpy(images / 16.0), torch.from_numpy(labels.copy())
    generator = torch.Generator().manual_seed(seed)
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the initial weights and dropout draw from the global generator
        network = architectures.build(recipe.architecture, recipe.arguments).double().train()
        if recipe.start is not None:
            recipe.start(network, x)
        whole = nn.Sequential(preprocessing.build(recipe.preprocessing), network)
        steps = recipe.epochs * -(-len(x) // batch_size)
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(recipe.epochs):
            for batch in torch.split(torch.randperm(len(x), generator=generator), batch_size):
                loss = recipe.loss(whole, x[batch], y[batch], generator)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    return {name: value.detach().float().contiguous() for name, value in network.state_dict().items()}


def write(slug: str, state: Mapping[str, Tensor], *, weights: Path, cards: Path) -> Entry:
    """Write a model's weights and its card.

    Args:
        slug: Name of its recipe.
        state: Its weights.
        weights: Folder of the weights.
        cards: Folder of the cards.

    Returns:
        The entry that the card describes.
    """
    recipe = RECIPES[slug]
    file = weights / f"{slug}.safetensors"
    file.write_bytes(save(dict(state)))
    entry = Entry(
        slug=slug,
        title=recipe.title,
        dataset="digits",
        form="weights",
        folder=weights,
        authors=("The Curveboard developers",),
        paper=recipe.paper,
        year=2026,
        licence="MIT",
        architecture=recipe.architecture,
        arguments=recipe.arguments,
        preprocessing=recipe.preprocessing,
        training_method=recipe.method,
        training_norm=recipe.norm,
        training_eps=recipe.eps,
        notes="Trained by models_zoo/training/digits.py on the first 1,297 digits; the last 500 are the test split.",
        weights=(Weights(file.name, sha256_of(file), file.stat().st_size),),
    )
    (cards / f"{slug}.toml").write_text(tomli_w.dumps(card_table(entry)), encoding="utf-8")
    return entry


def main() -> None:
    """Train the whole embedded zoo again, into the package."""
    for slug, recipe in RECIPES.items():
        write(slug, train(recipe), weights=WEIGHTS, cards=ENTRIES)
        print(slug)


if __name__ == "__main__":
    main()
