"""A model's folder under another name, and folders in which models are prepared beside those of the workspace."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from models_zoo.cards import read_card
from models_zoo.catalogue import CARD
from models_zoo.errors import CardError
from models_zoo.submission import write_card

STAGING: Final = ".submitting-"
"""How the names of folders begin in which models are prepared; the catalogue does not look into them."""


@contextmanager
def staging(models: Path) -> Iterator[Path]:
    """A folder beside the models, from which one is moved among them in one step; gone at the end.

    It is locked as long as its process lives: `abandoned` finds those of the dead.
    """
    models.mkdir(parents=True, exist_ok=True)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=STAGING, dir=models))
        handle = _locked(folder)
        if handle is not None:
            break  # else somebody took it for abandoned before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextmanager
def abandoned(models: Path) -> Iterator[list[Path]]:
    """The staging folders whose processes have died, ours as long as the block runs."""
    found = {folder: _locked(folder) for folder in sorted(models.glob(f"{STAGING}*")) if folder.is_dir()}
    try:
        yield [folder for folder, handle in found.items() if handle is not None]
    finally:
        for handle in filter(None, found.values()):
            os.close(handle)


def _locked(folder: Path) -> int | None:
    """A handle that holds the folder's lock; None if another process has it, or the folder is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder.stat().st_ino == os.fstat(handle).st_ino:
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


@contextmanager
def named_anew(models: Path, old: str, new: str) -> Iterator[bool]:
    """The model's folder also under its new name while the block runs; the old one goes when the block has succeeded.

    Killed in between, both are there, and the same call finishes it.

    Args:
        models: Folder of the models.
        old: The model's slug.
        new: The slug that it gets.

    Yields:
        Whether there is a folder of the old name.

    Raises:
        CardError: If a folder of the new name holds another model, or the card cannot be read.
    """
    source, target = models / old, models / new
    if not (source / CARD).is_file():
        yield False
        return
    entry, made = read_card(source / CARD), not target.exists()
    if not made and not _is_same(target, entry.digest):
        raise CardError(f"There is {target} already, which is another model; choose another name.")
    with staging(models) as scratch:
        if made:
            shutil.copytree(source, scratch / "model", symlinks=True, copy_function=_linked)
            (scratch / "model" / CARD).unlink()
            write_card(dataclasses.replace(entry, slug=new, folder=scratch / "model"))
            (scratch / "model").rename(target)
        try:
            yield True
        except BaseException:
            if made:
                target.rename(scratch / "model")
            raise
        source.rename(scratch / "old")


def _is_same(folder: Path, digest: str) -> bool:
    with contextlib.suppress(CardError):
        return read_card(folder / CARD).digest == digest
    return False


def _linked(source: str, target: str) -> None:
    """Another name of the file, where the file system has such; else a copy."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
