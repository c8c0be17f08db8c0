"""Trains the embedded zoo: small networks on the 8×8 digits, one a training method.

``python -m models_zoo.training.digits`` trains all of them again (about a minute) and writes weights and cards into
the package; `train_embedded` gives the weights of one. Training runs in float64 in one thread with seeded generators,
so that another machine's rounding moves the float32 weights by next to nothing.

All train on the first 1,297 digits and none has seen the last 500, which are the board's test split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import tomli_w
import torch
from safetensors.torch import save
from torch import Tensor

from models_zoo.cards import Entry, Weights, card_table
from models_zoo.catalogue import ENTRIES, WEIGHTS
from models_zoo.fetch import sha256_of
from models_zoo.training.loop import Run, train
from models_zoo.training.settings import Settings

SETTINGS: Final = Settings(epochs=60, batch_size=64, optimiser="adamw", lr=2e-3, schedule="cosine", dtype="float64")

MLP: Final = {"inputs": 64, "hidden": [128], "outputs": 10}
SMALL: Final = {"inputs": 64, "hidden": [16, 16], "outputs": 10}
KERNELS: Final = {"inputs": 64, "centres": 128, "outputs": 10, "gamma": 0.5}
CONV: Final = {"shape": [1, 8, 8], "channels": [8, 16], "hidden": 64, "classes": 10}


@dataclass(frozen=True)
class Embedded:
    """One model of the embedded zoo.

    Attributes:
        title: For its card.
        method: For its card.
        run: How it is trained.
        paper: Source of the method.
    """

    title: str
    method: str
    run: Run
    paper: str = ""


def _run(
    recipe: str = "standard",
    architecture: str = "mlp",
    arguments: Mapping[str, Any] = MLP,
    *,
    parameters: Mapping[str, Any] | None = None,
    preprocessing: tuple[Mapping[str, Any], ...] = (),
    **settings: Any,
) -> Run:
    chosen = replace(SETTINGS, **settings)
    return Run(recipe, "digits", architecture, arguments, parameters or {}, chosen, preprocessing)


def _adversarial(title: str, norm: str, eps: float, arguments: Mapping[str, Any] = MLP) -> Embedded:
    ball = {"norm": norm, "eps": eps, "step": None, "start": "gaussian"}
    return Embedded(
        title,
        "PGD adversarial training (10 steps)",
        _run("pgd-at", arguments=arguments, parameters=ball, epochs=100),
        "https://arxiv.org/abs/1706.06083",
    )


MODELS: Final[Mapping[str, Embedded]] = {
    "digits-standard": Embedded("MLP 64-128-10", "Standard training", _run()),
    "digits-weight-decay": Embedded("MLP 64-128-10, weight decay", "Weight decay 1", _run(weight_decay=1.0)),
    "digits-dropout": Embedded("MLP 64-128-10, dropout", "Dropout 0.5", _run(dropout=0.5, epochs=150)),
    "digits-cross-lipschitz": Embedded(
        "MLP 64-128-10, Cross-Lipschitz",
        "Cross-Lipschitz regularisation",
        _run("cross-lipschitz", parameters={"weight": 0.02}),
        "https://arxiv.org/abs/1705.08475",
    ),
    "digits-softplus": Embedded(
        "MLP 64-128-10, softplus",
        "Standard training",
        _run(arguments={**MLP, "activation": "softplus", "beta": 10.0}),
    ),
    "digits-adv-linf": _adversarial("MLP 64-128-10, adversarial, linf 0.15", "linf", 0.15),
    "digits-adv-l2": _adversarial("MLP 64-128-10, adversarial, l2 0.8", "l2", 0.8),
    "digits-16-16": Embedded("MLP 64-16-16-10", "Standard training", _run(arguments=SMALL, epochs=100)),
    "digits-16-16-adv-linf": _adversarial("MLP 64-16-16-10, adversarial, linf 0.1", "linf", 0.1, SMALL),
    "digits-conv": Embedded(
        "Small CNN", "Standard training", _run(architecture="small_conv", arguments=CONV, epochs=40)
    ),
    "digits-bit-depth": Embedded(
        "MLP 64-128-10 on 3 bits",
        "Standard training on images of 3 bits",
        _run(preprocessing=({"kind": "bit_depth", "bits": 3},)),
        "https://arxiv.org/abs/1704.01155",
    ),
    "digits-gaussian-kernel": Embedded(
        "128 Gaussian kernels",
        "Standard training, centres at first on training images",
        _run(architecture="gaussian_kernel", arguments=KERNELS, epochs=200),
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


def train_embedded(slug: str) -> Mapping[str, Tensor]:
    """Train one model of the embedded zoo; returns its state dict, float32."""
    with _one_thread():
        return train(MODELS[slug].run).state


def write(slug: str, state: Mapping[str, Tensor], *, weights: Path, cards: Path) -> Entry:
    """Write a model's weights and its card.

    Args:
        slug: Its name.
        state: Its weights.
        weights: Folder of the weights.
        cards: Folder of the cards.

    Returns:
        The entry that the card describes.
    """
    model = MODELS[slug]
    file = weights / f"{slug}.safetensors"
    file.write_bytes(save(dict(state)))
    entry = Entry(
        slug=slug,
        title=model.title,
        dataset="digits",
        form="weights",
        folder=weights,
        authors=("The Curveboard developers",),
        paper=model.paper,
        year=2026,
        licence="MIT",
        architecture=model.run.architecture,
        arguments=model.run.built_with,
        preprocessing=model.run.preprocessing,
        training_method=model.method,
        training_norm=model.run.parameters.get("norm"),
        training_eps=model.run.parameters.get("eps"),
        notes="Trained by models_zoo/training/digits.py on the first 1,297 digits; the last 500 are the test split.",
        weights=(Weights(file.name, sha256_of(file), file.stat().st_size),),
    )
    (cards / f"{slug}.toml").write_text(tomli_w.dumps(card_table(entry)), encoding="utf-8")
    return entry


def main() -> None:
    """Train the whole embedded zoo again, into the package."""
    for slug in MODELS:
        write(slug, train_embedded(slug), weights=WEIGHTS, cards=ENTRIES)
        print(slug)


if __name__ == "__main__":
    main()
