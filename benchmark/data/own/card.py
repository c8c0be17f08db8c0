"""``dataset.toml``: a dataset of the user's own images, described without code."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import tomli_w

from benchmark.data.dataset import Dataset, Images, Labels, LazyImages, Split
from benchmark.data.own import manifest
from benchmark.data.own.kinds import opener_of
from benchmark.data.own.manifest import ManifestImages, Row
from benchmark.data.own.pictures import Preparation
from benchmark.data.own.survey import Survey
from benchmark.errors import InputError

CARD: Final = "dataset.toml"

_KNOWN: Final = {
    "name": str,
    "title": str,
    "label_space": str,
    "licence": str,
    "source": str,
    "evaluated": str,
    "classes": list,
    "images": dict,
    "eps": dict,
    "splits": dict,
}

USUAL_EPS: Final = (
    (1024, {"linf": "0.1", "l2": "1.0", "l1": "10.0"}, "small grey images (as MNIST's)"),
    (3 * 64 * 64, {"linf": "8/255", "l2": "0.5", "l1": "12.0"}, "small colour images (as CIFAR-10's)"),
    (2**62, {"linf": "4/255", "l2": "3.0", "l1": "255.0"}, "large images (as ImageNet's)"),
)
"""Budgets that are usual for images of at most so many numbers."""


def usual_eps(shape: tuple[int, int, int]) -> tuple[Mapping[str, str], str]:
    """Budgets in each norm for images of a shape, and what they are usual for."""
    numbers = shape[0] * shape[1] * shape[2]
    rows = USUAL_EPS if shape[0] == 1 else USUAL_EPS[1:]
    return next((eps, words) for most, eps, words in rows if numbers <= most)


def write_card(
    folder: Path,
    survey: Survey,
    *,
    name: str,
    title: str = "",
    label_space: str = "",
    licence: str = "",
    source: str = "",
    eps: Mapping[str, tuple[float, ...]] | None = None,
    root: Path | None = None,
) -> Path:
    """Write the card and the manifests of what was read.

    Args:
        folder: The dataset's folder, which exists.
        survey: What was read.
        name: The dataset's name.
        title: In one line; made from the survey if empty.
        label_space: See `Dataset.label_space`.
        licence: Of the data.
        source: Who made it.
        eps: Budgets in each norm; the usual ones for the size if None.
        root: The workspace; what lies in it is named relative to the card, so that the workspace can be moved.

    Returns:
        The card's path.
    """
    shape = survey.preparation.shape
    for split, rows in survey.splits.items():
        manifest.write(folder / f"{split}.csv", rows)
    head = {
        "name": name,
        "title": title or _title(name, survey),
        "label_space": label_space,
        "licence": licence,
        "source": source,
        "evaluated": survey.evaluated,
        "classes": list(survey.classes),
    }
    height, width = survey.preparation.size
    images = {
        "size": [height, width],
        "resize": survey.preparation.resize,
        "interpolation": survey.preparation.interpolation,
        "colour": survey.preparation.colour,
    }
    text = [
        "# A dataset of your own images, written by `curveboard dataset add`. You may change the title, label_space,",
        "# licence, source and eps; whatever else changes the images must be read again: `dataset add --replace`.\n",
        tomli_w.dumps(head),
        f"# Pictures are {survey.preparation.in_words()}.",
        tomli_w.dumps({"images": images}),
        _eps_text(eps, shape),
    ]
    for split, rows in survey.splits.items():
        reading = {key: _moved(value, root) for key, value in survey.source.parts[split].reading.items()}
        stated = {"count": len(rows), "digest": manifest.digest_of(rows, shape)} | reading
        text.append(tomli_w.dumps({"splits": {split: stated}}))
    path = folder / CARD
    path.write_text("\n".join(text), encoding="utf-8")
    return path


def _title(name: str, survey: Survey) -> str:
    height, width = survey.preparation.size
    kind = "in colour" if survey.preparation.colour else "in grey"
    count = len(survey.splits[survey.evaluated])
    return f"{name}, {height}×{width} pixels {kind}: {count:,} images of {len(survey.classes)} classes"


def _moved(value: Any, root: Path | None) -> Any:
    """A path of the workspace, relative to the dataset's folder."""
    if root is None or not isinstance(value, str) or not Path(value).is_absolute():
        return value
    path = Path(value)
    return str(Path("../..", path.relative_to(root))) if path.is_relative_to(root) else value


def _eps_text(eps: Mapping[str, tuple[float, ...]] | None, shape: tuple[int, int, int]) -> str:
    if eps is not None:
        return tomli_w.dumps({"eps": {norm: list(values) for norm, values in eps.items()}})
    usual, words = usual_eps(shape)
    lines = [
        "# Perturbation budgets in each norm, of images in [0, 1]; the first is the reference. Nothing was stated, so",
        f"# these are the usual ones for {words}. Numbers, or fractions as text.",
        "[eps]",
    ]
    return "\n".join([*lines, *(f'{norm} = ["{value}"]' for norm, value in usual.items())]) + "\n"


def read_card(path: Path) -> Dataset:
    """The dataset that a card describes; its images and manifest are read when they are asked for.

    Raises:
        InputError: If the card cannot be read, or says something impossible.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    return _read(path, facts.st_mtime_ns, facts.st_size)


@cache
def _read(path: Path, _time: int, _size: int) -> Dataset:
    """Once for each state of the file, so that what was read of the dataset is kept."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from error
    for key, value in values.items():
        if key not in _KNOWN or not isinstance(value, _KNOWN[key]):
            raise InputError(f"{path}: {key} = {value!r:.60} is not understood. Known: {', '.join(_KNOWN)}.")
    try:
        return _dataset(path, values)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"{path} is no whole description of a dataset ({type(error).__name__}: {error}). "
            "Write it anew: curveboard dataset add … --replace"
        ) from error


def _dataset(path: Path, values: Mapping[str, Any]) -> Dataset:
    home, classes = path.parent, tuple(map(str, values["classes"]))
    images = values["images"]
    height, width = map(int, images["size"])
    preparation = Preparation((height, width), images["resize"], bool(images["colour"]), images["interpolation"])
    splits = {
        split: Split(
            int(stated["count"]),
            str(stated["digest"]),
            partial(_images, home, split, dict(stated), preparation=preparation, classes=len(classes)),
        )
        for split, stated in values["splits"].items()
    }
    own = splits.pop(values["evaluated"])
    return Dataset(
        name=values["name"],
        title=values["title"],
        shape=preparation.shape,
        classes=classes,
        size=own.size,
        levels=255,
        digest=own.digest,
        eps={norm: tuple(map(number, of)) for norm, of in values.get("eps", {}).items()},
        licence=values.get("licence", ""),
        source=values.get("source", ""),
        read=own.read,
        label_space=values.get("label_space", ""),
        at=values["evaluated"],
        splits=splits,
        resizing=preparation.in_words(),
    )


def number(value: str | float) -> float:
    """A number, or a fraction as text (``8/255``); raises `ValueError` if it is none, or not positive."""
    above, _, below = str(value).partition("/")
    found = float(above) / float(below or 1)
    if not 0 < found < float("inf"):
        raise ValueError(f"{value} is no positive number")
    return found


def _images(
    home: Path, split: str, stated: Mapping[str, Any], *, preparation: Preparation, classes: int
) -> tuple[Images | LazyImages, Labels]:
    rows: list[Row] = manifest.read(home / f"{split}.csv", classes=classes)
    lazy = ManifestImages(rows, partial(opener_of, stated, home), preparation, name=home.name)
    return lazy, manifest.labels_of(rows)
