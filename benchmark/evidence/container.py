"""The file of a bundle: a zip archive with a manifest, read as hostile input.

Nothing is unpacked to a path that the archive names: members are read into memory one at a time, each bounded by the
size that the manifest states and checked against its digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import InputError

MANIFEST: Final = "bundle.json"
MAX_MANIFEST: Final = 64 << 20
MAX_PACKED: Final = 256 << 20
"""Bytes to which one compressed member may unpack: 256 MiB hold 30 million distances."""
MAX_MEMBERS: Final = 200_000

_NAME = re.compile(r"(arrays|dataset|evidence|tables|weights)/[A-Za-z0-9_-][A-Za-z0-9._-]{0,120}")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every member, so that equal content makes equal bytes."""


def write_container(path: Path, manifest: Mapping[str, Any], members: Iterable[tuple[str, bytes]]) -> None:
    """Write a bundle; it appears complete or not at all.

    Args:
        path: Where.
        manifest: JSON values; the members' sizes and digests are added as ``members``.
        members: Names and contents; read one at a time.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=".bundle-")
        try:
            with os.fdopen(descriptor, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
                table = {}
                for member, data in members:
                    table[member] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    _add(archive, member, data)
                text = json.dumps({**manifest, "members": table}, sort_keys=True, ensure_ascii=False, allow_nan=False)
                _add(archive, MANIFEST, text.encode())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise InputError(f"The bundle {path} cannot be written: {error.strerror or error}.") from error


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, date_time=_EPOCH)
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    archive.writestr(member, data, compress_type=zipfile.ZIP_DEFLATED if _is_packed(name) else zipfile.ZIP_STORED)


def _is_packed(name: str) -> bool:
    """Whether a member is compressed; the others are so already, or do not shrink."""
    return name.startswith(("arrays/", "dataset/", MANIFEST))


class Container:
    """A bundle opened for reading.

    Args:
        path: The file.

    Attributes:
        manifest: Its manifest.
        sha256: Digest of the whole file.

    Raises:
        InputError: If it is no bundle, or has anything in it that a bundle has not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as stream:
                self.sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            self._archive = zipfile.ZipFile(path)
        except OSError as error:
            raise InputError(f"The bundle {path} cannot be read: {error.strerror or error}.") from error
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise InputError(f"{path} is no bundle: {error}.") from error
        try:
            members = self._archive.infolist()
            self._check(members)
            text = self._read(self._archive.getinfo(MANIFEST), MAX_MANIFEST)
            self.manifest: dict[str, Any] = _parse_manifest(text)
            self._table = _table(self.manifest.get("members"))
            self._compare({m.filename: m.file_size for m in members if m.filename != MANIFEST})
        except InputError as error:
            self._archive.close()
            raise InputError(f"The bundle {path} was refused: {error}") from None

    def __enter__(self) -> Container:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._archive.close()

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def read(self, name: str) -> bytes:
        """A member's bytes, its size and digest verified; raises `InputError` if they are others."""
        if name not in self._table:
            raise InputError(f"The bundle {self.path} has no member {name!r}.")
        size, digest = self._table[name]
        data = self._read(self._archive.getinfo(name), size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != digest:
            raise InputError(f"The bundle {self.path} is damaged: {name!r} is not what its manifest says.")
        return data

    def array(self, name: str) -> NDArray[Any]:
        """A member that is a ``.npy`` array of numbers, truth values or texts."""
        return parse_npy(self.read(name), f"{self.path}: {name}", kinds="fiubSU")

    def _check(self, members: list[zipfile.ZipInfo]) -> None:
        names = [member.filename for member in members]
        if len(names) > MAX_MEMBERS:
            raise InputError(f"it has {len(names)} members; at most {MAX_MEMBERS} are read.")
        if len(set(names)) != len(names) or MANIFEST not in names:
            raise InputError(f"it needs one {MANIFEST}, and each name once.")
        for member in members:
            mode = member.external_attr >> 16
            if member.filename != MANIFEST and not _NAME.fullmatch(member.filename):
                raise InputError(f"it has a member {member.filename[:80]!r}, which no bundle has.")
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG} or member.is_dir():
                raise InputError(f"{member.filename!r} is a link or a folder; only files are read.")
            packed = _is_packed(member.filename)
            if member.flag_bits & 1 or member.compress_type != (zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED):
                raise InputError(f"{member.filename!r} is encrypted, or not packed as in a bundle.")
            if packed and member.file_size > MAX_PACKED:
                raise InputError(f"{member.filename!r} would unpack to {member.file_size} bytes.")

    def _compare(self, sizes: Mapping[str, int]) -> None:
        if set(sizes) != set(self._table):
            odd = sorted(set(sizes) ^ set(self._table))
            raise InputError(f"its manifest and its members differ: {', '.join(odd[:5])}.")
        for name, (size, _) in self._table.items():
            if size != sizes[name]:
                raise InputError(f"{name!r} has {sizes[name]} bytes, its manifest says {size}.")

    def _read(self, member: zipfile.ZipInfo, limit: int) -> bytes:
        try:
            with self._archive.open(member) as stream:
                data = stream.read(limit + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{member.filename!r} cannot be unpacked: {error}.") from error
        if len(data) > limit:
            raise InputError(f"{member.filename!r} has more than the {limit} bytes it may have.")
        return data


def _parse_manifest(text: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"its {MANIFEST} is not JSON: {str(error)[:200]}.") from error
    if not isinstance(manifest, dict):
        raise InputError(f"its {MANIFEST} holds no table.")
    return manifest


def _table(members: Any) -> dict[str, tuple[int, str]]:
    try:
        table = {str(name): (int(value["size"]), str(value["sha256"])) for name, value in members.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"its {MANIFEST} does not list the members: {error!r}.") from error
    if any(size < 0 for size, _ in table.values()):
        raise InputError(f"its {MANIFEST} lists a member with a negative size.")
    return table


def parse_npy(data: bytes, where: str, *, kinds: str) -> NDArray[Any]:
    """An array out of the bytes of a ``.npy`` file; the header is compared with the size before memory is taken.

    Args:
        data: The bytes.
        where: What they are, for messages.
        kinds: Letters of the dtype kinds that are taken, for instance ``"fiu"``; objects never are.

    Raises:
        InputError: If they are no such array.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = reader(stream)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise InputError(f"{where} is no sound array: {str(error)[:200]}.") from error
    if dtype.hasobject or dtype.kind not in kinds:
        raise InputError(f"{where} holds {dtype}; only plain values are read, never objects, which could run code.")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise InputError(f"{where} states the shape {shape}, which its {len(data)} bytes do not fill.")
    stream.seek(0)
    array: NDArray[Any] = np.load(stream, allow_pickle=False)
    return array
