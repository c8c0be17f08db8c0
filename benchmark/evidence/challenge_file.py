"""The file that a challenger brings: hostile input, bounded in size, nothing in it is ever executed."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data import Dataset
from benchmark.errors import InputError
from benchmark.evidence.container import parse_npy
from models_zoo.errors import ZooError

ARRAYS: Final = ("indices", "examples")
SUFFIXES: Final = (".npz", ".safetensors", ".pt", ".pth")
_HEADERS: Final = 1 << 20
"""Bytes that a file may have beside its numbers."""


@dataclass(frozen=True)
class ChallengeFile:
    """What a file claims.

    Attributes:
        name: Its name.
        sha256: Digest of its bytes.
        indices: Positions in the dataset, shape (m,), int64, unchecked.
        examples: Claimed adversarial examples, shape (m, c, h, w), float32, unchecked.
    """

    name: str
    sha256: str
    indices: NDArray[np.int64]
    examples: NDArray[np.float32]


def read_file(path: Path, dataset: Dataset) -> ChallengeFile:
    """Read a challenger's file as hostile input: bounded in size, nothing in it is executed.

    Args:
        path: ``.npz``, ``.safetensors`` or ``.pt`` with the arrays ``indices`` (m,) and ``examples`` (m, c, h, w).
        dataset: What the examples are of: a file that is larger than all of it in float64 is refused.

    Raises:
        InputError: If it is of another format, too large, damaged, holds objects, or has not these two arrays.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path.name}: a challenge is one of {', '.join(SUFFIXES)}.")
    try:
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        size = path.stat().st_size
        limit = 8 * dataset.size * (math.prod(dataset.shape) + 1) + _HEADERS
        if size > limit:
            raise InputError(f"{path.name} has {size} bytes, more than the whole dataset needs ({limit}).")
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        arrays = _read_npz(path, limit) if path.suffix.lower() == ".npz" else _read_tensors(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise InputError(
            f"{path.name} has no array {' and no '.join(missing)}; it holds {', '.join(sorted(arrays)) or 'nothing'}. "
            "A challenge has indices (m,) and examples (m, c, h, w)."
        )
    return ChallengeFile(path.name, sha256, _indices(path, arrays["indices"]), _examples(path, arrays))


def _indices(path: Path, indices: NDArray[Any]) -> NDArray[np.int64]:
    if indices.ndim != 1 or indices.dtype.kind not in "iu" or not len(indices):
        raise InputError(
            f"{path.name}: indices are whole numbers of shape (m,), at least one; got {indices.dtype} {indices.shape}."
        )
    if indices.dtype == np.uint64:  # beyond int64 means out of range anyway
        indices = np.minimum(indices, np.uint64(np.iinfo(np.int64).max))
    return np.ascontiguousarray(indices, dtype=np.int64)


def _examples(path: Path, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    examples = arrays["examples"]
    if examples.ndim != 4 or examples.dtype.kind != "f" or len(examples) != len(arrays["indices"]):
        raise InputError(
            f"{path.name}: examples are floats in [0, 1] of shape ({len(arrays['indices'])}, c, h, w), one for each "
            f"index; got {examples.dtype} {examples.shape}."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(examples, dtype=np.float32)


def _read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """``.safetensors`` and ``.pt`` by the zoo's readers of strangers' files."""
    from models_zoo.formats.weights import read_arrays

    try:
        tensors = read_arrays(path, path.name)
    except ZooError as error:
        raise InputError(f"{path.name} was not read: {error}") from error
    if "examples" in tensors and tensors["examples"].dtype == torch.bfloat16:
        tensors["examples"] = tensors["examples"].float()
    try:
        return {name: tensors[name].numpy() if name in ARRAYS else np.empty(0) for name in tensors}
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{path.name}: {error}. Save plain float32 and int64 tensors.") from error


def _read_npz(path: Path, limit: int) -> dict[str, NDArray[Any]]:
    """The two arrays of a ``.npz``: each member's header is read, and compared with its size, before its numbers."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
            names = {name: np.empty(0) for name in members}
            return names | {
                name: parse_npy(_bounded(archive, members[name], limit), f"{path.name}: {name}", kinds="fiu")
                for name in ARRAYS
                if name in members
            }
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"{path.name} is no sound npz file: {error}.") from error


def _bounded(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    with archive.open(member) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{member.filename} unpacks to more than {limit} bytes, which is more than the whole dataset.")
    return data
