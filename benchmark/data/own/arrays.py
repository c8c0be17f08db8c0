"""An ``.npz`` with images and labels, memory-mapped so that a range of rows is read alone."""

from __future__ import annotations

import shutil
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.data.own.pictures import Picture, from_array
from benchmark.data.own.sources import Part, Source, Wishes, split_named
from benchmark.errors import InputError

_NAMES: Final = ("classes", "class_names", "label_names", "names", "categories")
_ROWS: Final = 256
"""Rows that are held at once."""


@dataclass(frozen=True)
class Member:
    """An array in an ``.npz``, by its header alone."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


class ArrayOpener:
    """Pictures that are rows of an array.

    Args:
        array: Shape (n, h, w), (n, h, w, c) or (n, c, h, w), memory-mapped.
        layout: ``nhw``, ``nhwc`` or ``nchw``.
        levels: The value that stands for white.
    """

    def __init__(self, array: NDArray[Any], layout: str, levels: float) -> None:
        self._array, self._layout, self._levels = array, layout, levels

    @classmethod
    def of(cls, reading: Mapping[str, Any], home: Path) -> ArrayOpener:
        """As a dataset's description names it."""
        return cls(map_array(home / reading["file"], reading["array"], home), reading["layout"], reading["levels"])

    def content(self, key: str) -> bytes:
        """The bytes of a row."""
        return bytes(np.ascontiguousarray(self._array[int(key)]).data)

    def glance(self, key: str) -> tuple[int, int, bool]:
        """Size and greyness of the rows, all alike."""
        shape = self._array.shape
        height, width = shape[2:] if self._layout == "nchw" else shape[1:3]
        channels = {"nhw": 1, "nhwc": shape[-1], "nchw": shape[1]}[self._layout]
        return height, width, channels == 1

    def picture(self, key: str) -> Picture:
        """The picture in a row."""
        row = np.asarray(self._array[int(key)])
        if self._layout != "nhwc":
            row = row[..., None] if self._layout == "nhw" else row.transpose(1, 2, 0)
        if row.dtype == np.uint8 and self._levels == 255:
            return from_array(row)
        values = row.astype(np.float64) * (255 / self._levels)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255.5:
            raise InputError(
                f"its values reach from {row.min()} to {row.max()} where {self._levels:g} stands for white; "
                "give --levels, or images that are not normalised"
            )
        return from_array(np.rint(values).astype(np.uint8))


def find(path: Path, wishes: Wishes, staging: Path) -> Source:
    """Arrays of images (3 or 4 axes) with labels of the same length; ``x_train`` and ``x_test`` are splits."""
    members = _members(path)
    parts: dict[str, Part] = {}
    notes: set[str] = set()
    for split, images, labels in _pairs(members, wishes, path):
        layout = _layout(images, wishes, path)
        array = map_array(path, images.name, staging)
        levels = wishes.levels or _levels(array, images, notes)
        reading = {"file": str(path), "array": images.name, "layout": layout, "levels": levels}
        values = _labels(path, labels)
        parts[split] = Part([str(i) for i in range(len(array))], values, ArrayOpener(array, layout, levels), reading)
    return Source("arrays of an .npz", path, parts, _class_names(path, members), sorted(notes))


def _members(path: Path) -> dict[str, Member]:
    """The headers of all arrays."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    with archive.open(info) as file:
                        name = info.filename.removesuffix(".npy")
                        found[name] = Member(name, *_header(file, f"{path}: {name}"))
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an .npz: {error}.") from error
    if not found:
        raise InputError(f"{path} holds no arrays.")
    return found


def _header(file: IO[bytes], subject: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    try:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = reader(file)
    except (ValueError, KeyError) as error:
        raise InputError(f"{subject} is no array of numpy's format: {error}.") from error
    if dtype.hasobject:
        raise InputError(f"{subject} holds pickled Python objects, which are never read; save plain arrays.")
    return tuple(shape), dtype, bool(fortran)


def map_array(path: Path, name: str, home: Path) -> NDArray[Any]:
    """An array of an ``.npz``, memory-mapped; a compressed one is unpacked once, to ``home/<name>.npy``.

    Raises:
        InputError: If the file is missing, cut, or has no such array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            if info.compress_type == zipfile.ZIP_STORED:
                return _mapped(path, _begin_of(path, info), f"{path}: {name}")
            target = home / f"{name}.npy"
            if not target.exists():
                if info.file_size > shutil.disk_usage(home).free:
                    raise InputError(
                        f"{path}: {name} unpacks to {info.file_size:,} bytes; {home} has not so much room."
                    )
                with archive.open(info) as packed, target.with_suffix(".part").open("wb") as out:
                    shutil.copyfileobj(packed, out, 1 << 20)
                target.with_suffix(".part").replace(target)
    except KeyError:
        raise InputError(f"{path} has no array {name!r} any more.") from None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} cannot be read as an .npz: {error}.") from error
    return _mapped(target, 0, str(target))


def _begin_of(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: behind its local header, whose own lengths count."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile(f"no member at byte {info.header_offset}")
        name, extra = struct.unpack("<HH", header[26:30])
    return info.header_offset + 30 + int(name) + int(extra)


def _mapped(path: Path, offset: int, subject: str) -> NDArray[Any]:
    with path.open("rb") as file:
        file.seek(offset)
        shape, dtype, fortran = _header(file, subject)
        begin = file.tell()
    if 0 in shape:
        raise InputError(f"{subject} has shape {shape}: it is empty.")
    return np.memmap(path, dtype, "r", begin, shape, "F" if fortran else "C")


def _pairs(members: Mapping[str, Member], wishes: Wishes, path: Path) -> list[tuple[str, Member, Member]]:
    """Arrays of images with their labels, and the split that their names speak of."""
    shapes = ", ".join(f"{m.name} {m.shape} {m.dtype}" for m in members.values())
    for wanted in (wishes.images, wishes.labels):
        if wanted and wanted not in members:
            raise InputError(f"{path} has no array {wanted!r}; it has {shapes}.")
    images = [m for m in members.values() if (m.name == wishes.images if wishes.images else len(m.shape) in (3, 4))]
    labels = [m for m in members.values() if (m.name == wishes.labels if wishes.labels else _may_be_labels(m))]
    pairs = []
    for of in images:
        split = split_named(of.name)
        fitting = [
            m for m in labels if m.shape[0] == of.shape[0] and (len(images) == 1 or split_named(m.name) == split)
        ]
        if len(fitting) != 1:
            seen = f"{len(fitting)} arrays that could be its labels" if fitting else "no labels of its length"
            raise InputError(f"{path}: {of.name} has {seen} (it has {shapes}). Give --images NAME and --labels NAME.")
        pairs.append((split or "test", of, fitting[0]))
    names = [split for split, _, _ in pairs]
    if not pairs or len(set(names)) < len(names):
        raise InputError(
            f"{path}: which array holds the images? It has {shapes}. Give --images NAME and --labels NAME."
        )
    return pairs


def _may_be_labels(member: Member) -> bool:
    one_axis = len(member.shape) == 1 or (len(member.shape) == 2 and member.shape[1] == 1)
    return one_axis and member.name not in _NAMES and member.dtype.kind in "iuU"


def _layout(images: Member, wishes: Wishes, path: Path) -> str:
    shape = images.shape
    if len(shape) == 3:
        return "nhw"
    fits = [name for name, channels in (("nhwc", shape[-1]), ("nchw", shape[1])) if channels in (1, 3)]
    if wishes.layout:
        fits = [name for name in fits if name == wishes.layout]
    if len(fits) != 1:
        raise InputError(
            f"{path}: {images.name} has shape {shape}; 1 or 3 channels are read, as the last or the second axis. "
            + ("Give --layout nhwc or --layout nchw." if len(fits) > 1 else "")
        )
    return fits[0]


def _levels(array: NDArray[Any], images: Member, notes: set[str]) -> float:
    """What stands for white, by type and values; all rows are looked at, some at a time."""
    if images.dtype.kind not in "biuf":
        raise InputError(f"The images {images.name} are of type {images.dtype}; numbers are needed.")
    blocks = [array[i : i + _ROWS] for i in range(0, len(array), _ROWS)]
    low, high = _extent(blocks)
    if not (low >= 0 and high < np.inf):
        raise InputError(
            f"The images {images.name} have values from {low:g} to {high:g}; give them in [0, 1] or 0 to 255, not "
            "normalised: normalisation belongs to the model (its card's preprocessing)."
        )
    if images.dtype.kind == "b" or (images.dtype.kind == "f" and high <= 1):
        if images.dtype.kind == "f":
            notes.add("The images are floating-point numbers in [0, 1]; they were rounded to 255 levels.")
        return 1.0
    levels = 255.0 if high <= 255 else 65535.0
    if high > levels:
        raise InputError(f"The images {images.name} have values up to {high:g}; give --levels, the value of white.")
    if levels > 255:
        notes.add("The images have 16 bits a channel; they were rounded to 8.")
    if high < 128:
        notes.add(
            f"The largest value is {high:g} where 255 stands for white; if that is white, give --levels {high:g}."
        )
    return levels


def _extent(blocks: list[NDArray[Any]]) -> tuple[float, float]:
    """The smallest and the largest value; not a number if any is none."""
    lows, highs = zip(*((float(block.min()), float(block.max())) for block in blocks), strict=True)
    return float(np.min(lows)), float(np.max(highs))


def _labels(path: Path, member: Member) -> list[str | int]:
    with np.load(path, allow_pickle=False) as arrays:
        values: list[str | int] = arrays[member.name].reshape(-1).tolist()
    return values


def _class_names(path: Path, members: Mapping[str, Member]) -> tuple[str, ...] | None:
    for name in _NAMES:
        if name in members and members[name].dtype.kind == "U" and len(members[name].shape) == 1:
            with np.load(path, allow_pickle=False) as arrays:
                return tuple(map(str, arrays[name].tolist()))
    return None
