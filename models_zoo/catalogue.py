"""The models there are: those of the package and those of workspaces. No torch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from models_zoo.cards import Entry, read_card
from models_zoo.errors import CardError, UnknownEntryError

ENTRIES: Final = Path(__file__).parent / "entries"
WEIGHTS: Final = Path(__file__).parent / "weights"
COLLECTIONS: Final = Path(__file__).parent / "collections"
CARD: Final = "model.toml"


@cache
def _package_entries() -> Mapping[str, Entry]:
    found = {}
    for path in sorted(ENTRIES.glob("*.toml")):
        entry = read_card(path, folder=WEIGHTS)
        if entry.slug != path.stem:
            raise CardError(f"{path} has the slug {entry.slug!r}; the file is named after it.")
        found[entry.slug] = entry
    return found


def catalogue(folders: Sequence[Path] = (), *, unreadable: list[CardError] | None = None) -> Mapping[str, Entry]:
    """All models by slug, sorted.

    Args:
        folders: Folders of further models, each with one folder a model that holds a ``model.toml``.
        unreadable: Takes what is wrong with cards of ``folders``, whose models are then left out.

    Raises:
        CardError: If a card cannot be read, or two models have one slug, and ``unreadable`` is not given.
    """
    found = dict(_package_entries())
    for path in _cards(folders):
        try:
            entry = _read(path)
            if entry.slug in found:
                raise CardError(f"{path} has the slug of another model, {entry.slug!r}; rename it and its folder.")
        except CardError as error:
            if unreadable is None:
                raise
            unreadable.append(error)
        else:
            found[entry.slug] = entry
    return dict(sorted(found.items()))


def present(folders: Sequence[Path] = ()) -> frozenset[str]:
    """The slugs of all models that there are, whatever their cards say."""
    return frozenset(_package_entries()) | {path.parent.name for path in _cards(folders)}


def collections() -> Mapping[str, Path]:
    """The collections of models that the package brings beside its catalogue, by name: a folder each.

    A workspace has their models once they are added to it (`add_collection`).
    """
    return {path.name: path for path in sorted(COLLECTIONS.iterdir()) if path.is_dir() and any(path.glob(f"*/{CARD}"))}


def add_collection(name: str, models: Path) -> list[str]:
    """Copy a collection's models into a workspace's folder of models; those that are there already stay.

    Args:
        name: The collection.
        models: The workspace's folder of models.

    Returns:
        Slugs of the models that were added.

    Raises:
        UnknownEntryError: If there is no such collection.
        CardError: If another model has a slug of the collection's; nothing is added then.
    """
    if name not in collections():
        raise UnknownEntryError("collection", name, collections())
    source, there = collections()[name], catalogue([models] if models.is_dir() else [])
    entries = [read_card(card) for card in sorted(source.glob(f"*/{CARD}"))]
    for entry in entries:
        if entry.slug in there and there[entry.slug].digest != entry.digest:
            raise CardError(f"The workspace has another model {entry.slug!r}; withdraw or rename it, then add {name}.")
    models.mkdir(exist_ok=True)
    added = [entry.slug for entry in entries if entry.slug not in there]
    for slug in added:
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=models) as staging:
            shutil.copytree(source / slug, Path(staging) / slug).rename(models / slug)
    return added


def get_entry(slug: str, folders: Sequence[Path] = ()) -> Entry:
    """The model called ``slug``; other models' cards are not read.

    Raises:
        UnknownEntryError: If there is none of that name; with the nearest names.
        CardError: If its card cannot be read.
    """
    package = _package_entries()
    own = [path for path in _cards(folders) if path.parent.name == slug]
    if slug in package:
        if own:
            raise CardError(f"{own[0]} has the slug of another model, {slug!r}; rename it and its folder.")
        return package[slug]
    if not own:
        raise UnknownEntryError("model", slug, present(folders))
    if len(own) > 1:
        raise CardError(f"{own[1]} has the slug of another model, {slug!r}; rename it and its folder.")
    return _read(own[0])


def _cards(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(folder.glob(f"*/{CARD}"))


def _read(path: Path) -> Entry:
    entry = read_card(path)
    if entry.slug != path.parent.name:
        raise CardError(f"{path} has the slug {entry.slug!r}; its folder is named after it.")
    return entry
