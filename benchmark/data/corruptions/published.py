"""Suites read from published files: arrays in a folder or an archive, known by URL and SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.data.corruptions.layout import Source
from benchmark.data.suites import Suite
from benchmark.errors import InputError
from models_zoo.fetch import RemoteFile, fetch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishedSuite(Suite):
    """Corruption × severity as published, of a dataset's images in its order.

    Attributes:
        of: Name of the label space whose test images were corrupted.
        file: The public archive.
        home: The folder in it.
        mnist: Whether it is in MNIST-C's layout, else CIFAR-10-C's.
        folder: A folder in the same layout that is read instead, on the user's word: its images are not verified.
    """

    of: str
    file: RemoteFile
    home: str
    mnist: bool = False
    folder: Path | None = None

    def unavailable(self) -> str:
        """Why not of this dataset: it was made of the test images of another."""
        if self.base.labels_of != self.of or self.base.at != "test":
            return f"{self.title} is of the test images of {self.of!r}, not of {self.base.name!r} ({self.base.at})."
        return ""

    def content(self) -> Mapping[str, Any]:
        """The archive's digest."""
        return {"sha256": self.file.sha256} if self.folder is None else {"folder": str(self.folder)}

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
    """Fetched and verified once a process."""
    return Source(suite.folder) if suite.folder is not None else Source(fetch(suite.file), suite.home)


@cache
def _labels_checked(suite: PublishedSuite, labels_file: str, count: int) -> None:
    """That the published labels are the dataset's, so that the images are those of the same samples."""
    expected = np.tile(suite.base.labels(), count)
    found = np.asarray(_source(suite).array(labels_file, shape=expected.shape))
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
        return _source(suite).array(f"{name}/test_images.npy", shape=(n, h, w, c))
    _labels_checked(suite, "labels.npy", count)
    whole = _source(suite).array(f"{name}.npy", shape=(n * count, h, w, c))
    return whole[(severity - 1) * n : severity * n]
