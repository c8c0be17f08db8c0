"""ImageNet-C as published: a picture file for each image and cell, in folders or in the five archives.

``<corruption>/<severity>/<synset>/ILSVRC2012_val_<number>.JPEG``, below the user's own folder or below a folder for
each archive in it. An archive is read where it lies, once its MD5 is the published one; of single files the digests are
recorded when a range of images is first used, and demanded after.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.data.own_copy import Recorded, own_copy, verified_copy
from benchmark.data.suites import Suite
from benchmark.data.synsets import synsets
from benchmark.errors import InputError
from models_zoo.fetch import cache_folder

if TYPE_CHECKING:
    from torch import Tensor

Cell = tuple[str, str]
PREFIX: Final = "ILSVRC2012_val_"


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishedPictures(Suite):
    """Corruption × severity as published, a file for each image of ImageNet's validation set.

    Attributes:
        of: Name of the label space whose validation images were corrupted.
        own: Name of the copy in the configuration: ``imagenet_c`` is found by ``$CURVEBOARD_IMAGENET_C``.
        source: Where it comes from.
        archives: The published archives, with their MD5.
        groups: Archive without its suffix -> the corruptions in it.
    """

    of: str
    own: str
    source: str
    archives: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]]

    def unavailable(self) -> str:
        """Why not: of another dataset, or there is no copy."""
        if self.base.labels_of != self.of or self.base.at != "val":
            return f"{self.title} is of the val images of {self.of!r}, not of {self.base.name!r} ({self.base.at})."
        try:
            self._home()
        except InputError as error:
            return str(error)
        return ""

    def missing(self, cell: tuple[str, ...]) -> str:
        """Why one cell cannot be had: neither its folder nor its archive is in the copy."""
        name, severity = cell
        home, group = self._home(), self._group(name)
        if (home / f"{group}.tar").is_file() or self._folder((name, severity)) is not None:
            return ""
        return f"{home} has neither the folder {name}/{severity} nor {group}.tar ({self.source})."

    def content(self) -> Mapping[str, Any]:
        """The archives' digests: whether they lie packed or unpacked, the images are the same."""
        return {"md5": dict(self.archives)}

    def batch(self, cell: tuple[str, ...], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Images of a range in a cell, and their labels, which are the dataset's.

        Raises:
            InputError: If a file is missing, no picture, of another size, or another than at its first use.
        """
        import torch

        name, severity = cell
        stop = min(stop, self.size)
        labels = np.asarray(self.base.labels(start, stop))
        folders = list(synsets())
        keys = [f"{folders[label]}/{PREFIX}{i + 1:08d}.JPEG" for i, label in enumerate(labels, start)]
        files = list(self._files((name, severity), keys, (start, stop)))
        images = np.stack(
            [self._decoded(f"{name}/{severity}/{key}", file) for key, file in zip(keys, files, strict=True)]
        )
        return torch.from_numpy(images.astype(np.float32)) / 255, torch.from_numpy(labels.copy())

    def _home(self) -> Path:
        needed = f"{', '.join(self.archives)}, or what is in them ({self.source})"
        return own_copy(self.own, needed=needed)

    def _group(self, name: str) -> str:
        return next(group for group, names in self.groups.items() if name in names)

    def _folder(self, cell: Cell) -> Path | None:
        """The folder of a cell, if it lies unpacked."""
        home, (name, severity) = self._home(), cell
        places = (home / name / severity, home / self._group(name) / name / severity)
        return next((place for place in places if place.is_dir()), None)

    def _files(self, cell: Cell, keys: Sequence[str], span: tuple[int, int]) -> Iterator[bytes]:
        folder = self._folder(cell)
        if folder is None:
            archive = self._home() / f"{self._group(cell[0])}.tar"
            index = _index(verified_copy(archive, self.archives[archive.name], kind="md5"))
            yield from (index.read(cell, key) for key in keys)
            return
        digest = hashlib.sha256()
        for key in keys:
            try:
                content = (folder / key).read_bytes()
            except OSError as error:
                raise InputError(
                    f"{folder} has no {key} ({error.strerror}): it is cut, or of other images than {self.base.name!r}."
                ) from error
            digest.update(content)
            yield content
        place = f"{'/'.join(cell)} {span[0]}-{span[1]}"
        Recorded(self.own, cache_folder()).demand({place: digest.hexdigest()}, str(folder))

    def _decoded(self, key: str, content: bytes) -> NDArray[np.uint8]:
        from benchmark.data.own.pictures import decode

        try:
            image = decode(content).image.convert("RGB")
        except InputError as error:
            raise InputError(f"{self.name}: {key}: {error}.") from error
        _, height, width = self.base.shape
        if image.size != (width, height):
            raise InputError(f"{self.name}: {key} has {image.height}×{image.width} pixels, not {height}×{width}.")
        return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


class _Index:
    """Where each picture lies in an archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at: dict[Cell, dict[str, tuple[int, int]]] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined] # it would keep a million headers
                    parts = PurePosixPath(member.name).parts[-4:]
                    if member.isfile() and len(parts) == 4:
                        cell = self._at.setdefault((parts[0], parts[1]), {})
                        cell[f"{parts[2]}/{parts[3]}"] = (member.offset_data, member.size)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(f"{path} is no whole tar archive ({error}).") from error

    def read(self, cell: Cell, key: str) -> bytes:
        """The bytes of one picture's file."""
        try:
            start, size = self._at[cell][key]
        except KeyError:
            raise InputError(f"{self.path} has no {'/'.join(cell)}/{key}: it is of other images.") from None
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(size)


@cache
def _index(path: Path) -> _Index:
    return _Index(path)
