"""A folder with a ``labels.csv``: a file name and a label a line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmark.data.own.sources import SPLITS, FileOpener, Part, Source, Wishes, image_files
from benchmark.errors import InputError

TABLE: Final = "labels.csv"
_FILES: Final = ("file", "filename", "file_name", "image", "path", "name", "id")
_LABELS: Final = ("label", "class", "category", "target", "y", "labels")


def find(path: Path, wishes: Wishes, staging: Path) -> Source:
    """The images that the table names, in its order; a column ``split`` tells splits apart."""
    header, lines = _read(path)
    file = _column(header, wishes.images, _FILES, path, "--images")
    label = _column(header, wishes.labels, _LABELS, path, "--labels")
    split = header.index("split") if "split" in header else None
    opener = FileOpener(path.parent, follow_links=wishes.follow_links)
    keys: dict[str, list[str]] = {}
    labels: dict[str, list[str | int]] = {}
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        if len(line) != len(header):
            raise InputError(f"{path}, line {number}: {len(line)} fields where the first line has {len(header)}.")
        key = line[file].strip()
        if key in seen:
            raise InputError(f"{path}, line {number}: {key} is there already, in line {seen[key]}.")
        if not key or not line[label].strip():
            raise InputError(f"{path}, line {number}: a file and a label are needed, got {line!r}.")
        seen[key] = number
        part = "test" if split is None else SPLITS.get(line[split].strip().lower())
        if part is None:
            raise InputError(f"{path}, line {number}: the split is {line[split or 0]!r}; use train, val or test.")
        keys.setdefault(part, []).append(key)
        labels.setdefault(part, []).append(line[label].strip())
    if not keys:
        raise InputError(f"{path} names no images.")
    _turn_into_numbers(labels)
    reading = {"folder": str(path.parent), "follow_links": wishes.follow_links}
    parts = {part: Part(keys[part], labels[part], opener, reading) for part in keys}
    unnamed = len({image.relative_to(path.parent).as_posix() for image in image_files(path.parent)[0]} - set(seen))
    remarks = [f"{unnamed} images of the folder are not in {path.name} and were left out."] if unnamed else []
    return Source(f"a folder with a {path.name}", path, parts, None, remarks)


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    """The first line, in lower case, and the others."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        lines = list(csv.reader(text.splitlines(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise InputError(f"{path} is no valid CSV: {error}.") from error
    if not lines:
        raise InputError(f"{path} is empty; its first line names the columns: file,label.")
    return [name.strip().lower() for name in lines[0]], lines[1:]


def _column(header: Sequence[str], wanted: str, usual: Sequence[str], path: Path, option: str) -> int:
    """The position of a column."""
    names = [wanted.lower()] if wanted else [name for name in usual if name in header]
    if not names or names[0] not in header:
        raise InputError(
            f"{path} has the columns {', '.join(header)}; which is the {usual[0]}? Call it {usual[0]!r} in the first "
            f"line, or give {option} COLUMN."
        )
    return header.index(names[0])


def _turn_into_numbers(labels: dict[str, list[str | int]]) -> None:
    """Where all labels are numbers, they are the classes' numbers and not their names."""
    if all(str(label).lstrip("-").isdecimal() for part in labels.values() for label in part):
        for part in labels.values():
            part[:] = [int(label) for label in part]
