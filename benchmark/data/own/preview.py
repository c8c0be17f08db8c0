"""A contact sheet of a dataset: a few images of each class, as models see them."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from benchmark.data.dataset import Dataset

COLUMNS: Final = 8
CLASSES: Final = 40
"""Classes that are shown at most."""
SIDE: Final = 96
"""Pixels of a picture on the sheet."""
_LABEL: Final = 16
_GAP: Final = 4


def contact_sheet(dataset: Dataset) -> bytes:
    """A PNG: a row a class, its first images of the evaluated split, under the class's name."""
    labels = dataset.labels()
    shown = range(min(dataset.n_classes, CLASSES))
    height = _LABEL + SIDE + _GAP
    sheet = Image.new("RGB", (COLUMNS * (SIDE + _GAP) + _GAP, len(shown) * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(shown):
        top = row * height + _GAP
        draw.text((_GAP, top), f"{label} {dataset.classes[label]}", fill="black")
        for column, index in enumerate(np.flatnonzero(labels == label)[:COLUMNS].tolist()):
            sheet.paste(_thumbnail(dataset, index), (_GAP + column * (SIDE + _GAP), top + _LABEL))
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _thumbnail(dataset: Dataset, index: int) -> Image.Image:
    stored = dataset.stored(index, index + 1)[0]
    pixels = np.rint(stored.astype(np.float64) * 255 / dataset.levels).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])).convert("RGB")
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
