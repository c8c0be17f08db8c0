"""Two folders that take turns: the site, and beside it the one before, which the next build brings up to date.

A board of 1,000 models has some 30,000 files. Making all of them anew (if only as second names) and removing the old
ones takes seconds, so the folders of rows that did not change stay where they are from the build before last.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from benchmark.errors import InputError

MARKER: Final = ".curveboard-site"
"""A file in every built site, naming its rows: only a folder that has it, or an empty one, is ever replaced."""

PATIENCE: Final = 600.0
"""Seconds to wait for another build of the same site."""
_EXCHANGE: Final = 2
"""RENAME_EXCHANGE of Linux' renameat2."""


@dataclass(frozen=True)
class Kept:
    """A row's files in the cache.

    Attributes:
        folder: Where they are.
        key: What the folder is called; equal keys mean equal files.
        names: The files.
    """

    folder: Path
    key: str
    names: frozenset[str]


def refuse_foreign(output: Path) -> None:
    """Raise an `InputError` if ``output`` is something else than a built site, an empty folder or nothing."""
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and not (output / MARKER).is_file())):
        raise InputError(f"{output} exists and is no built site; it is left alone. Give another folder, or remove it.")


@contextmanager
def staged(output: Path, rows: Mapping[str, Kept]) -> Iterator[Path]:
    """A folder with the rows' files that takes the place of ``output`` if all goes well, and vanishes otherwise.

    Args:
        output: The site.
        rows: Path in the site -> the row's files; everything else is for the caller to write.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = output.with_name(f".{output.name}-spare")
    try:
        present = _cleared(folder, rows)
        for path in sorted(rows.keys() - present):
            _link_files(rows[path], folder / path)
        yield folder
        marker = {"note": "This folder is a built site; curveboard publish replaces it."}
        text = json.dumps(marker | {"rows": {path: row.key for path, row in sorted(rows.items())}}, indent=0)
        (folder / MARKER).write_text(text + "\n", encoding="utf-8")
        _swap(folder, output)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _cleared(folder: Path, rows: Mapping[str, Kept]) -> set[str]:
    """Remove all but the rows that are as they should be; returns their paths.

    The marker goes first: a folder without one was left by a build that was killed, and nothing in it is believed.
    """
    folder.mkdir(exist_ok=True)
    marker: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    (folder / MARKER).unlink(missing_ok=True)
    found = {path for path, key in marker.get("rows", {}).items() if path in rows and rows[path].key == key}
    found = {path for path in found if _is_whole(folder / path, rows[path])}
    _remove_others(folder, "", found, {parent for path in found for parent in _parents(path)})
    return found


def _is_whole(folder: Path, row: Kept) -> bool:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries} == row.names
    except OSError:
        return False


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _remove_others(folder: Path, at: str, kept: set[str], above: set[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{at}{entry.name}"
            if path in kept:
                continue
            if path in above:
                _remove_others(Path(entry.path), f"{path}/", kept, above)
            elif entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()


def _link_files(row: Kept, target: Path) -> None:
    target.mkdir(parents=True)
    for name in row.names:
        link_or_copy(row.folder / name, target / name)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where that cannot be done."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _swap(folder: Path, output: Path) -> None:
    """The new site takes its place; the old one becomes the spare."""
    if not output.exists():
        folder.rename(output)
        return
    if _exchanged(folder, output):
        return
    old = _set_aside(output)
    output.rename(old)
    try:
        folder.rename(output)
    except OSError:
        old.rename(output)
        raise
    old.rename(folder)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two folders in one step, where the system can (Linux): a build killed here leaves a whole site."""
    if not sys.platform.startswith("linux"):
        return False
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here = -100  # AT_FDCWD: paths are as they are
    return exchange is not None and exchange(here, os.fsencode(first), here, os.fsencode(second), _EXCHANGE) == 0


def _set_aside(output: Path) -> Path:
    return output.with_name(f".{output.name}-old")


@contextmanager
def exclusively(output: Path) -> Iterator[None]:
    """Hold the lock of this site, and put right what a build that was killed left behind.

    Raises:
        InputError: If another build holds it for longer than `PATIENCE`.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output.with_name(f".{output.name}.lock"))
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        raise InputError(
            f"Another build of {output} has been running for {PATIENCE / 60:.0f} minutes. Wait for it, or end it."
        ) from None
    try:
        _put_right(output)
        yield
    finally:
        lock.release()


def _put_right(output: Path) -> None:
    """A build that was killed between two renames left the old site aside: it comes back, or is removed."""
    for old in (_set_aside(output), *output.parent.glob(f".{output.name}-old-*")):
        if not (old / MARKER).is_file():
            continue
        if output.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(output)
