"""What a dataset is: an ordered list of images and labels, in splits, read a range at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import InputError, UnknownNameError
from models_zoo.fetch import RemoteFile

if TYPE_CHECKING:
    from torch import Tensor

    from benchmark.threat import Norm

Images = NDArray[Any]
"""Images as stored, shape (n, c, h, w), of an unsigned integer type."""
Labels = NDArray[np.int64]

POOL_BYTES = 2**28
"""A pool of starts takes at most this much memory as float32: 445 images of 3 × 224 × 224."""


class LazyImages(Protocol):
    """Images that are read, decoded and checked when they are asked for.

    Attributes:
        shape: (n, c, h, w), known without reading.
        digest: Digest of the manifest that each image is checked against when it is read.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, c, h, w)."""

    @property
    def digest(self) -> str:
        """Of the manifest."""

    def __getitem__(self, which: slice) -> Images:
        """The images of a range, as stored; raises `InputError` where one is not what the manifest says."""


Read = Callable[[], "tuple[Images | LazyImages, Labels]"]
"""Gives all images (an array, a memory-mapped one, or lazy ones) and all labels."""


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a dataset beside the evaluated one, for instance what models are trained on.

    Attributes:
        size: Number of images.
        digest: As `Dataset.digest`.
        read: As `Dataset.read`.
        files: The public files that ``read`` fetches.
    """

    size: int
    digest: str
    read: Read
    files: tuple[RemoteFile, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A registered dataset: an ordered list of images and labels.

    Size, digest, ``read`` and ``files`` are those of one split, the evaluated one; `split` gives the others.

    Attributes:
        name: The name on the command line and on the board.
        title: What it is, in one line.
        shape: (c, h, w) of an image.
        classes: Names of the classes, in the order of the labels.
        size: Number of images.
        levels: The largest value of an image as it is stored; images are divided by it.
        digest: What identifies it without loading: `manifest_digest` of its content, which is checked on loading;
            `files_digest`, where its files are verified byte by byte; or the digest of `LazyImages`.
        eps: Perturbation budgets that are usual for it, in each norm, in the units of images in [0, 1].
        licence: Of the data.
        source: Who made it.
        read: Reads the images, shape (n, c, h, w), and the labels, shape (n,), as stored.
        files: The public files that ``read`` fetches.
        label_space: Name of the ordered classes that a model answers with; the dataset's own name if empty. Datasets
            of one label space have the same classes, and a model of one can be evaluated on all.
        at: Which split this is.
        splits: The other splits by name.
        resizing: How images came to this size, in words; empty if as published.
        outside: Names of datasets that show none of its classes: what out-of-distribution detection is measured on.
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
    read: Read
    files: tuple[RemoteFile, ...] = ()
    label_space: str = ""
    at: str = "test"
    splits: Mapping[str, Split] = field(default_factory=dict)
    resizing: str = ""
    outside: tuple[str, ...] = ()

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def labels_of(self) -> str:
        """Name of its label space."""
        return self.label_space or self.name

    def split(self, name: str) -> Dataset:
        """The split called ``name``, as a dataset of its own size, digest and images.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        if name == self.at:
            return self
        if name not in self.splits:
            raise UnknownNameError(f"split of {self.name}", name, [self.at, *self.splits])
        return _split(self, name)

    def load(self, limit: int | None = None) -> tuple[Tensor, Tensor]:
        """The first images and their labels, all held as float32: for small slices only; see `batch`.

        Args:
            limit: How many; all by default.

        Returns:
            Images, shape (n, c, h, w), float32 in [0, 1], contiguous; labels, shape (n,), int64; on the CPU.

        Raises:
            InputError: If the limit is not positive, or what was read has another digest.
            models_zoo.errors.FetchError: If a file cannot be had.
        """
        if limit is not None and limit < 1:
            raise InputError(f"The limit is {limit}; evaluate at least one image.")
        return self.batch(0, self.size if limit is None else limit)

    def batch(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images ``start`` to ``stop`` and their labels; nothing else is read or converted.

        Returns:
            Images, shape (n, c, h, w), float32 in [0, 1], contiguous; labels, shape (n,), int64; on the CPU.

        Raises:
            InputError: If the range is none, or what was read is not what the digest says.
            models_zoo.errors.FetchError: If a file cannot be had.
        """
        import torch

        stored = self.stored(start, stop)
        x = torch.from_numpy(np.array(stored, dtype=np.float32, order="C")) / self.levels
        return x, torch.from_numpy(self.labels(start, stop).copy())

    def stored(self, start: int, stop: int) -> Images:
        """Images ``start`` to ``stop`` as they are stored, values 0 to ``levels``, shape (n, c, h, w)."""
        if not 0 <= start <= stop:
            raise InputError(f"The images {start} to {stop} of {self.name!r} are no range.")
        return _verified(self)[0][start : min(stop, self.size)]

    def labels(self, start: int = 0, stop: int | None = None) -> Labels:
        """Labels ``start`` to ``stop``, shape (n,), int64; no image is decoded."""
        return _verified(self)[1][start:stop]

    def batches(self, n: int, *, rows: int = 256) -> Iterator[tuple[Tensor, Tensor]]:
        """The first ``n`` images and their labels, ``rows`` at a time, as `batch` gives them."""
        for start in range(0, min(n, self.size), rows):
            yield self.batch(start, min(start + rows, n, self.size))

    def pool(self, n: int, *, most: int = 1000) -> Tensor:
        """At most ``most`` of the first ``n`` images, evenly spread, for attacks to start from.

        Returns:
            Shape (m, c, h, w), float32 in [0, 1], on the CPU; m is min(n, most), or what fits into `POOL_BYTES`.
        """
        import torch

        most = max(1, min(n, most, POOL_BYTES // (4 * int(np.prod(self.shape)))))
        chosen = np.unique(np.linspace(0, n - 1, most).round().astype(np.int64))
        return torch.cat([self.batch(i, i + 1)[0] for i in chosen.tolist()])


@cache
def _split(dataset: Dataset, name: str) -> Dataset:
    """Made once, so that what was read of it is kept."""
    part = dataset.splits[name]
    here = Split(dataset.size, dataset.digest, dataset.read, dataset.files)
    others = {dataset.at: here} | {key: other for key, other in dataset.splits.items() if key != name}
    return dataclasses.replace(
        dataset, at=name, size=part.size, digest=part.digest, read=part.read, files=part.files, splits=others
    )


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


def files_digest(files: Sequence[RemoteFile], part: str = "") -> str:
    """What identifies a dataset that is read from public files: SHA-256 over their digests.

    Args:
        files: The files, which are verified byte by byte.
        part: The split, where several are read from the same files.
    """
    return hashlib.sha256("\n".join([*(file.sha256 for file in files), *filter(None, [part])]).encode()).hexdigest()


@cache
def _verified(dataset: Dataset) -> tuple[Images | LazyImages, Labels]:
    """What was read and checked, kept for the whole process: nobody can write into it."""
    images, labels = _read(dataset)
    return _locked(images) if isinstance(images, np.ndarray) else images, _locked(labels)


def _locked(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _read(dataset: Dataset) -> tuple[Images | LazyImages, Labels]:
    """What ``read`` gives: of the right shape, and checked as a whole unless its images are checked one by one."""
    images, labels = dataset.read()
    if tuple(images.shape) != (dataset.size, *dataset.shape) or len(labels) != dataset.size:
        raise InputError(
            f"The dataset {dataset.name!r} was read as {len(labels)} labels and images {images.shape}, expected "
            f"{(dataset.size, *dataset.shape)}."
        )
    if dataset.files and dataset.digest in {files_digest(dataset.files), files_digest(dataset.files, dataset.at)}:
        return images, labels
    # Lazy images are checked one by one as they are read, against the manifest whose digest they bring.
    lazy = None if isinstance(images, np.ndarray) else images.digest
    digest = lazy or manifest_digest(np.asarray(images), labels, levels=dataset.levels)
    if digest != dataset.digest:
        raise InputError(
            f"The dataset {dataset.name!r} was read with the digest {digest}, expected {dataset.digest}: it is not the "
            "data that results were computed on. Remove its files from the cache, or give changed data a new name."
        )
    return images, labels
