"""Adversarial examples in files: small, bit-exact, named by their content. numpy, safetensors and lzma; no torch.

A file holds the examples of one chunk. Its name is the SHA-256 of its bytes, which is checked before anything in it is
parsed. ``docs/evidence.md`` states the format, so that a file can be read without this package.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from benchmark.errors import EvidenceError
from benchmark.evidence.files import TEMPORARY, LocalFiles, files_at
from models_zoo.fetch import cache_folder

FORMAT: Final = "curveboard-evidence/1"
SUFFIX: Final = ".safetensors"
MAX_BYTES: Final = 1 << 30
"""Unpacked size, in bytes, above which a file is refused: no chunk of real images comes near it."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILTERS: Final = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 2, "pb": 2}]
_MEMORY: Final = 64 << 20
"""Bytes of working memory that unpacking may take; our own files need 9 MB."""
_DTYPES = {"indices": "int64", "shape": "int64", "packed": "uint8"}


@dataclass(frozen=True)
class StoredEvidence:
    """A file of adversarial examples in the store.

    Attributes:
        digest: SHA-256 of the file's bytes, in hexadecimal.
        bytes: Size of the file.
        samples: How many examples it holds.
    """

    digest: str
    bytes: int
    samples: int


@dataclass(frozen=True)
class Listed:
    """A file in the store.

    Attributes:
        name: Its name there.
        digest: The digest it is named by; None for one that is half-written.
        bytes: Its size.
        age: Seconds since it was written.
    """

    name: str
    digest: str | None
    bytes: int
    age: float


def pack(indices: NDArray[np.int64], adversarials: NDArray[np.float32]) -> bytes:
    """The bytes of an evidence file.

    The floats are packed losslessly, as xz with its settings for 4-byte values: on the evidence of real attacks a
    quarter smaller than deflate, with or without splitting the floats into planes of bytes.

    Args:
        indices: The samples' positions in the dataset, shape (m,), int64, each once.
        adversarials: Their examples, shape (m, c, h, w), float32.

    Raises:
        EvidenceError: If shapes or types are not these.
    """
    _check(indices, adversarials)
    floats = np.ascontiguousarray(adversarials, dtype="<f4").tobytes()
    packed = lzma.compress(floats, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=_FILTERS)
    tensors: dict[str, NDArray[Any]] = {
        "indices": np.ascontiguousarray(indices),
        "shape": np.array(adversarials.shape, dtype=np.int64),
        "packed": np.frombuffer(packed, dtype=np.uint8),
    }
    return safetensors.numpy.save(tensors, metadata={"format": FORMAT})


def unpack(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The indices and examples in the bytes of an evidence file, bit for bit as they were packed.

    Never unpacks more than the stated shape needs, nor more than `MAX_BYTES`.

    Raises:
        EvidenceError: If the bytes are not an evidence file.
    """
    try:
        tensors = safetensors.numpy.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise EvidenceError(f"This is not an evidence file: {error}.") from error
    dtypes = {name: str(array.dtype) for name, array in tensors.items()}
    if dtypes != _DTYPES:
        raise EvidenceError(f"This is not an evidence file: it holds {dtypes}, expected {_DTYPES}.")
    shape = tuple(int(side) for side in tensors["shape"].ravel()[:5])
    size = 4 * math.prod(shape)
    if len(shape) != 4 or min(shape) < 0 or size > MAX_BYTES or shape[:1] != tensors["indices"].shape:
        raise EvidenceError(f"The evidence file states the shape {shape}; at most {MAX_BYTES} bytes are unpacked.")
    floats = np.frombuffer(_expand(tensors["packed"].tobytes(), size), dtype="<f4")
    adversarials = floats.reshape(shape).astype(np.float32)  # a copy that may be written to
    indices = tensors["indices"]
    _check(indices, adversarials)
    return indices, adversarials


class EvidenceStore:
    """Evidence files in a folder or at an fsspec URL, ``<first two digits>/<digest>.safetensors``.

    Any number of processes, on any machines, may write at once: a file appears complete or not at all, and equal
    content is one file.

    Args:
        place: The folder, made when the first file is written, or an address such as ``s3://bucket/folder``.
        cached: Whether copies of remote files are kept in the user's cache (``$CURVEBOARD_CACHE/evidence``), which may
            be deleted at any time. The digest of a copy is checked whenever it is read.
    """

    def __init__(self, place: Path | str, *, cached: bool = True) -> None:
        self._files = files_at(place)
        remote = cached and not isinstance(self._files, LocalFiles)
        self._cache = LocalFiles(cache_folder() / "evidence") if remote else None

    def where(self, digest: str) -> str:
        """The path or address at which the file of a digest lies, or would lie."""
        return self._files.where(_name(digest))

    def has(self, digest: str) -> bool:
        """Whether there is a file of that digest; what is in it is not looked at."""
        return self._files.has(_name(digest))

    def require(self) -> None:
        """Raise `EvidenceError` unless files can be written here: to be asked before anything is computed."""
        self._files.require()

    def reach(self) -> None:
        """Raise `EvidenceError` unless the store answers; a folder need not be there."""
        self._files.has(_name("0" * 64))

    def put(self, indices: NDArray[np.int64], adversarials: NDArray[np.float32]) -> StoredEvidence:
        """Store adversarial examples; free if they are there already.

        Args:
            indices: The samples' positions in the dataset, shape (m,), int64, each once.
            adversarials: Their examples, shape (m, c, h, w), float32.

        Raises:
            EvidenceError: If shapes or types are not these, or it cannot be written (read-only, disk full, no rights).
        """
        return self.put_bytes(pack(indices, adversarials), samples=len(indices))

    def put_bytes(self, data: bytes, *, samples: int) -> StoredEvidence:
        """Store the bytes of an evidence file that holds ``samples`` examples; the caller has unpacked or packed it."""
        digest = hashlib.sha256(data).hexdigest()
        self._files.write(_name(digest), data)
        return StoredEvidence(digest, len(data), samples)

    def read(self, digest: str) -> bytes:
        """The bytes of a file, its digest verified.

        Raises:
            EvidenceError: If it is missing, unreadable or not the file its name says.
        """
        name = _name(digest)
        if self._cache is not None and self._files.has(name):  # a copy saves the transfer, it does not replace the file
            copy = self._cache.read(name)
            if copy is not None and hashlib.sha256(copy).hexdigest() == digest:
                return copy
        data = self._files.read(name)
        if data is None:
            raise EvidenceError(
                f"The evidence file {self.where(digest)} is missing. Restore it from a backup or a bundle (curveboard "
                "ingest), or evaluate the model again."
            )
        seen = hashlib.sha256(data).hexdigest()
        if seen != digest:
            raise EvidenceError(
                f"The evidence file {self.where(digest)} is damaged: its SHA-256 is {seen}. It was not parsed. Restore "
                "it from a backup or a bundle (curveboard ingest)."
            )
        if self._cache is not None:
            with contextlib.suppress(EvidenceError):  # a full disk costs the copy, not the run
                self._cache.write(name, data)
        return data

    def get(self, digest: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Indices, shape (m,), int64, and examples, shape (m, c, h, w), float32, bit for bit as they were put.

        Raises:
            EvidenceError: If the file is missing, damaged or no evidence file.
        """
        return unpack(self.read(digest))

    def digests(self) -> Iterator[str]:
        """The digests of all files in the store, sorted."""
        for file in self.list():
            if file.digest is not None:
                yield file.digest

    def list(self) -> Iterator[Listed]:
        """All files, and what writers have not finished: killed ones, also those at work now."""
        for file in self._files.list():
            name = file.name.rpartition("/")[2]
            digest = name.removesuffix(SUFFIX)
            if _DIGEST.fullmatch(digest) and file.name == _name(digest):
                yield Listed(file.name, digest, file.bytes, file.age)
            elif name.startswith(TEMPORARY):
                yield Listed(file.name, None, file.bytes, file.age)

    def remove(self, digest: str) -> None:
        """Delete a file; one that is gone already is no error."""
        self.clear(Listed(_name(digest), digest, 0, 0.0))

    def clear(self, file: Listed) -> None:
        """Delete a file that `list` gave; one that is gone already is no error."""
        self._files.remove(file.name)


def _name(digest: str) -> str:
    """The name of a digest's file in its store."""
    if not _DIGEST.fullmatch(digest):
        raise EvidenceError(f"{digest!r} is no evidence digest; one is 64 hexadecimal digits.")
    return f"{digest[:2]}/{digest}{SUFFIX}"


def _check(indices: NDArray[Any], adversarials: NDArray[Any]) -> None:
    if adversarials.ndim != 4 or adversarials.dtype != np.float32:
        raise EvidenceError(
            f"Adversarial examples are float32 of shape (m, c, h, w), got {adversarials.dtype} {adversarials.shape}."
        )
    if indices.shape != adversarials.shape[:1] or indices.dtype != np.int64:
        raise EvidenceError(f"Indices are int64 of shape ({len(adversarials)},), got {indices.dtype} {indices.shape}.")
    if indices.size and (indices.min() < 0 or len(np.unique(indices)) != len(indices)):
        raise EvidenceError("Indices are positions in the dataset, each at most once and none negative.")


def _expand(packed: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes out of ``packed``; never more than one byte beyond them is unpacked."""
    expander = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MEMORY)
    try:
        data = expander.decompress(packed, size + 1)
        while len(data) <= size and not expander.eof and not expander.needs_input:
            data += expander.decompress(b"", size + 1 - len(data))
    except (lzma.LZMAError, EOFError) as error:
        raise EvidenceError(f"The evidence file cannot be unpacked: {error}.") from error
    if len(data) != size or not expander.eof or expander.unused_data:
        raise EvidenceError(f"The evidence file does not unpack to the {size} bytes that its shape needs.")
    return data
