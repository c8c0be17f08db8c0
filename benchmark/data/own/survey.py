"""Reads every image of a source once: labels numbered, sizes seen, pixels digested, whatever is odd written down."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeVar

from benchmark.data.own.manifest import Row
from benchmark.data.own.pictures import Preparation
from benchmark.data.own.sources import EVALUATED, Part, Source, Wishes, distinct_classes
from benchmark.errors import InputError

T = TypeVar("T")
SIDES: Final = (224, 128, 96, 64, 48, 32)
"""Sides of square images to choose from where pictures have many sizes and none was asked for."""
_SHOWN: Final = 10


@dataclass(frozen=True)
class Sizes:
    """What the user said about sizes; None where nothing was said.

    Attributes:
        size: (height, width) that pictures are scaled to cover.
        resize: Length that the shorter side is scaled to.
        crop: (height, width) that are cut from the middle.
        colour: Three channels or one.
        interpolation: Of the scaling.
    """

    size: tuple[int, int] | None = None
    resize: int | None = None
    crop: tuple[int, int] | None = None
    colour: bool | None = None
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class Survey:
    """What was read.

    Attributes:
        source: Where from.
        classes: Names of the classes, in the order of the labels.
        preparation: How pictures become images.
        splits: The manifest of each split.
        evaluated: The split that is evaluated.
        seen: How many pictures have which (height, width).
        remarks: What the user should know, in whole sentences.
    """

    source: Source
    classes: tuple[str, ...]
    preparation: Preparation
    splits: Mapping[str, Sequence[Row]]
    evaluated: str
    seen: Mapping[tuple[int, int], int]
    remarks: Sequence[str]

    def counts(self, split: str) -> list[int]:
        """Images of each class in a split."""
        counted = Counter(row.label for row in self.splits[split])
        return [counted[label] for label in range(len(self.classes))]


def survey(
    source: Source,
    wishes: Wishes,
    sizes: Sizes,
    *,
    skip_bad: bool = False,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> Survey:
    """Read everything.

    Args:
        source: What was found.
        wishes: What the user said about reading.
        sizes: What the user said about sizes.
        skip_bad: Leave out pictures that cannot be read; otherwise they are an error.
        report: Told how many pictures of how many were read.

    Raises:
        InputError: If pictures cannot be read, labels do not fit, or nothing is left.
    """
    classes, labels = _numbered(source, wishes)
    bad: dict[str, str] = {}
    looks = {key: look for part in source.parts.values() for key, look in _each(part.keys, part.opener.glance, bad)}
    remarks = [*source.remarks]
    preparation = _preparation(sizes, list(looks.values()), remarks)
    total, done = sum(len(part.keys) for part in source.parts.values()), 0
    notes: Counter[str] = Counter()
    splits: dict[str, list[Row]] = {}
    for split, part in source.parts.items():
        keys = [key for key in part.keys if key not in bad]
        label_of = dict(zip(part.keys, labels[split], strict=True))
        rows = []
        for key, (pixels, file, seen) in _each(keys, partial(_digests, part, preparation), bad):
            rows.append(Row(key, label_of[key], pixels, file))
            notes.update(seen)
            done += 1
            report(done, total)
        splits[split] = _ordered(rows, remarks, split)
    _refuse_bad(bad, skip_bad, remarks)
    splits = {split: rows for split, rows in splits.items() if rows}
    if not splits:
        raise InputError(f"{source.path} has no image that can be read.")
    remarks += [f"{count} pictures: {note}." for note, count in sorted(notes.items())]
    remarks += _duplicates(splits)
    evaluated = next(split for split in EVALUATED if split in splits)
    found = Counter(look[:2] for look in looks.values())
    result = Survey(source, classes, preparation, splits, evaluated, found, remarks)
    if empty := [name for name, count in zip(classes, result.counts(evaluated), strict=True) if not count]:
        remarks.append(
            f"{len(empty)} of {len(classes)} classes have no image in the split {evaluated}: {_some(empty)}."
        )
    return result


def _each(keys: Sequence[str], work: Callable[[str], T], bad: dict[str, str]) -> Iterator[tuple[str, T]]:
    """What ``work`` gives for each key, in order; where it cannot be read, why goes to ``bad``."""

    def attempt(key: str) -> T | InputError:
        try:
            return work(key)
        except InputError as error:
            return error
        except OSError as error:
            return InputError(f"it cannot be read ({error.strerror or error})")

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes without holding Python's lock
        for begin in range(0, len(keys), 1024):
            some = keys[begin : begin + 1024]
            for key, found in zip(some, pool.map(attempt, some), strict=True):
                if isinstance(found, InputError):
                    bad[key] = str(found)
                else:
                    yield key, found


def _digests(part: Part, preparation: Preparation, key: str) -> tuple[str, str, frozenset[str]]:
    """SHA-256 of the image's pixels and of its file (empty for arrays), and what had to be done to it."""
    picture = part.opener.picture(key)
    pixels = hashlib.sha256(preparation.apply(picture).data).hexdigest()
    file = "" if "array" in part.reading else hashlib.sha256(part.opener.content(key)).hexdigest()
    return pixels, file, frozenset(picture.notes)


def _refuse_bad(bad: Mapping[str, str], skip_bad: bool, remarks: list[str]) -> None:
    if not bad:
        return
    listed = "\n".join(f"  {key}: {why}" for key, why in list(bad.items())[:_SHOWN])
    more = f"\n  … and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    if not skip_bad:
        raise InputError(
            f"{len(bad)} pictures cannot be used:\n{listed}{more}\n"
            "Mend or remove them, or leave them out with --skip-bad."
        )
    remarks.append(f"{len(bad)} pictures cannot be used and were left out:\n{listed}{more}")


def _numbered(source: Source, wishes: Wishes) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Names of the classes, and the labels of each split as numbers from 0."""
    values = {label for part in source.parts.values() for label in part.labels}
    names = distinct_classes(wishes.classes or source.classes or ())
    if all(isinstance(value, int) for value in values):
        numbers = {value: int(value) - wishes.first_label for value in values}
        names = names or tuple(str(k + wishes.first_label) for k in range(max(numbers.values()) + 1))
    else:
        names = names or distinct_classes(sorted(map(str, values)))
        numbers = {value: names.index(str(value)) if str(value) in names else -1 for value in values}
    if wrong := [value for value, number in numbers.items() if not 0 <= number < len(names)]:
        raise InputError(
            f"The label {wrong[0]!r} is none of the {len(names)} classes ({_some(names)}). "
            "Correct the label, name all classes with --classes, or give --first-label where they are counted from 1."
        )
    if len(names) < 2:
        raise InputError(f"There is one class only ({_some(names)}); a classifier needs two.")
    return names, {split: [numbers[label] for label in part.labels] for split, part in source.parts.items()}


def _preparation(sizes: Sizes, looks: Sequence[tuple[int, int, bool]], remarks: list[str]) -> Preparation:
    """How pictures become images: as asked for; as they are, where all have one size; or a usual square."""
    seen = {look[:2] for look in looks}
    grey = bool(looks) and all(look[2] for look in looks)
    colour = (not grey) if sizes.colour is None else sizes.colour
    resize: int | Literal["cover", "none"] = "cover"
    if sizes.size:
        size = sizes.size
    elif sizes.resize or sizes.crop:
        size = sizes.crop or (sizes.resize or 0, sizes.resize or 0)
        resize = sizes.resize or "none"
    elif len(seen) == 1:
        size, resize = next(iter(seen)), "none"
    else:
        shorter = sorted(min(look[:2]) for look in looks) or [0]
        side = next((side for side in SIDES if side <= shorter[len(shorter) // 2]), SIDES[-1])
        size, resize = (side, side), 256 if side == SIDES[0] else "cover"
        remarks.append(
            f"The pictures have {len(seen)} sizes and none was asked for: {side}×{side} was chosen. "
            "Say otherwise with --size, or with --resize and --crop, as your model was trained."
        )
    return Preparation(size, resize, colour, sizes.interpolation)


def _ordered(rows: list[Row], remarks: list[str], split: str) -> list[Row]:
    """In the order given, or mixed where it goes class by class: the first n must be of all classes."""
    labels = [row.label for row in rows]
    changes = sum(a != b for a, b in itertools.pairwise(labels))
    if len(set(labels)) < 2 or changes >= len(set(labels)):
        return rows
    remarks.append(
        f"The split {split} went class by class; it was mixed (by the SHA-256 of the names), so that its first n "
        "images are of all classes."
    )
    return sorted(rows, key=lambda row: hashlib.sha256(row.key.encode()).digest())


def _duplicates(splits: Mapping[str, Sequence[Row]]) -> list[str]:
    """Remarks on images that are there more than once."""
    remarks = []
    for split, rows in splits.items():
        labels: dict[str, set[int]] = {}
        for row in rows:
            labels.setdefault(row.pixels, set()).add(row.label)
        if again := len(rows) - len(labels):
            under = sum(len(of) > 1 for of in labels.values())
            remarks.append(
                f"{again} images of the split {split} are there already"
                + (f"; {under} are under different classes." if under else ".")
            )
    for split in set(splits) & {"test", "val"}:
        trained = {row.pixels for row in splits.get("train", ())}
        if shared := sum(row.pixels in trained for row in splits[split]):
            remarks.append(f"{shared} images of the split {split} are in the split train too.")
    return remarks


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
