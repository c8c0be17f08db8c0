"""Which reader a folder or a file is for, and which opener a description names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.data.own import arrays, folders, parquet, tables
from benchmark.data.own.manifest import Opener
from benchmark.data.own.sources import LAYOUTS, FileOpener, Source, Wishes
from benchmark.errors import InputError


def find(path: Path, wishes: Wishes, staging: Path) -> Source:
    """Find out what a path holds.

    Args:
        path: A folder, an ``.npz``, a ``.csv`` or a ``.parquet`` file.
        wishes: What the user said.
        staging: An empty folder for what must be unpacked to be read in parts; it becomes the dataset's.

    Raises:
        InputError: If it holds nothing that is understood.
    """
    path = path.resolve()
    if path.is_file():
        readers = {".npz": arrays.find, ".csv": tables.find, ".parquet": parquet.find}
        if path.suffix.lower() not in readers:
            raise InputError(f"{path} is a {path.suffix or 'file'} that is not understood. {LAYOUTS}")
        return readers[path.suffix.lower()](path, wishes, staging)
    if not path.is_dir():
        raise InputError(f"There is no folder or file {path}.")
    if (path / tables.TABLE).is_file():
        return tables.find(path / tables.TABLE, wishes, staging)
    if any(path.rglob("*.parquet")):
        return parquet.find(path, wishes, staging)
    if packed := sorted(path.glob("*.npz")):
        raise InputError(f"{path} holds {packed[0].name}; give the path of that file.")
    return folders.find(path, wishes, staging)


def opener_of(reading: Mapping[str, Any], home: Path) -> Opener:
    """The opener that a dataset's description names; relative paths are of ``home``."""
    if "array" in reading:
        return arrays.ArrayOpener.of(reading, home)
    return FileOpener(home / reading["folder"], follow_links=bool(reading.get("follow_links", False)))
