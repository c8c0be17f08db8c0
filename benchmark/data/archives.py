"""Pictures inside archives and folders, decoded when they are asked for (`LazyImages`)."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmark.data.dataset import Labels
from benchmark.errors import BenchmarkError, InputError

if TYPE_CHECKING:
    from benchmark.data.own.pictures import Preparation

LARGEST: Final = 2**27
"""Bytes that one picture's file may unpack to; a zip may claim a thousand times its size."""


class Content(Protocol):
    """Gives the bytes of a picture's file."""

    def __call__(self, key: str) -> bytes:
        """Raises `InputError` where there is none."""


class DecodedImages:
    """Pictures, prepared one by one.

    Args:
        keys: Of the pictures, in the order of the dataset.
        open_content: Opens what they are read from, when the first is asked for.
        preparation: How a picture becomes an image.
        digest: What identifies them: of the files, which are verified before anything is decoded.
        name: The dataset's, for messages.
    """

    def __init__(
        self,
        keys: Sequence[str],
        open_content: Callable[[], Content],
        preparation: Preparation,
        *,
        digest: str,
        name: str,
    ) -> None:
        self._keys, self._open, self._preparation, self._name = keys, open_content, preparation, name
        self._content: Content | None = None
        self.shape = (len(keys), *preparation.shape)
        self.digest = digest

    def __getitem__(self, which: slice) -> NDArray[np.uint8]:
        """The images of a range, shape (n, c, h, w)."""
        keys = self._keys[which]
        images = np.empty((len(keys), *self.shape[1:]), dtype=np.uint8)
        for k, key in enumerate(keys):
            images[k] = self._image(key)
        return images

    def _image(self, key: str) -> NDArray[np.uint8]:
        from benchmark.data.own.pictures import decode

        if self._content is None:
            self._content = self._open()
        try:
            return self._preparation.apply(decode(self._content(key)))
        except BenchmarkError as error:
            raise InputError(f"{self._name}: {key}: {error}".rstrip(".") + ".") from error


class ZipContent:
    """Files in a zip; nothing is unpacked to the disk.

    Args:
        path: The archive.

    Raises:
        InputError: If it is no whole zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _told(path):
            self._archive = zipfile.ZipFile(path)
        self.names = frozenset(self._archive.namelist())

    def __call__(self, key: str) -> bytes:
        """The bytes of one file."""
        if key not in self.names:
            raise InputError(f"{self.path} has no {key}: it is not the archive that its publisher gives")
        size = self._archive.getinfo(key).file_size
        if size > LARGEST:
            raise InputError(f"{key} in {self.path} unpacks to {size:,} bytes, more than the {LARGEST:,} that are read")
        with _told(self.path):
            return self._archive.read(key)

    def text(self, key: str) -> str:
        """One file as text."""
        return self(key).decode("utf-8", errors="replace")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Whatever the zip reader raises, in our words."""
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is no whole zip archive ({error})") from error


def frozen_labels(values: Sequence[int] | NDArray[np.int64]) -> Labels:
    """Labels, shape (n,), int64, read-only, since all callers of the process share them."""
    labels = np.array(values, dtype=np.int64)
    labels.flags.writeable = False
    return labels
