"""Grids of runs: every combination of some choices, from a TOML file.

.. code-block:: toml

    name = "digits"                      # slugs begin with it
    dataset = "digits"
    seeds = [0, 1]                       # a choice with seeds of its own counts more
    authors = ["You"]                    # for the cards, with `licence`

    [settings]                           # of all runs; what a choice says counts more
    epochs = 30
    optimiser = "adamw"
    lr = 2e-3

    [[choices.architecture]]             # one list of choices an axis, each with a label for the slug
    label = "w32"
    architecture = "mlp"
    arguments = { inputs = 64, hidden = [32], outputs = 10 }

    [[choices.method]]
    label = "at"
    recipe = "pgd-at"
    parameters = { eps = 0.1 }
"""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmark.data import get_dataset
from models_zoo.architectures import sized
from models_zoo.cards import check_slug
from models_zoo.errors import TrainingError
from models_zoo.training.finish import About
from models_zoo.training.loop import Run
from models_zoo.training.recipe import get_recipe
from models_zoo.training.settings import Settings, from_values

MOST_RUNS: Final = 10_000
_RUN: Final = ("recipe", "architecture", "arguments", "parameters", "settings", "preprocessing")


@dataclass(frozen=True)
class Grid:
    """A grid.

    Attributes:
        name: What the slugs begin with.
        runs: Every run by its slug, ``name-label-…-s0``.
        labels: For each slug its choice on each axis, the seed among them.
        authors: For the cards.
        licence: For the cards.
    """

    name: str
    runs: Mapping[str, Run]
    labels: Mapping[str, Mapping[str, str]]
    authors: tuple[str, ...] = ()
    licence: str = ""

    def about(self, slug: str) -> About:
        """What the card of a run says besides it: its choices are its title."""
        *choices, seed = self.labels[slug].values()
        return About(f"{' · '.join(choices)} · seed {seed}", self.authors, self.licence)


def read_grid(path: Path) -> Grid:
    """The grid of a TOML file.

    Raises:
        TrainingError: If it cannot be read, names something unknown, or is impossibly large.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"The grid {path} cannot be read: {error}.") from error
    name, dataset = table.pop("name", path.stem), table.pop("dataset", None)
    seeds, common, axes = table.pop("seeds", [0]), table.pop("settings", {}), table.pop("choices", {})
    authors, licence = table.pop("authors", []), table.pop("licence", "")
    if not isinstance(dataset, str) or not isinstance(axes, Mapping) or not axes:
        raise TrainingError(f"The grid {path} needs a dataset and at least one list of [[choices.AXIS]].")
    if table:
        raise TrainingError(f"The grid {path} has no field {sorted(table)[0]!r}.")
    _check_seeds(path, seeds)
    if not (isinstance(authors, list) and all(isinstance(name, str) for name in [*authors, licence])):
        raise TrainingError(f"The grid {path}: authors is {authors!r}, licence {licence!r}; names, and a text.")
    for axis, choices in axes.items():
        _check_axis(path, axis, choices)
    runs: dict[str, Run] = {}
    labels: dict[str, dict[str, str]] = {}
    for chosen in itertools.product(*axes.values()):
        for seed in next((choice["seeds"] for choice in chosen if "seeds" in choice), seeds):
            slug = check_slug("-".join([name, *(choice["label"] for choice in chosen), f"s{seed}"]))
            if slug in runs or len(runs) >= MOST_RUNS:
                raise TrainingError(
                    f"The grid {path} has two runs {slug}, or more than {MOST_RUNS}; give each choice its own label."
                )
            runs[slug] = _run(path, dataset, common, chosen, seed)
            labels[slug] = {a: c["label"] for a, c in zip(axes, chosen, strict=True)} | {"seed": str(seed)}
    return Grid(name, runs, labels, tuple(authors), licence)


def _check_seeds(path: Path, seeds: Any) -> None:
    if not (isinstance(seeds, list) and seeds and all(isinstance(s, int) and s >= 0 for s in seeds)):
        raise TrainingError(f"The grid {path}: seeds is {seeds!r}; it is a list of whole numbers, 0 or more.")


def _check_axis(path: Path, axis: str, choices: Any) -> None:
    if not isinstance(choices, list) or not choices:
        raise TrainingError(f"The grid {path}: choices.{axis} is {choices!r}; it is a list of tables.")
    for choice in choices:
        if not isinstance(choice, Mapping) or not isinstance(choice.get("label"), str):
            raise TrainingError(f"The grid {path}: each of choices.{axis} is a table with a label, got {choice!r}.")
        if unknown := sorted(set(choice) - {*_RUN, "label", "seeds"}):
            raise TrainingError(
                f"The grid {path}: choices.{axis} has no field {unknown[0]!r}; it has {', '.join(_RUN)}."
            )
        if "seeds" in choice:
            _check_seeds(path, choice["seeds"])


def _run(path: Path, dataset: str, common: Mapping[str, Any], chosen: tuple[Mapping[str, Any], ...], seed: int) -> Run:
    merged: dict[str, Any] = {"arguments": {}, "parameters": {}, "settings": {}}
    for choice in chosen:
        for name in _RUN:
            if name in ("arguments", "parameters", "settings"):
                merged[name] = merged[name] | choice.get(name, {})
            elif name in choice:
                merged[name] = choice[name]
    if missing := [name for name in ("recipe", "architecture") if name not in merged]:
        raise TrainingError(f"The grid {path}: no choice names a {missing[0]}.")
    return make_run(
        recipe=merged["recipe"],
        dataset=dataset,
        architecture=merged["architecture"],
        arguments=merged["arguments"],
        parameters=merged["parameters"],
        settings=common | merged["settings"],
        preprocessing=merged.get("preprocessing", ()),
        seed=seed,
    )


def make_run(
    *,
    recipe: str,
    dataset: str,
    architecture: str,
    arguments: Mapping[str, Any],
    parameters: Mapping[str, Any],
    settings: Mapping[str, Any],
    preprocessing: Any = (),
    seed: int = 0,
) -> Run:
    """A run from plain values, checked; settings not given are the recipe's published ones, sizes the dataset's.

    Raises:
        TrainingError: If a name or a value is not one that can be.
        UnknownNameError: If there is no such recipe.
    """
    found = get_recipe(recipe)
    from_values(found.Parameters, parameters, where=f"The recipe {recipe!r}")
    published = dataclasses.asdict(found.settings)
    chosen = from_values(Settings, published | dict(settings), where="settings")
    data = get_dataset(dataset)
    built_with = sized(architecture, arguments, shape=data.shape, classes=data.n_classes)
    return Run(recipe, dataset, architecture, built_with, dict(parameters), chosen, tuple(preprocessing), seed)
