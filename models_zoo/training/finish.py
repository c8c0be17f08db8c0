"""From trained weights to a submission folder: the weights, a card that says how they came about, the log."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save
from torch import nn

from benchmark.data import get_dataset
from models_zoo.cards import Entry, Weights, check_slug
from models_zoo.catalogue import CARD
from models_zoo.errors import CardError
from models_zoo.fetch import sha256_of
from models_zoo.loading import preprocessing_of
from models_zoo.submission import write_card
from models_zoo.training.loop import CHECKPOINT, Run, Trained, untrained
from models_zoo.training.recipe import get_recipe
from models_zoo.training.samples import Samples, held_out, training_samples
from models_zoo.training.settings import Settings, from_values

LOG: Final = "training.json"


def finished(run: Run, folder: Path) -> bool:
    """Whether the folder holds the result of this very run."""
    try:
        log = json.loads((folder / LOG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (folder / CARD).is_file() and isinstance(log, dict) and log.get("run") == run.digest


@dataclass(frozen=True)
class About:
    """What a card says besides the run.

    Attributes:
        title: For people; made from the run if empty.
        authors: Their names.
        licence: Of the weights; SPDX where possible.
    """

    title: str = ""
    authors: tuple[str, ...] = ()
    licence: str = ""


def write_submission(run: Run, trained: Trained, folder: Path, *, slug: str, about: About | None = None) -> Entry:
    """Write a folder that ``curveboard submit`` takes.

    Args:
        run: What was trained.
        trained: The result.
        folder: Where to; its checkpoint is removed.
        slug: The model's name.
        about: What else the card says.

    Returns:
        The entry that the card describes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{check_slug(slug)}.safetensors"
    file.write_bytes(save(dict(trained.state)))
    entry = card_of(run, trained, slug=slug, about=about or About(), folder=folder, weights=file)
    write_card(entry)
    log = {"run": run.digest, "kept": trained.kept, "epochs": [dataclasses.asdict(epoch) for epoch in trained.epochs]}
    (folder / LOG).write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return entry


def card_of(run: Run, trained: Trained, *, slug: str, about: About, folder: Path, weights: Path) -> Entry:
    """The entry of a trained network."""
    recipe = get_recipe(run.recipe)
    parameters = from_values(recipe.Parameters, run.parameters, where=run.recipe)
    kept = "" if trained.kept == len(trained.epochs) else f" Weights of epoch {trained.kept}, the best on validation."
    return Entry(
        slug=slug,
        title=about.title or f"{run.architecture}, {recipe.title}, seed {run.seed}",
        dataset=run.dataset,
        form="weights",
        folder=folder,
        authors=about.authors,
        licence=about.licence,
        paper=recipe.paper,
        year=datetime.now(UTC).year,
        architecture=run.architecture,
        arguments=run.built_with,
        preprocessing=run.preprocessing,
        training_method=recipe.title + (f" with AWP {run.settings.awp:g}" if run.settings.awp else ""),
        training_norm=getattr(parameters, "norm", None),
        training_eps=getattr(parameters, "eps", None),
        training_run=run_table(run),
        notes=" ".join([f"Trained by curveboard train, {run.settings.epochs} epochs.{kept}", *trained.notes]),
        weights=(Weights(weights.name, sha256_of(weights), weights.stat().st_size),),
    )


def run_table(run: Run) -> dict[str, Any]:
    """The run as a card states it; None is left out, since TOML has no word for it."""
    table = dataclasses.asdict(run)
    return {
        "recipe": run.recipe,
        "recipe_version": get_recipe(run.recipe).version,
        "seed": run.seed,
        "parameters": _plain(table["parameters"]),
        "settings": _plain(table["settings"]),
    }


def run_of(entry: Entry) -> Run | None:
    """The run that a card states; None if it states none.

    Raises:
        ZooError: If its recipe or a setting is none that there is.
    """
    stated = entry.training_run
    if not stated:
        return None
    recipe, seed = stated.get("recipe"), stated.get("seed")
    if not isinstance(recipe, str) or not isinstance(seed, int) or seed < 0:
        raise CardError(
            f"{entry.slug}: training.run has the recipe {recipe!r} and the seed {seed!r}; it names a recipe and a "
            "whole number, 0 or more, as curveboard train writes them."
        )
    settings = from_values(Settings, stated.get("settings", {}), where=f"{entry.slug}: training.run.settings")
    return Run(
        recipe=recipe,
        dataset=entry.dataset,
        architecture=entry.architecture,
        arguments=entry.arguments,
        parameters=stated.get("parameters", {}),
        settings=settings,
        preprocessing=entry.preprocessing,
        seed=seed,
    )


def _trained_on(run: Run) -> Samples:
    return held_out(training_samples(get_dataset(run.dataset)), run.settings.validation)[0]


def initial_model(entry: Entry) -> nn.Module | None:
    """The model of an entry as its training began, rebuilt from the seed on its card; None if it states no run.

    Raises:
        ZooError: If the run cannot be read, or the network not be built.
    """
    run = run_of(entry)
    if run is None:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        network = untrained(run, lambda: _trained_on(run), torch.device("cpu"))
    return nn.Sequential(preprocessing_of(entry), network) if entry.preprocessing else network


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
