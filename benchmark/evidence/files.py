"""Where the files of a store lie: a folder here, or a place that fsspec reaches, which is imported only then. No torch.

Names are relative, ``ab/ab12….safetensors``. A file appears complete or not at all, whoever is killed while writing it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from benchmark.errors import EvidenceError

TEMPORARY: Final = ".writing-"
"""How the names of files begin that are being written; one that stays behind after a kill is garbage."""

FRESH: Final = 60.0
"""Seconds for which a remote file counts as just written, and is not written again."""

_WHOLE: Final = {"abfs", "adl", "az", "gcs", "gs", "memory", "s3", "s3a"}
"""Protocols of object stores: an upload appears when it is complete. Elsewhere a file is written aside and renamed."""

_PACKAGES: Final = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_PACKAGES_MORE: Final = {"sftp": "paramiko", "ssh": "paramiko", "http": "aiohttp", "https": "aiohttp"}


@dataclass(frozen=True)
class StoredFile:
    """A file of a store.

    Attributes:
        name: Its name in the store.
        bytes: Its size.
        age: Seconds since it was written; 0.0 where the store does not tell, so that it counts as new.
    """

    name: str
    bytes: int
    age: float


class Files(Protocol):
    """Files by name. Every method raises `EvidenceError`, in words, for what the place refuses."""

    def where(self, name: str) -> str:
        """The full path or address of a file."""

    def read(self, name: str) -> bytes | None:
        """Its bytes; None if it is not there."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; one that is there with these bytes counts as written now."""

    def has(self, name: str) -> bool:
        """Whether it is there."""

    def list(self) -> Iterator[StoredFile]:
        """All files, those half-written too, by name."""

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""

    def require(self) -> None:
        """Raise unless files can be written, read and deleted here."""


def files_at(place: Path | str) -> Files:
    """The files in a folder or at an fsspec URL (``s3://bucket/folder``, ``sftp://host/folder``, ``file:///folder``)."""
    text = str(place)
    if "://" not in text:
        return LocalFiles(Path(place))
    protocol, _, path = text.partition("://")
    if protocol in {"file", "local"}:
        return LocalFiles(Path(path))
    return RemoteFiles(text)


class LocalFiles:
    """Files in a folder, which is made when the first one is written.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def where(self, name: str) -> str:
        """The path of a file."""
        return str(self.folder / name)

    def read(self, name: str) -> bytes | None:
        """Its bytes; None if it is not there."""
        with _local_words("read", self.folder, name):
            try:
                return (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write beside the target, flush to the disk, rename; touch a file that is there with these bytes."""
        target = self.folder / name
        with _local_words("written", self.folder, name):
            if target.is_file() and target.read_bytes() == data:
                os.utime(target)  # it is in use again: the garbage collector spares what is new
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_durably(target, data)

    def has(self, name: str) -> bool:
        """Whether it is there."""
        return (self.folder / name).exists()

    def list(self) -> Iterator[StoredFile]:
        """All files of the folder's subfolders, sorted by name."""
        for target in sorted(self.folder.glob("??/*")):
            with contextlib.suppress(FileNotFoundError):
                seen = target.stat()
                yield StoredFile(f"{target.parent.name}/{target.name}", seen.st_size, time.time() - seen.st_mtime)

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""
        with _local_words("deleted", self.folder, name):
            (self.folder / name).unlink(missing_ok=True)

    def require(self) -> None:
        """Raise unless the folder can be written, or made."""
        place = self.folder
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise EvidenceError(
                f"The evidence cannot be written to {self.folder}: {place} is "
                f"{'not writable' if place.is_dir() else 'no folder'}. Nothing was computed; give this user write "
                "permission there, or name another place (artifacts in curveboard.toml)."
            )


class RemoteFiles:
    """Files at an address that fsspec understands.

    Args:
        url: Their folder's address.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._protocol = url.partition("://")[0]
        self._opened: tuple[Any, str] | None = None

    def where(self, name: str) -> str:
        """The address of a file."""
        return f"{self.url}/{name}"

    def read(self, name: str) -> bytes | None:
        """Its bytes; None if it is not there."""
        with self._words("read", name):
            system, root = self._open()
            try:
                data: bytes = system.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return None
            return data

    def write(self, name: str, data: bytes) -> None:
        """Upload a file, unless it has just been written; an old one again, so that it counts as new and is whole."""
        with self._words("written", name):
            system, root = self._open()
            target = f"{root}/{name}"
            system.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                seen = system.info(target)
                if seen.get("size") == len(data) and 0 < _age(system, target, seen) < FRESH:
                    return
            if self._protocol in _WHOLE:
                system.pipe_file(target, data)
                return
            folder = target.rpartition("/")[0]
            system.makedirs(folder, exist_ok=True)
            aside = f"{folder}/{TEMPORARY}{uuid.uuid4().hex}"
            try:
                system.pipe_file(aside, data)
                system.mv(aside, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    system.rm_file(aside)
                raise

    def has(self, name: str) -> bool:
        """Whether it is there."""
        with self._words("looked for", name):
            system, root = self._open()
            system.invalidate_cache()
            try:
                system.info(f"{root}/{name}")  # not exists(), which takes a refusal for an absence
            except FileNotFoundError:
                return False
            return True

    def list(self) -> Iterator[StoredFile]:
        """All files, sorted by name."""
        with self._words("listed", ""):
            system, root = self._open()
            system.invalidate_cache()
            try:
                found = system.find(root, detail=True)
            except FileNotFoundError:
                return
            stored = [
                StoredFile(path[len(root) + 1 :], int(seen.get("size") or 0), _age(system, path, seen))
                for path, seen in sorted(found.items())
                if path.startswith(f"{root}/")
            ]
        yield from stored

    def remove(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""
        with self._words("deleted", name):
            system, root = self._open()
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(f"{root}/{name}")

    def require(self) -> None:
        """Raise unless a small file can be written, read and deleted."""
        name = f"00/{TEMPORARY}{uuid.uuid4().hex}"
        try:
            self.write(name, b"probe")
            if self.read(name) != b"probe":
                raise EvidenceError(f"{self.where(name)} does not hold what was just written there.")
            self.remove(name)
        except EvidenceError as error:
            raise EvidenceError(f"The store of evidence cannot be used: {error} Nothing was computed.") from error

    def _open(self) -> tuple[Any, str]:
        """The file system, and the folder's path in it; opened once, in the process that uses it."""
        if self._opened is None:
            import fsspec

            try:
                system, root = fsspec.url_to_fs(self.url)
            except ImportError as error:
                package = (_PACKAGES | _PACKAGES_MORE).get(self._protocol)
                advice = f"pip install {package}" if package else "see the documentation of fsspec"
                raise EvidenceError(f"{self.url} needs a package that is not installed: {advice} ({error}).") from error
            except ValueError as error:
                raise EvidenceError(
                    f"{self.url} is no address of files: {error}. Give artifacts as a folder, or an fsspec URL such "
                    "as s3://bucket/folder."
                ) from error
            self._opened = system, root.rstrip("/")
        return self._opened

    @contextlib.contextmanager
    def _words(self, done: str, name: str) -> Iterator[None]:
        try:
            yield
        except EvidenceError:
            raise
        except Exception as error:  # each protocol's client has exceptions of its own
            cause = str(error).strip() or type(error).__name__
            raise EvidenceError(
                f"{self.where(name)} cannot be {done}: {cause}. Check the address (artifacts in curveboard.toml), the "
                "network and this machine's credentials and rights, then run the command again."
            ) from error


def _age(system: Any, path: str, seen: dict[str, Any]) -> float:
    """Seconds since a file was written, as far as the file system tells; 0.0 if it does not."""
    written = next((seen[key] for key in ("LastModified", "mtime", "updated", "last_modified") if key in seen), None)
    if written is None:
        with contextlib.suppress(NotImplementedError, OSError):
            written = system.modified(path)
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    if isinstance(written, datetime):
        written = (written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp()
    return 0.0 if written is None else max(time.time() - float(written), 1e-3)


@contextlib.contextmanager
def _local_words(done: str, folder: Path, name: str) -> Iterator[None]:
    """An error of the operating system, in words and with what to do."""
    try:
        yield
    except OSError as error:
        cause = f"The evidence file {folder / name} cannot be {done}: {error.strerror or error}."
        advice = "Check the disk, then run the command again."
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            advice = "Make room (curveboard gc deletes what the ledger does not need), then run the command again."
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            advice = f"Give this user write permission on {folder}, then run the command again."
        raise EvidenceError(f"{cause} {advice}") from error


def _write_durably(target: Path, data: bytes) -> None:
    """Write beside the target, flush to the disk, rename: a kill or a power cut leaves the old file or the new one."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
