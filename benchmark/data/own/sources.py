"""What there is to read in a folder or a file: splits, the images of each with their labels, how to open them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from benchmark.data.own.manifest import Opener
from benchmark.data.own.pictures import SUFFIXES, Picture, decode, glance
from benchmark.errors import InputError

LAYOUTS: Final = """\
What can be read: a folder with a sub-folder of images for each class (or train/ and test/ with such sub-folders in \
them); a folder with a labels.csv (columns file and label); an .npz with images and labels; a folder of .parquet files \
as Hugging Face has them."""

SPLITS: Final = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
"""Names of splits, as found in folders, files and arrays."""
EVALUATED: Final = ("test", "val", "train")
"""Which split is evaluated: the first of these that there is."""
WORDS: Final = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Wishes:
    """What the user said about how to read.

    Attributes:
        classes: Names of the classes, in the order of the labels; empty to take those that are found.
        first_label: The number of the first class, where labels are numbers.
        images: Name of the array or column of images; found if empty.
        labels: Name of the array or column of labels; found if empty.
        layout: ``nhwc`` or ``nchw``; seen from the shape if empty.
        levels: The value of an array that stands for white; seen if None.
        follow_links: Read links that lead out of the folder.
    """

    classes: tuple[str, ...] = ()
    first_label: int = 0
    images: str = ""
    labels: str = ""
    layout: str = ""
    levels: float | None = None
    follow_links: bool = False


@dataclass(frozen=True)
class Part:
    """One split.

    Attributes:
        keys: Of its images, in the order found.
        labels: Of each image: a class's name, or its number.
        opener: Reads its pictures.
        reading: What `opener_of` needs to make the opener again, as plain values.
    """

    keys: Sequence[str]
    labels: Sequence[str | int]
    opener: Opener
    reading: Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """What was found.

    Attributes:
        kind: What it is, in words.
        path: Where it lies.
        parts: The splits by name.
        classes: Names of the classes that it states itself, in order; None if there are only labels.
        remarks: What the user should know, in whole sentences.
    """

    kind: str
    path: Path
    parts: Mapping[str, Part]
    classes: tuple[str, ...] | None = None
    remarks: list[str] = field(default_factory=list)


def split_named(name: str) -> str | None:
    """The split that a name of a folder, a file or an array speaks of; None if it speaks of none."""
    found = [SPLITS[word] for word in WORDS.findall(name.lower()) if word in SPLITS]
    return found[0] if found else None


class FileOpener:
    """Pictures that are files in a folder.

    Args:
        root: The folder.
        follow_links: Read links that lead out of it.
    """

    def __init__(self, root: Path, *, follow_links: bool = False) -> None:
        self.root, self._follow, self._real = root, follow_links, root.resolve()

    def content(self, key: str) -> bytes:
        """The bytes of a file; raises `InputError` where it is none of this folder."""
        relative = PurePosixPath(key)
        if relative.is_absolute() or ".." in relative.parts:
            raise InputError("its path leads out of the folder")
        path = self.root / relative
        if not self._follow and not path.resolve().is_relative_to(self._real):
            raise InputError("it is a link that leads out of the folder (--follow-links reads it all the same)")
        if not path.is_file():
            raise InputError("there is no such file" if not path.exists() else "it is no plain file")
        return path.read_bytes()

    def glance(self, key: str) -> tuple[int, int, bool]:
        """Size and greyness of a file's picture."""
        return glance(self.content(key))

    def picture(self, key: str) -> Picture:
        """The picture in a file."""
        return decode(self.content(key))


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """All images under a folder, sorted, and all other files; what is hidden is passed over."""
    images: list[Path] = []
    others: list[Path] = []
    for where, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not is_hidden(name))
        for name in sorted(files):
            if not is_hidden(name):
                path = Path(where, name)
                (images if path.suffix.lower() in SUFFIXES else others).append(path)
    return images, others


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems leave behind."""
    return name.startswith((".", "__")) or name.lower() in {"thumbs.db", "desktop.ini"}


def key_of(path: Path, root: Path) -> str:
    """A path in the folder as text; raises `InputError` where the name is no UTF-8."""
    key = path.relative_to(root).as_posix()
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InputError(f"The file name {os.fsencode(path)!r} is no UTF-8; rename the file.") from None
    return key


def distinct_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in Unicode's composed form; raises `InputError` where two cannot be told apart."""
    seen: dict[str, str] = {}
    for name in names:
        composed = unicodedata.normalize("NFC", name).strip()
        if composed in seen:
            raise InputError(f"Two classes are called {composed!r} (as {seen[composed]!r} and {name!r}); rename one.")
        seen[composed] = name
    return tuple(seen)


def left_out(others: Sequence[Path], root: Path) -> list[str]:
    """A remark on files that are no images."""
    if not others:
        return []
    names = ", ".join(path.relative_to(root).as_posix() for path in others[:3])
    more = ", …" if len(others) > 3 else ""
    return [f"{len(others)} files are no images by their names and were left out ({names}{more})."]
