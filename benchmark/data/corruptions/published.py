"""Suites of arrays as published: of an archive that is fetched by URL and SHA-256, or of the user's own copy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.data.corruptions.layout import Source
from benchmark.data.own_copy import Recorded, own_copy, verified_copy
from benchmark.data.suites import Suite
from benchmark.errors import InputError
from models_zoo.fetch import RemoteFile, cache_folder, fetch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class OwnArchive:
    """A published archive that is not fetched, for want of a SHA-256 that could be checked: the user has a copy.

    Attributes:
        name: Of the configuration: ``cifar100_c`` is found by ``$CURVEBOARD_CIFAR100_C``.
        file: The archive; beside it, or instead, it may lie unpacked.
        md5: As its authors publish it.
        source: Where it comes from.
    """

    name: str
    file: str
    md5: str
    source: str

    @property
    def folder(self) -> Path:
        """Where the copy is; raises `InputError`, saying what to do, if there is none."""
        return own_copy(self.name, needed=f"{self.file}, or what is in it ({self.source})")


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishedSuite(Suite):
    """Corruption × severity as published, of a dataset's images in its order.

    Attributes:
        of: Name of the label space whose test images were corrupted.
        file: The public archive, which is fetched; or the archive that the user must have.
        home: The folder in it.
        mnist: Whether it is in MNIST-C's layout, else CIFAR-10-C's.
        folder: A folder in the same layout that is read instead, on the user's word: its images are not verified.
    """

    of: str
    file: RemoteFile | OwnArchive
    home: str
    mnist: bool = False
    folder: Path | None = None

    def unavailable(self) -> str:
        """Why not of this dataset: it was made of the test images of another."""
        if self.base.labels_of != self.of or self.base.at != "test":
            return f"{self.title} is of the test images of {self.of!r}, not of {self.base.name!r} ({self.base.at})."
        if isinstance(self.file, OwnArchive) and self.folder is None:
            try:
                self.file.folder  # noqa: B018 - whether it is there
            except InputError as error:
                return str(error)
        return ""

    def content(self) -> Mapping[str, Any]:
        """The archive's digest."""
        if self.folder is not None:
            return {"folder": str(self.folder)}
        return {"md5": self.file.md5} if isinstance(self.file, OwnArchive) else {"sha256": self.file.sha256}

    def batch(self, cell: tuple[str, ...], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images of a range in a cell, and their labels, which are the dataset's.

        Raises:
            FetchError: If the archive cannot be had, or is another.
            InputError: If a file in it is cut, or of other images.
        """
        import torch

        name, severity = cell
        images = _cell(self, name, int(severity))
        stop = min(stop, self.size)
        labels = self.base.labels(start, stop)
        rows = np.ascontiguousarray(images[start:stop].transpose(0, 3, 1, 2), dtype=np.float32)
        return torch.from_numpy(rows) / 255, torch.from_numpy(labels.copy())


@cache
def _source(suite: PublishedSuite) -> Source:
    """Fetched, or found, and verified once a process."""
    if suite.folder is not None:
        return Source(suite.folder)
    if isinstance(suite.file, RemoteFile):
        return Source(fetch(suite.file), suite.home)
    folder = suite.file.folder
    if (folder / suite.file.file).is_file():
        return Source(verified_copy(folder / suite.file.file, suite.file.md5, kind="md5"), suite.home)
    return Source(folder / suite.home if (folder / suite.home).is_dir() else folder)


@cache
def _array(suite: PublishedSuite, name: str, shape: tuple[int, ...]) -> Any:
    """One file's array; of the user's unpacked copy its digest is recorded at its first use, and demanded after."""
    source = _source(suite)
    array = source.array(name, shape=shape)
    if isinstance(suite.file, OwnArchive) and suite.folder is None and source.path.is_dir():
        with (source.path / name).open("rb") as stream:
            seen = hashlib.file_digest(stream, "sha256").hexdigest()
        Recorded(suite.file.name, cache_folder()).demand({name: seen}, str(source.path))
    return array


@cache
def _labels_checked(suite: PublishedSuite, labels_file: str, count: int) -> None:
    """That the published labels are the dataset's, so that the images are those of the same samples."""
    expected = np.tile(suite.base.labels(), count)
    found = np.asarray(_array(suite, labels_file, expected.shape))
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        raise InputError(
            f"{labels_file} of {suite.name!r} has {len(wrong)} other labels than {suite.base.name!r}, first at "
            f"{wrong[0]}: it is of other images, or in another order."
        )


def _cell(suite: PublishedSuite, name: str, severity: int) -> Any:
    c, h, w = suite.base.shape
    n, count = suite.base.size, len(suite.axes[1].labels)
    if suite.mnist:
        _labels_checked(suite, f"{name}/test_labels.npy", 1)
        return _array(suite, f"{name}/test_images.npy", (n, h, w, c))
    _labels_checked(suite, "labels.npy", count)
    whole = _array(suite, f"{name}.npy", (n * count, h, w, c))
    return whole[(severity - 1) * n : severity * n]
