"""Adversarial examples on disk: small, bit-exact, named by their content. numpy, safetensors and lzma; no torch.

A file holds the examples of one chunk. Its name is the SHA-256 of its bytes, which is checked before anything in it is
parsed. ``docs/evidence.md`` states the format, so that a file can be read without this package.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import lzma
import math
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from benchmark.errors import EvidenceError

FORMAT: Final = "curveboard-evidence/1"
SUFFIX: Final = ".safetensors"
TEMPORARY: Final = ".writing-"
"""How the names of files begin that are being written; one that stays behind after a kill is garbage."""

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
    """A folder of evidence files, ``<folder>/<first two digits>/<digest>.safetensors``.

    Any number of processes may write at once: a file appears complete or not at all, and equal content is one file.

    Args:
        folder: Where the files lie; made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the file of a digest lies, or would lie."""
        if not _DIGEST.fullmatch(digest):
            raise EvidenceError(f"{digest!r} is no evidence digest; one is 64 hexadecimal digits.")
        return self.folder / digest[:2] / f"{digest}{SUFFIX}"

    def put(self, indices: NDArray[np.int64], adversarials: NDArray[np.float32]) -> StoredEvidence:
        """Store adversarial examples; free if they are there already.

        Args:
            indices: The samples' positions in the dataset, shape (m,), int64, each once.
            adversarials: Their examples, shape (m, c, h, w), float32.

        Raises:
            EvidenceError: If shapes or types are not these, or the folder cannot be written (read-only, disk full).
        """
        return self.put_bytes(pack(indices, adversarials), samples=len(indices))

    def put_bytes(self, data: bytes, *, samples: int) -> StoredEvidence:
        """Store the bytes of an evidence file that holds ``samples`` examples; the caller has unpacked or packed it."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        stored = StoredEvidence(digest, len(data), samples)
        try:
            if target.is_file() and target.read_bytes() == data:
                os.utime(target)  # it is in use again: the garbage collector spares what is new
                return stored
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_durably(target, data)
        except OSError as error:
            raise EvidenceError(_words("written", target, error)) from error
        return stored

    def read(self, digest: str) -> bytes:
        """The bytes of a file, its digest verified.

        Raises:
            EvidenceError: If it is missing, unreadable or not the file its name says.
        """
        target = self.path(digest)
        try:
            data = target.read_bytes()
        except FileNotFoundError as error:
            raise EvidenceError(
                f"The evidence file {target} is missing. Restore it from a backup or a bundle (curveboard ingest), "
                "or evaluate the model again."
            ) from error
        except OSError as error:
            raise EvidenceError(_words("read", target, error)) from error
        seen = hashlib.sha256(data).hexdigest()
        if seen != digest:
            raise EvidenceError(
                f"The evidence file {target} is damaged: its SHA-256 is {seen}. It was not parsed. Restore it from a "
                "backup or a bundle (curveboard ingest)."
            )
        return data

    def get(self, digest: str) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Indices, shape (m,), int64, and examples, shape (m, c, h, w), float32, bit for bit as they were put.

        Raises:
            EvidenceError: If the file is missing, damaged or no evidence file.
        """
        return unpack(self.read(digest))

    def digests(self) -> Iterator[str]:
        """The digests of all files in the folder, sorted."""
        for target in sorted(self.folder.glob(f"??/*{SUFFIX}")):
            if _DIGEST.fullmatch(target.stem):
                yield target.stem

    def leftovers(self) -> Iterator[Path]:
        """Files that a killed writer left half-written; also those that a living one is writing now."""
        yield from sorted(self.folder.glob(f"??/{TEMPORARY}*"))

    def remove(self, digest: str) -> None:
        """Delete a file; one that is gone already is no error."""
        target = self.path(digest)
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise EvidenceError(_words("deleted", target, error)) from error


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


def _words(done: str, target: Path, error: OSError) -> str:
    cause = f"The evidence file {target} cannot be {done}: {error.strerror or error}."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{cause} Make room (curveboard gc deletes what the ledger does not need), then run the command again."
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return f"{cause} Give this user write permission on {target.parent.parent}, then run the command again."
    return f"{cause} Check the disk, then run the command again."
