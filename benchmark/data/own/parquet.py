"""Parquet files as Hugging Face has them: a column of encoded images, and a column of labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmark.data.own.sources import FileOpener, Part, Source, Wishes, is_hidden, split_named
from benchmark.errors import InputError

PICTURES: Final = "pictures"
"""Folder of the dataset that the images are unpacked into."""
_IMAGES: Final = ("image", "img", "images", "picture")
_LABELS: Final = ("label", "labels", "fine_label", "class", "target")
_ROWS: Final = 64
"""Rows that are held at once."""


def find(path: Path, wishes: Wishes, staging: Path) -> Source:
    """Unpack the images of all files into ``staging``, so that any of them can be read alone and without pyarrow."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*.parquet") if not is_hidden(p.name))
    home = staging / PICTURES
    opener = FileOpener(home)
    keys: dict[str, list[str]] = {}
    labels: dict[str, list[str | int]] = {}
    classes: tuple[str, ...] | None = None
    for number, file in enumerate(files):
        table = _open(file)
        image, label = _columns(table.schema_arrow, wishes, file)
        stated = _class_names(table.schema_arrow, label)
        if classes is not None and stated is not None and stated != classes:
            raise InputError(f"{file} names other classes than {files[0]}; they are parts of different datasets.")
        classes = classes or stated
        split = split_named(file.stem) or split_named(file.parent.name) or "test"
        (home / split).mkdir(parents=True, exist_ok=True)
        for row, (content, value) in enumerate(_rows(table, image, label, file)):
            key = f"{split}/{number:03}-{row:07}"
            (home / key).write_bytes(content)
            keys.setdefault(split, []).append(key)
            labels.setdefault(split, []).append(value)
    if not keys:
        raise InputError(f"{path} has no rows.")
    parts = {split: Part(keys[split], labels[split], opener, {"folder": PICTURES}) for split in keys}
    size = sum(file.stat().st_size for file in home.rglob("*") if file.is_file())
    remarks = [f"The images were unpacked into the dataset's own folder ({size / 1e6:,.1f} MB)."]
    return Source("Parquet files", path, parts, classes, remarks)


def _open(file: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"{file.name} is a Parquet file, and pyarrow, which reads them, is not installed. "
            "Install it with: pip install 'curveboard[parquet]'"
        ) from None
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet: {' '.join(str(error).split())[:200]}.") from error


def _columns(schema: Any, wishes: Wishes, file: Path) -> tuple[str, str]:
    found = []
    for wanted, usual, option in ((wishes.images, _IMAGES, "--images"), (wishes.labels, _LABELS, "--labels")):
        names = [wanted] if wanted else [name for name in usual if name in schema.names]
        if not names or names[0] not in schema.names:
            raise InputError(
                f"{file.name} has the columns {', '.join(schema.names)}; which holds the {usual[0]}s? "
                f"Give {option} COLUMN."
            )
        found.append(names[0])
    return found[0], found[1]


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Names of the classes, where Hugging Face's ``ClassLabel`` states them."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        names = features[label]["names"]
    except (TypeError, KeyError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def _rows(table: Any, image: str, label: str, file: Path) -> Iterator[tuple[bytes, str | int]]:
    """The encoded images with their labels; few rows are held at once."""
    import pyarrow

    row = 0
    try:
        for batch in table.iter_batches(batch_size=_ROWS, columns=[image, label]):
            for stored, value in zip(batch.column(image).to_pylist(), batch.column(label).to_pylist(), strict=True):
                content = stored.get("bytes") if isinstance(stored, dict) else stored
                if not isinstance(content, bytes) or not isinstance(value, str | int):
                    raise InputError(
                        f"{file}, row {row}: an encoded image and a label are needed, got {type(content).__name__} and "
                        f"{value!r}. Files that only name images elsewhere are not read."
                    )
                yield content, value
                row += 1
    except pyarrow.ArrowException as error:
        raise InputError(f"{file}, near row {row}: {' '.join(str(error).split())[:200]}.") from error
