"""Reads numeric arrays from MATLAB files of version 5 to 7: nothing else, and nothing on trust.

Written here because changing single bytes of a file can crash ``scipy.io.loadmat`` (a segmentation fault), and the
process that reads strangers' weights must survive them. The format is MathWorks' "MAT-File Format", level 5: a header
of 128 bytes, then elements of a type, a size and data; zlib-packed or not.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_UNPACKED: Final = 4 << 30
"""Most bytes that one array may have."""

HEADER: Final = 128
MATRIX, COMPRESSED = 14, 15
NUMBERS: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Types of stored numbers."""

CLASSES: Final = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function", 17: "opaque"}
"""Classes of arrays that are not numeric; 6 to 15 are."""

COMPLEX: Final = 0x0800


class MatlabError(ValueError):
    """A file that is not sound, or holds something other than numeric arrays where those are wanted."""


@dataclass(frozen=True)
class _Matrix:
    """The beginning of a matrix: what it is, and where its numbers begin."""

    name: str
    shape: tuple[int, ...]
    kind: int
    is_complex: bool
    numbers: int


def read_matlab(content: bytes, *, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays called ``wanted``.

    Args:
        content: The whole file.
        wanted: Names of numeric arrays.

    Returns:
        The arrays by name, in the types in which they are stored.

    Raises:
        MatlabError: If the file is not of this format, is cut or damaged, lacks an array, or holds it as something else
            than real numbers; or if an array has more than `MAX_UNPACKED` bytes.
    """
    if len(content) < HEADER or content[126:128] not in (b"IM", b"MI") or content[124:126] not in (b"\0\1", b"\1\0"):
        raise MatlabError("it is no MATLAB file of version 5 to 7; save it with: save('w.mat', '-v7', …)")
    order = "<" if content[126:128] == b"IM" else ">"
    found: dict[str, NDArray[Any]] = {}
    names = []
    try:
        for packed, element in _elements(content, order):
            matrix = _beginning(_unpacked(element, 4096) if packed else element, order, skip_tag=packed)
            names.append(matrix.name)
            if matrix.name in wanted and matrix.name not in found:
                found[matrix.name] = _numbers(matrix, element, order, packed=packed)
    except (struct.error, zlib.error, UnicodeDecodeError, IndexError, KeyError) as error:
        raise MatlabError(f"it is cut or damaged ({type(error).__name__})") from error
    if missing := [name for name in wanted if name not in found]:
        raise MatlabError(f"it has no array {missing[0]!r}; it has {', '.join(map(repr, names)) or 'none'}")
    return found


def _elements(content: bytes, order: str) -> Iterator[tuple[bool, memoryview]]:
    """The top-level matrices: whether each is packed, and its data."""
    view, at = memoryview(content), HEADER
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}2I", view, at)
        at += 8
        if at + size > len(content):
            raise MatlabError(f"it is cut: an array of {size} bytes begins {len(content) - at} bytes before the end")
        if kind in (MATRIX, COMPRESSED):
            yield kind == COMPRESSED, view[at : at + size]
        at += size if kind == COMPRESSED else -(-size // 8) * 8


def _unpacked(element: memoryview, limit: int) -> memoryview:
    return memoryview(zlib.decompressobj().decompress(element, limit))


def _part(data: memoryview, at: int, order: str) -> tuple[int, int, int, int]:
    """One part of a matrix: its type, where its data begin, their size, and where the next part begins."""
    (word,) = struct.unpack_from(f"{order}I", data, at)
    if word >> 16:  # up to four bytes of data share the tag
        return word & 0xFFFF, at + 4, word >> 16, at + 8
    (size,) = struct.unpack_from(f"{order}I", data, at + 4)
    return word, at + 8, size, at + 8 + -(-size // 8) * 8


def _beginning(data: memoryview, order: str, *, skip_tag: bool) -> _Matrix:
    """Flags, shape and name; the data of a packed matrix begin with its own tag."""
    at = 8 if skip_tag else 0
    if skip_tag and struct.unpack_from(f"{order}I", data, 0)[0] != MATRIX:
        raise MatlabError("it holds a packed element that is no array")
    _, flags, _, at = _part(data, at, order)
    (word,) = struct.unpack_from(f"{order}I", data, flags)
    _, begin, size, at = _part(data, at, order)
    if size > 4 * 32:
        raise MatlabError(f"it holds an array of {size // 4} axes")
    shape = struct.unpack_from(f"{order}{size // 4}i", data, begin)
    _, begin, size, at = _part(data, at, order)
    name = bytes(data[begin : begin + size]).decode("ascii")
    return _Matrix(name, shape, word & 0xFF, bool(word & COMPLEX), at)


def _numbers(matrix: _Matrix, element: memoryview, order: str, *, packed: bool) -> NDArray[Any]:
    count = math.prod(matrix.shape)
    if matrix.kind not in range(6, 16) or matrix.is_complex:
        kind = "complex numbers" if matrix.is_complex else f"a {CLASSES.get(matrix.kind, 'thing of unknown kind')}"
        raise MatlabError(f"it holds {matrix.name!r} as {kind}; only real numeric arrays are read")
    if any(n < 0 for n in matrix.shape) or count * 8 > MAX_UNPACKED:
        raise MatlabError(f"it holds {matrix.name!r} of shape {matrix.shape}, more than {MAX_UNPACKED} bytes unpacked")
    # No number is stored in more than eight bytes, so this much is enough for an honest file.
    data = _unpacked(element, matrix.numbers + 16 + 8 * count) if packed else element
    stored, begin, size, _ = _part(data, matrix.numbers, order)
    dtype = np.dtype(f"{order}{NUMBERS[stored]}")
    if size != count * dtype.itemsize or begin + size > len(data):
        raise MatlabError(f"its array {matrix.name!r} has {size} bytes, its shape {matrix.shape} says otherwise")
    return np.frombuffer(data[begin : begin + size], dtype=dtype).reshape(matrix.shape, order="F")
