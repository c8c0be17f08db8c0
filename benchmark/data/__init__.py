"""Datasets, one a file, and their registry.

To add a dataset, add a file here (or an entry point of the group ``curveboard.datasets``) that holds a constant
``DATASET = Dataset(...)``. What is known of a dataset is known without loading it; its images are read, and checked
against the digest, when they are asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import InputError
from benchmark.plugins import discover, look_up
from models_zoo.fetch import RemoteFile

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.threat import Norm

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A registered dataset: an ordered list of images and labels.

    Attributes:
        name: The name on the command line and on the board.
        title: What it is, in one line.
        shape: (c, h, w) of an image.
        classes: Names of the classes, in the order of the labels.
        size: Number of images.
        levels: The largest value of an image as it is stored; images are divided by it.
        digest: What identifies it without loading: `manifest_digest` of its content, which is checked on loading;
            or `files_digest`, where its files are verified byte by byte.
        eps: Perturbation budgets that are usual for it, in each norm, in the units of images in [0, 1].
        licence: Of the data.
        source: Who made it.
        read: Reads the images, shape (n, c, h, w), and the labels, shape (n,), as stored.
        files: The public files that ``read`` fetches.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    size: int
    levels: int
    digest: str
    eps: Mapping[Norm, tuple[float, ...]]
    licence: str
    source: str
    read: Callable[[], tuple[Images, Labels]]
    files: tuple[RemoteFile, ...] = ()

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def load(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """The first images and their labels.

        Args:
            limit: How many; all by default.

        Returns:
            Images, shape (n, c, h, w), float32 in [0, 1], contiguous; labels, shape (n,), int64; on the CPU.

        Raises:
            InputError: If the limit is not positive, or what was read has another digest.
            models_zoo.errors.FetchError: If a file cannot be had.
        """
        import torch

        if limit is not None and limit < 1:
            raise InputError(f"The limit is {limit}; evaluate at least one image.")
        images, labels = _verified(self)
        x = torch.from_numpy(np.ascontiguousarray(images[:limit], dtype=np.float32)) / self.levels
        return x, torch.from_numpy(labels[:limit].copy())

    def batch(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images ``start`` to ``stop`` and their labels, as `load` gives them; nothing else is converted."""
        import torch

        images, labels = _verified(self)
        x = torch.from_numpy(np.ascontiguousarray(images[start:stop], dtype=np.float32)) / self.levels
        return x, torch.from_numpy(labels[start:stop].copy())

    def pool(self, n: int, *, most: int = 1000) -> Tensor:
        """At most ``most`` of the first ``n`` images, evenly spread, for attacks to start from.

        Returns:
            Shape (min(n, most), c, h, w), float32 in [0, 1], on the CPU.
        """
        import torch

        chosen = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
        return torch.cat([self.batch(i, i + 1)[0] for i in chosen.tolist()])


def manifest_digest(images: Images, labels: Labels, *, levels: int) -> str:
    """What identifies a dataset: SHA-256 over shape, levels, the images' bytes and the labels (int64, little end).

    Args:
        images: Shape (n, c, h, w).
        labels: Shape (n,).
        levels: The value that stands for 1.

    Returns:
        The digest in hexadecimal.
    """
    header = json.dumps({"shape": list(images.shape), "levels": levels}, sort_keys=True)
    digest = hashlib.sha256(header.encode() + b"\n")
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()


def files_digest(files: Sequence[RemoteFile]) -> str:
    """What identifies a dataset that is read from public files: SHA-256 over their digests."""
    return hashlib.sha256("\n".join(file.sha256 for file in files).encode()).hexdigest()


@cache
def _verified(dataset: Dataset) -> tuple[Images, Labels]:
    images, labels = dataset.read()
    if len(images) != dataset.size or images.shape[1:] != dataset.shape or len(labels) != dataset.size:
        raise InputError(
            f"The dataset {dataset.name!r} was read as {len(labels)} labels and images {images.shape}, expected "
            f"{(dataset.size, *dataset.shape)}."
        )
    if dataset.files and dataset.digest == files_digest(dataset.files):
        return images, labels
    digest = manifest_digest(images, labels, levels=dataset.levels)
    if digest != dataset.digest:
        raise InputError(
            f"The dataset {dataset.name!r} was read with the digest {digest}, expected {dataset.digest}: it is not the "
            "data that results were computed on. Remove its files from the cache, or give changed data a new name."
        )
    return images, labels


def all_datasets() -> Mapping[str, Dataset]:
    """All registered datasets by name."""
    return discover("benchmark.data.datasets", "DATASET")


def get_dataset(name: str) -> Dataset:
    """The dataset called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Dataset", look_up("dataset", name, all_datasets()))
