"""The models there are: those of the package and those of workspaces. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from models_zoo.cards import Entry, read_card
from models_zoo.errors import CardError, UnknownEntryError

ENTRIES: Final = Path(__file__).parent / "entries"
WEIGHTS: Final = Path(__file__).parent / "weights"
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


def catalogue(folders: Sequence[Path] = ()) -> Mapping[str, Entry]:
    """All models by slug, sorted.

    Args:
        folders: Folders of further models, each with one folder a model that holds a ``model.toml``.

    Raises:
        CardError: If a card cannot be read, or two models have one slug.
    """
    found = dict(_package_entries())
    for folder in folders:
        for path in sorted(folder.glob(f"*/{CARD}")):
            entry = read_card(path)
            if entry.slug != path.parent.name:
                raise CardError(f"{path} has the slug {entry.slug!r}; its folder is named after it.")
            if entry.slug in found:
                raise CardError(f"{path} has the slug of another model, {entry.slug!r}; rename it and its folder.")
            found[entry.slug] = entry
    return dict(sorted(found.items()))


def get_entry(slug: str, folders: Sequence[Path] = ()) -> Entry:
    """The model called ``slug``.

    Raises:
        UnknownEntryError: If there is none of that name; with the nearest names.
    """
    table = catalogue(folders)
    if slug not in table:
        raise UnknownEntryError("model", slug, table)
    return table[slug]
