"""Database URLs: what is shown of them, and how a SQLite file is opened without making it."""

from __future__ import annotations

import functools
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL

BUSY_SECONDS: Final = 60

_SECRETS: Final = ("password", "passwd", "sslpassword")
_IN_TEXT: Final = (
    (re.compile(r"(://[^/@\s]*?:)[^@\s]*@"), r"\1***@"),
    (re.compile(r"((?:ssl)?pass(?:word|wd)\s*=\s*)[^&;\s]+", re.IGNORECASE), r"\1***"),
)


def shown(url: URL) -> str:
    """The URL without its password, wherever that stands."""
    query = {name: "***" if name.lower() in _SECRETS else value for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def without_password(text: str) -> str:
    """Any text, for instance of an error, without the passwords of URLs and connection strings in it."""
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text


def has_password(text: str) -> bool:
    """Whether a database URL holds a password."""
    return without_password(text) != text


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite database; None for one in memory, one that a URI names, or another kind of database."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith((":memory:", "file:")):
        return None
    return Path(url.database)


def open_sqlite(path: Path, **options: Any) -> sqlite3.Connection:
    """Open a file that is there; one that is missing is not made.

    In a folder that cannot be written SQLite cannot make the files by which readers and writers are coordinated. Where
    no writer has them there, the file is read as it stands; with a log that a dead writer left, in a copy.
    """
    if not path.exists() or os.access(path.parent, os.W_OK):
        return _connect(path, "rw", options)
    connection = _connect(path, "ro", options)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            files = tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in (path, log))
            return _connect(Path(_copied(files).name) / path.name, "rw", options)
        return _connect(path, "ro&immutable=1", options)
    return connection


def _connect(path: Path, mode: str, options: Mapping[str, Any]) -> sqlite3.Connection:
    address = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection: sqlite3.Connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, **options)
    return connection


@functools.lru_cache(maxsize=1)
def _copied(files: tuple[tuple[Path, int, int], ...]) -> tempfile.TemporaryDirectory[str]:
    """A folder with copies of the files, gone when the program ends."""
    folder = tempfile.TemporaryDirectory(prefix="curveboard-read-")
    for file, _, _ in files:
        shutil.copyfile(file, Path(folder.name) / file.name)
    return folder
