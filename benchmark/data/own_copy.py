"""Datasets that may not be downloaded: where the user's own copy lies, and that it stays the same.

Where a file's digest is known, it is demanded. Where none is (a folder of single images), it is recorded on first use,
in the cache, and demanded from then on: what was evaluated once cannot change without being noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from filelock import FileLock

from benchmark.errors import InputError
from benchmark.plugins import workspace_folder
from models_zoo.fetch import cache_folder

FOLDER: Final = "first-use"


def own_copy(name: str, *, needed: str) -> Path:
    """The folder with the user's copy of a dataset: ``$CURVEBOARD_<NAME>``, else ``datasets/<name>`` of the workspace.

    Args:
        name: The dataset's.
        needed: What must lie there, in words.

    Raises:
        InputError: If there is no such folder; the message says what to do.
    """
    variable = f"CURVEBOARD_{name.upper()}"
    stated, root = os.environ.get(variable), workspace_folder()
    path = Path(stated).expanduser() if stated else root / "datasets" / name if root is not None else None
    if path is not None and path.is_dir():
        return path
    seen = f"{path} is no folder" if path is not None else f"{variable} is not set, and no workspace is in use"
    raise InputError(
        f"{name} is not downloaded; it needs a copy of your own, and {seen}. Set {variable} to the folder with "
        f"{needed}, or make datasets/{name} in the workspace a link to it."
    )


def verified_copy(path: Path, digest: str, *, kind: str = "sha256") -> Path:
    """A large file with a known digest, read through once, and again only when its size or time has changed.

    Args:
        path: The file.
        digest: As published, in hexadecimal.
        kind: Which digest that is: ``"md5"`` where its authors have published no other.

    Raises:
        InputError: If it is another file.
    """
    record = Recorded("files", cache_folder())
    facts = path.stat()
    state = f"{facts.st_size} {facts.st_mtime_ns} {digest}"
    key = str(path.resolve())
    if record.known(key) == state:
        return path
    with path.open("rb") as stream:
        seen = hashlib.file_digest(stream, kind).hexdigest()
    if seen != digest:
        name = {"sha256": "SHA-256", "md5": "MD5"}[kind]
        raise InputError(f"{path} has {name} {seen}, expected {digest}: it is cut, or another file.")
    record.replace(key, state)
    return path


class Recorded:
    """Texts by key that outlive the process: a file of lines, of which the last with a key holds.

    Args:
        name: Of the record.
        home: The cache folder.
    """

    def __init__(self, name: str, home: Path) -> None:
        self.path = home / FOLDER / f"{name}.jsonl"
        self._lines: dict[str, str] = {}
        self._read = 0

    def known(self, key: str) -> str | None:
        """What is recorded, also by other processes since the last time; None if nothing is."""
        self._refresh()
        return self._lines.get(key)

    def replace(self, key: str, text: str) -> None:
        """Record, whatever was recorded before."""
        self._append({key: text})

    def demand(self, seen: Mapping[str, str], what: str) -> None:
        """Record texts that are new; refuse those that differ from what is recorded.

        Args:
            seen: Texts by key.
            what: What they are of, for the message.

        Raises:
            InputError: If one differs.
        """
        self._refresh()
        for key, text in seen.items():
            if self._lines.get(key, text) != text:
                raise InputError(
                    f"{what}: {key} has SHA-256 {text}; at its first use it was {self._lines[key]}. Put the old file "
                    f"back; if the old one was wrong, remove {self.path} and evaluate again."
                )
        self._append({key: text for key, text in seen.items() if key not in self._lines})

    def _append(self, new: Mapping[str, str]) -> None:
        if not new:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([key, text]) + "\n" for key, text in new.items())
        self._lines.update(new)

    def _refresh(self) -> None:
        if not self.path.is_file() or self.path.stat().st_size == self._read:
            return
        with self.path.open(encoding="utf-8") as file:
            file.seek(self._read)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break  # another process is writing it
                try:
                    key, text = json.loads(line)
                except ValueError as error:
                    raise InputError(f"{self.path} is damaged ({error}); remove it.") from error
                self._lines[key] = text
                self._read = file.tell()


def digest_of(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
