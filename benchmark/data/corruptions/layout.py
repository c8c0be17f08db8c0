"""The published layouts of corrupted data: CIFAR-10-C's and MNIST-C's arrays, ImageNet-C's folders. Written, and read.

``arrays``   ``<corruption>.npy``, bytes of shape (severities · n, h, w, c), severity 1 first, and ``labels.npy``.
``mnist``    ``<corruption>/test_images.npy``, bytes of shape (n, 28, 28, 1), and ``test_labels.npy`` beside it.
``folders``  ``<corruption>/<severity>/<class>/<image>``, as picture files.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.errors import InputError

Layout = Literal["arrays", "mnist", "folders"]

Bytes = NDArray[np.uint8]
Labels = NDArray[np.int64]

_HEADERS: Final[dict[tuple[int, int], Callable[[Any], tuple[tuple[int, ...], bool, np.dtype[Any]]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Source:
    """A folder or an archive (tar, zip) that holds a suite in a published layout.

    Attributes:
        path: Where it is.
        home: The folder inside it; empty for its top.
    """

    path: Path
    home: str = ""

    def array(self, name: str, *, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        """The array of bytes (or of labels) in one ``.npy`` file; of a folder or a tar mapped, not read.

        Args:
            name: Path inside the source.
            shape: The shape that is expected.

        Raises:
            InputError: If there is no such file, or it is none of that shape, or cut.
        """
        member = f"{self.home}/{name}" if self.home else name
        where = f"{member} in {self.path}"
        try:
            array = self._array(member, where)
        except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError, KeyError) as error:
            raise InputError(f"{where} cannot be read ({error}). Replace it by the published file.") from error
        if shape is not None and array.shape != shape:
            raise InputError(f"{where} has the shape {array.shape}, expected {shape}: it is of other images.")
        return array

    def _array(self, member: str, where: str) -> NDArray[Any]:
        if self.path.is_dir():
            file = self.path / member
            with file.open("rb") as stream:
                return _mapped(stream, file, 0, file.stat().st_size, where)
        if zipfile.is_zipfile(self.path):
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(member)
            kind, shape, offset = _header(io.BytesIO(content), len(content), where)
            return np.frombuffer(content, dtype=kind, offset=offset, count=int(np.prod(shape))).reshape(shape)
        with tarfile.open(self.path, "r:") as tar, self.path.open("rb") as stream:
            info = tar.getmember(member)
            stream.seek(info.offset_data)
            return _mapped(stream, self.path, info.offset_data, info.size, where)


def _mapped(stream: IO[bytes], path: Path, start: int, size: int, where: str) -> NDArray[Any]:
    kind, shape, offset = _header(stream, size, where)
    if path.stat().st_size < start + size:
        raise InputError(f"{where} is cut: it should end at byte {start + size}, the file at {path.stat().st_size}.")
    return np.memmap(path, dtype=kind, mode="r", offset=start + offset, shape=shape)


def _header(stream: IO[bytes], size: int, where: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape and length of the header of an ``.npy`` file; nothing is unpickled."""
    begin = stream.tell()
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, kind = _HEADERS[version](stream)
    except (ValueError, KeyError, EOFError) as error:
        raise InputError(f"{where} is no .npy file ({error}).") from error
    offset = stream.tell() - begin
    if fortran or kind.kind not in "uif" or kind.hasobject:
        raise InputError(f"{where} holds {kind}{' in Fortran order' if fortran else ''}; expected plain numbers.")
    expected = offset + int(np.prod(shape, dtype=object)) * kind.itemsize
    if size != expected:
        what = "It is truncated" if size < expected else "It has more than that"
        raise InputError(f"{where} has {size} bytes; its header says {expected}. {what}: replace it.")
    return kind, shape, offset


def claim(folder: Path, what: Mapping[str, Any]) -> None:
    """Note in ``suite.json`` what a folder holds, or is going to.

    Raises:
        InputError: If it holds something else already: two suites in one folder would be neither.
    """
    file = folder / "suite.json"
    if file.exists():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{file} cannot be read ({error}). Write to another folder.") from error
        if found != dict(what):
            raise InputError(f"{folder} holds {found}, not {dict(what)}. Write to another folder.")
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} has other files in it. Write to a folder that is empty or new.")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(dict(what), indent=2) + "\n", encoding="utf-8")


def write(
    folder: Path,
    layout: Layout,
    names: tuple[str, ...],
    severities: tuple[str, ...],
    made: Callable[[str, str], Iterator[tuple[Bytes, Labels]]],
    *,
    size: int,
    classes: tuple[str, ...] = (),
) -> Iterator[str]:
    """Write a suite; what is there already whole is left, so that a killed command goes on where it was.

    Args:
        folder: Where to; made if need be.
        layout: The published layout.
        names: The corruptions.
        severities: The severities.
        made: (corruption, severity) -> batches of images (n, c, h, w) and labels.
        size: Images of a cell.
        classes: Names of the classes, for folders.

    Yields:
        Each corruption, when it is written.
    """
    for name in names:
        if layout == "folders":
            for severity in severities:
                _write_pictures(folder / name / severity, made(name, severity), classes)
        else:
            target = folder / name / "test_images.npy" if layout == "mnist" else folder / f"{name}.npy"
            _write_array(target, [made(name, severity) for severity in severities], size, mnist=layout == "mnist")
        yield name


def _write_array(target: Path, cells: list[Iterator[tuple[Bytes, Labels]]], size: int, *, mnist: bool) -> None:
    labels_file = target.parent / ("test_labels.npy" if mnist else "labels.npy")
    if target.exists() and labels_file.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".part")
    labels: list[Labels] = []
    out: np.memmap[Any, Any] | None = None
    at = 0
    for cell in cells:
        for images, y in cell:
            rows = images.transpose(0, 2, 3, 1)
            if out is None:
                shape = (size * len(cells), *rows.shape[1:])
                out = np.lib.format.open_memmap(scratch, mode="w+", dtype=np.uint8, shape=shape)
            out[at : at + len(rows)] = rows
            at += len(rows)
            labels.append(y)
    if out is None:
        raise InputError("There are no images to write.")
    out.flush()
    np.save(labels_file, np.concatenate(labels).astype(np.uint8 if not mnist else np.int64))
    scratch.replace(target)


def _write_pictures(folder: Path, batches: Iterator[tuple[Bytes, Labels]], classes: tuple[str, ...]) -> None:
    """PNG files, which keep every byte; the published ones are JPEG of quality 85 (the quirk ``stored``)."""
    number = 0
    for images, labels in batches:
        for image, label in zip(images, labels, strict=True):
            target = folder / f"{label:04d}-{_plain(classes[label])}" / f"{number:06d}.png"
            number += 1
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                scratch = target.with_suffix(".part")
                pixels = image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))
                Image.fromarray(pixels).save(scratch, "PNG")
                scratch.replace(target)


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


def read_pictures(source: Path, name: str, severity: str) -> tuple[list[Path], Labels]:
    """The files of one cell in the order of classes and names, and their classes' numbers, by sorted folder names.

    Raises:
        InputError: If there is no such cell.
    """
    folder = source / name / severity
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}; ImageNet-C's layout is <corruption>/<severity>/<class>/<image>."
        )
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    files = [(file, i) for i, path in enumerate(classes) for file in sorted(path.iterdir()) if file.is_file()]
    return [file for file, _ in files], np.array([i for _, i in files], dtype=np.int64)
