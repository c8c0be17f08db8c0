"""The manifest of a split: every image with its label and digests; and the images that are checked against it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmark.data.dataset import Labels
from benchmark.data.own.pictures import Picture, Preparation
from benchmark.errors import BenchmarkError, InputError

COLUMNS = ("key", "label", "pixels", "file")


class Opener(Protocol):
    """Reads pictures of one place by their keys."""

    def content(self, key: str) -> bytes:
        """The bytes that the picture is decoded from."""

    def glance(self, key: str) -> tuple[int, int, bool]:
        """Height, width, and whether it is grey, without decoding all of it; errors as of `picture`."""

    def picture(self, key: str) -> Picture:
        """The picture; raises `InputError` where it cannot be read."""


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        key: Where it is: a path in the folder, the number of a row, ``file.parquet:row``.
        label: Its class.
        pixels: SHA-256 of its pixels (c, h, w) as models see them, before they are scaled to [0, 1].
        file: SHA-256 of the bytes that it is decoded from; empty for arrays.
    """

    key: str
    label: int
    pixels: str
    file: str = ""


def digest_of(rows: Sequence[Row], shape: tuple[int, ...]) -> str:
    """What identifies a split: SHA-256 over the shape and the images' digests with their labels, in order."""
    digest = hashlib.sha256(json.dumps({"shape": list(shape), "levels": 255}).encode() + b"\n")
    for row in rows:
        digest.update(f"{row.pixels} {row.label}\n".encode())
    return digest.hexdigest()


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write a manifest as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((row.key, row.label, row.pixels, row.file) for row in rows)


def read(path: Path, *, classes: int) -> list[Row]:
    """Read a manifest; raises `InputError` where it is none."""
    again = "Add the dataset again with --replace."
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != COLUMNS:
                raise InputError(f"{path} does not begin with {','.join(COLUMNS)}. {again}")
            rows = [Row(key, int(label), pixels, source) for key, label, pixels, source in reader]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. {again}") from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}). {again}") from error
    if wrong := [row for row in rows if not 0 <= row.label < classes]:
        raise InputError(f"{path} has the label {wrong[0].label} where there are {classes} classes. {again}")
    return rows


class ManifestImages:
    """The images of a manifest, decoded when they are asked for, and checked against it (`LazyImages`).

    Args:
        rows: The manifest.
        opener: Opens the place they are read from.
        preparation: How pictures become images.
        name: The dataset's, for messages.
    """

    def __init__(
        self, rows: Sequence[Row], opener: Callable[[], Opener], preparation: Preparation, *, name: str
    ) -> None:
        self._rows, self._open, self._preparation, self._name = rows, opener, preparation, name
        self._opener: Opener | None = None
        self.shape = (len(rows), *preparation.shape)
        self.digest = digest_of(rows, preparation.shape)

    def __getitem__(self, which: slice) -> NDArray[np.uint8]:
        """The images of a range, shape (n, c, h, w)."""
        rows = self._rows[which]
        images = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        for k, row in enumerate(rows):
            images[k] = self._image(row)
        return images

    def _image(self, row: Row) -> NDArray[np.uint8]:
        if self._opener is None:
            self._opener = self._open()
        try:
            pixels = self._preparation.apply(self._opener.picture(row.key))
        except (BenchmarkError, OSError) as error:
            raise InputError(f"{self._name}: {row.key} is in the manifest, but {_text(error)}.") from error
        if hashlib.sha256(pixels.data).hexdigest() != row.pixels:
            raise InputError(f"{self._name}: {row.key} {self._difference(row)}")
        return pixels

    def _difference(self, row: Row) -> str:
        """Why an image has other pixels than in the manifest."""
        assert self._opener is not None
        if row.file and hashlib.sha256(self._opener.content(row.key)).hexdigest() == row.file:
            from PIL import __version__ as pillow

            return (
                f"is the same file, but Pillow {pillow} decodes it to other pixels than when the dataset was added. "
                "Use the version of then, or give it lossless pictures, and add the dataset under a new name."
            )
        return (
            "has changed since the dataset was added; results are only compared on the same images. "
            "Put the old one back, or add the dataset again: under a new name, or with --replace."
        )


def _text(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def labels_of(rows: Sequence[Row]) -> Labels:
    """The labels, shape (n,), read-only."""
    labels: NDArray[Any] = np.array([row.label for row in rows], dtype=np.int64)
    labels.flags.writeable = False
    return labels
