"""A board in one file: its settings, database, evidence and submitted models, consistent with each other."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Final

from sqlalchemy import select

from benchmark.errors import InputError
from benchmark.evidence.store import EvidenceStore, unpack
from benchmark.workspace import CONFIG, Workspace
from db.schema import Chunk
from db.session import HEAD, Database

FORMAT: Final = "curveboard-backup/1"
MANIFEST: Final = "backup.json"
DATABASE: Final = "curveboard.db"
MAX_MANIFEST: Final = 64 << 20


@dataclass(frozen=True)
class BackedUp:
    """What a backup holds.

    Attributes:
        path: The file.
        bytes: Its size.
        evidence: Evidence files in it.
        files: Other files of the workspace in it.
    """

    path: Path
    bytes: int
    evidence: int
    files: int


def backup(workspace: Workspace, database: Database, path: Path) -> BackedUp:
    """Write one file from which `restore` makes the workspace anew; evaluators may be at work meanwhile.

    The database is copied by SQLite's own backup, which sees one state of it, the write-ahead log included. Evidence is
    read after that: a file that the copy refers to is on the disk before the row that names it.

    Args:
        workspace: The workspace.
        database: Its database.
        path: The file; it appears whole or not at all.

    Raises:
        InputError: If the database is no SQLite file, or the backup cannot be written.
        EvidenceError: If evidence is missing or damaged: such a backup would be none.
    """
    if database.engine.dialect.name != "sqlite":
        raise InputError(
            f"{database} is kept by a server; back it up with pg_dump, and after that the folder {workspace.artifacts} "
            "(evidence only ever grows). Or copy it into a SQLite file (curveboard db copy) and back that up."
        )
    if not isinstance(workspace.artifacts, Path):
        raise InputError(
            f"The evidence is kept in {workspace.artifacts}; copy that with the store's own tools, after the database."
        )
    if path.exists():
        raise InputError(f"{path} exists already; give another name, or remove it.")
    try:
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".backup-") as scratch:
            copy = Path(scratch) / DATABASE
            _copy(str(database.url.database), copy)
            wanted = _evidence(copy)
            part = Path(scratch) / "archive"
            with tarfile.open(part, "w") as archive:
                counted = _write(archive, workspace, copy, wanted)
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.chmod(0o600)
            part.replace(path)
    except OSError as error:
        raise InputError(f"The backup {path} cannot be written: {error.strerror or error}.") from error
    return BackedUp(path, path.stat().st_size, len(wanted), counted)


def _copy(source: str, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)) as here,
            closing(sqlite3.connect(target)) as there,
        ):
            here.backup(there)
            (said,) = there.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise InputError(f"The database {source} cannot be copied: {error}. See curveboard db check.") from error
    if said != "ok":
        raise InputError(f"The database {source} is damaged ({said}); a backup of it would be none. See db check.")


def _evidence(copy: Path) -> list[str]:
    with Database(f"sqlite:///{copy}").read() as session:
        query = select(Chunk.evidence_digest).where(Chunk.evidence_digest.is_not(None)).distinct()
        return sorted(digest for digest in session.scalars(query) if digest)


def _write(archive: tarfile.TarFile, workspace: Workspace, copy: Path, wanted: list[str]) -> int:
    store, table, files = EvidenceStore(workspace.artifacts), {}, 0

    def add(name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o600
        archive.addfile(member, BytesIO(data))
        table[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    member = archive.gettarinfo(copy, DATABASE)
    member.uname = member.gname = ""
    with copy.open("rb") as stream:
        table[DATABASE] = {"size": member.size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}
        stream.seek(0)
        archive.addfile(member, stream)
    for digest in wanted:
        add(f"evidence/{digest}", store.read(digest))  # its digest is verified
    for name, path in _own_files(workspace):
        add(f"files/{name}", path.read_bytes())
        files += 1
    manifest = {"format": FORMAT, "migration": HEAD, "members": table}
    data = json.dumps(manifest, sort_keys=True).encode()
    member = tarfile.TarInfo(MANIFEST)
    member.size = len(data)
    archive.addfile(member, BytesIO(data))
    return files


def _own_files(workspace: Workspace) -> Iterator[tuple[str, Path]]:
    """The workspace's files but the database, the evidence, the site and what programs leave behind."""
    left_out = {workspace.artifacts, workspace.public, workspace.locks}
    for folder, folders, names in os.walk(workspace.root):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if here / name not in left_out and not name.startswith(".") and name != "__pycache__"
        )
        for name in sorted(names):
            path = here / name
            own = not name.startswith((".", DATABASE)) and not name.endswith((".bundle", ".backup"))
            if own and path.is_file() and not path.is_symlink():
                yield path.relative_to(workspace.root).as_posix(), path


def restore(path: Path, root: Path) -> Workspace:
    """Make the workspace anew in an empty folder; every file is checked against the digest that the backup states.

    Args:
        path: The backup.
        root: A folder that is not there, or empty.

    Raises:
        InputError: If it is no backup, is damaged, or the folder holds anything.
    """
    if root.exists() and any(root.iterdir()):
        raise InputError(f"{root} is not empty; a backup is restored into a new folder, and nothing is overwritten.")
    scratch = root.absolute().parent / f".restore-{os.getpid()}-{root.name}"
    try:
        scratch.mkdir(parents=True)
        with tarfile.open(path, "r:") as archive:
            _unpack(archive, path, scratch)
        if root.exists():
            root.rmdir()
        scratch.rename(root)
    except tarfile.TarError as error:
        raise InputError(f"{path} is no backup: {error}.") from error
    except OSError as error:
        raise InputError(f"The backup {path} cannot be restored: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Workspace.load(root)


def _unpack(archive: tarfile.TarFile, path: Path, scratch: Path) -> None:
    members = {member.name: member for member in archive.getmembers()}
    table = _manifest(archive, members.get(MANIFEST), path)
    if set(table) != set(members) - {MANIFEST} or DATABASE not in table or f"files/{CONFIG}" not in table:
        raise InputError(f"The backup {path} is damaged: its members are not those that it lists.")
    for name in sorted(table):
        target = scratch / _place(name, path)
        member = members[name]
        stream = archive.extractfile(member) if member.isreg() else None
        if stream is None:
            raise InputError(f"The backup {path} holds {name!r}, which is no file.")
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with target.open("xb") as file:
            while block := stream.read(1 << 20):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != table[name]:
            raise InputError(f"The backup {path} is damaged: {name!r} is not what it lists.")
    settings = Workspace.load(scratch)
    if not isinstance(settings.artifacts, Path) or not settings.artifacts.is_relative_to(settings.root):
        raise InputError(f"The settings in {path} keep the evidence elsewhere, in {settings.artifacts}.")
    store, evidence = EvidenceStore(settings.artifacts), scratch / "evidence"
    for proof in sorted(evidence.iterdir()) if evidence.is_dir() else []:
        data = proof.read_bytes()
        if store.put_bytes(data, samples=len(unpack(data)[0])).digest != proof.name:
            raise InputError(f"The backup {path} is damaged: {proof.name} has another digest.")
        proof.unlink()
    if evidence.is_dir():
        evidence.rmdir()
    for folder in (settings.artifacts, settings.models, settings.protocols, settings.datasets):
        if folder.is_relative_to(settings.root):
            folder.mkdir(exist_ok=True)
    if settings.database_url != f"sqlite:///{settings.root / DATABASE}":
        raise InputError(f"The settings in {path} name another database than the one that it holds.")


def _manifest(archive: tarfile.TarFile, member: tarfile.TarInfo | None, path: Path) -> dict[str, str]:
    stream = archive.extractfile(member) if member is not None and member.size <= MAX_MANIFEST else None
    try:
        manifest: Any = json.loads(stream.read()) if stream is not None else {}
        if manifest["format"] != FORMAT:
            raise InputError(f"{path} has the format {manifest['format']!r}; this program restores {FORMAT!r}.")
        return {str(name): str(value["sha256"]) for name, value in manifest["members"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is no backup: it has no sound {MANIFEST}.") from error


def _place(name: str, path: Path) -> Path:
    """Where a member goes, inside the folder whatever it is called."""
    parts = PurePosixPath(name).parts
    odd = name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name
    if odd or not (name == DATABASE or (len(parts) > 1 and parts[0] in {"evidence", "files"})):
        raise InputError(f"The backup {path} holds {name[:80]!r}, which no backup has.")
    if parts[0] == "evidence" and (len(parts) != 2 or len(parts[1]) != 64 or not parts[1].isalnum()):
        raise InputError(f"The backup {path} holds {name[:80]!r}, which is no evidence.")
    return Path(*parts[1:]) if parts[0] == "files" else Path(name)
