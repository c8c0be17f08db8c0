"""``curveboard zoo``: the cache of public files, collections of models, and the embedded models' training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.cli.options import Place, place_options, readable_models

if TYPE_CHECKING:
    from models_zoo.fetch import RemoteFile


@click.group()
def command() -> None:
    """Fetch, seed and retrain the zoo's files; add collections of models."""


@command.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@place_options
def seed(place: Place, paths: tuple[Path, ...]) -> None:
    """Take public files that you have already into the cache, so that nothing is downloaded.

    PATHS are files and folders that are searched; what a model or a dataset needs is recognised by size and SHA-256,
    whatever its name. MNIST's files may be gzip-packed.
    """
    from models_zoo.fetch import cache_folder
    from models_zoo.fetch import seed as seed_cache

    found = seed_cache(paths, _wanted(place))
    for file in found:
        click.echo(f"{file.name}  {file.sha256[:16]}")
    click.echo(f"{len(found)} files are now in {cache_folder()}.")


@command.command()
@click.argument("slugs", nargs=-1)
@place_options
def fetch(place: Place, slugs: tuple[str, ...]) -> None:
    """Download the files of the models called SLUGS (all by default) and of their datasets, and verify them."""
    from benchmark.data import get_dataset
    from models_zoo import get_entry
    from models_zoo.fetch import fetch as fetch_file

    folders = _folders(place)
    entries = [get_entry(slug, folders) for slug in slugs] or list(readable_models(folders).values())
    wanted = [w.remote for entry in entries for w in entry.weights if w.urls]
    wanted += [file for entry in entries for file in get_dataset(entry.dataset).files]
    for file in dict.fromkeys(wanted):
        click.echo(f"{file.name}  {fetch_file(file)}")


@command.command()
@click.argument("slugs", nargs=-1)
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder for the weights and the cards."
)
def train(slugs: tuple[str, ...], output: Path) -> None:
    """Train the embedded models called SLUGS (all by default) again, and compare them with those of the package."""
    from models_zoo.catalogue import WEIGHTS
    from models_zoo.errors import UnknownEntryError
    from models_zoo.formats.weights import read_arrays
    from models_zoo.training import digits

    for slug in slugs:
        if slug not in digits.MODELS:
            raise UnknownEntryError("trainable model", slug, digits.MODELS)
    output.mkdir(parents=True, exist_ok=True)
    for slug in slugs or tuple(digits.MODELS):
        state = digits.train_embedded(slug)
        digits.write(slug, state, weights=output, cards=output)
        shipped = read_arrays(WEIGHTS / f"{slug}.safetensors", f"{slug}.safetensors")
        furthest = max(float((state[name] - value).abs().max()) for name, value in shipped.items())
        click.echo(f"{slug}: largest difference from the shipped weights {furthest:.2g}")


@command.command()
@click.argument("names", nargs=-1)
@place_options
def add(place: Place, names: tuple[str, ...]) -> None:
    """Add the models of the collections called NAMES to the workspace; without a name, list the collections.

    They are networks that `curveboard train --grid` has made; each card says how.
    """
    from models_zoo.catalogue import CARD, add_collection, collections

    for name, folder in collections().items() if not names else ():
        click.echo(f"{name}: {len(list(folder.glob(f'*/{CARD}')))} models")
    for name in names:
        added = add_collection(name, place.workspace.models)
        click.echo(f"{name}: {len(added)} models added. Next: curveboard evaluate --protocol analyses")


def _wanted(place: Place) -> list[RemoteFile]:
    """Every public file that a model or a dataset needs."""
    from benchmark.data import all_datasets
    from benchmark.data.corruptions.frost import PHOTOGRAPHS
    from benchmark.data.corruptions.published import PublishedSuite
    from benchmark.data.suites import suites
    from models_zoo.fetch import RemoteFile

    files = [w.remote for entry in readable_models(_folders(place)).values() for w in entry.weights if w.urls]
    for dataset in all_datasets().values():
        files += [*dataset.files, *(file for split in dataset.splits.values() for file in split.files)]
    files += PHOTOGRAPHS
    files += [s.file for s in suites().values() if isinstance(s, PublishedSuite) and isinstance(s.file, RemoteFile)]
    return list(dict.fromkeys(files))


def _folders(place: Place) -> list[Path]:
    """The workspace's folder of models, where there is a workspace."""
    from benchmark.errors import WorkspaceError

    try:
        return [place.workspace.models]
    except WorkspaceError:
        if place.folder is not None:
            raise
        return []
