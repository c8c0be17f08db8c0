"""Many small images in one picture, so that a page can show any of them: contact sheets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sitegen.facts import ThreatFacts
from sitegen.model.strips import PictureData
from sitegen.pictures import png, to_pixels

COLUMNS: Final = 20
"""Images in a row of a sheet."""
PER_SHEET: Final = 400
MOST: Final = 16 << 20
"""Bytes of raw images that a dataset's sheets show at most; the samples beyond have no picture."""
MOST_ADVERSARIAL: Final = 1 << 20
"""The same for the adversarial examples of a model under a threat: all of a slice, or none."""


def sheet(images: Sequence[NDArray[np.uint8]]) -> bytes:
    """Pictures of one size, row by row, as a PNG.

    Args:
        images: Shape (h, w) or (h, w, 3) each.
    """
    rows = -(-len(images) // COLUMNS)
    height, width, *channels = images[0].shape
    page = np.full((rows * height, min(len(images), COLUMNS) * width, *channels), 255, dtype=np.uint8)
    for k, image in enumerate(images):
        y, x = k // COLUMNS * height, k % COLUMNS * width
        page[y : y + height, x : x + width] = image
    return png(page, effort=6)


def dataset_sheets(images: NDArray[np.uint8]) -> list[bytes]:
    """Sheets of the first images of a dataset, `PER_SHEET` each.

    Args:
        images: Shape (n, c, h, w).
    """
    shown = images[: shown_images(images)]
    return [sheet(_pixels(shown[start : start + PER_SHEET])) for start in range(0, len(shown), PER_SHEET)]


def shown_images(images: NDArray[np.uint8]) -> int:
    """How many of a dataset's images its sheets show."""
    return min(len(images), MOST // int(np.prod(images.shape[1:])))


def _pixels(images: Iterable[NDArray[Any]]) -> list[NDArray[np.uint8]]:
    return [to_pixels(image) for image in images]


def adversarial_sheet(facts: ThreatFacts, picture_data: PictureData) -> bytes | None:
    """The nearest adversarial example of every sample on one sheet, the clean image where there is none.

    None where images or examples are not at hand, or are too many or too large.
    """
    n = len(facts.curve)
    if picture_data.images is None or picture_data.examples is None or not facts.parts:
        return None
    if n * int(np.prod(picture_data.images.shape[1:])) > MOST_ADVERSARIAL:
        return None
    found: list[NDArray[np.uint8]] = []
    for sample, distance in enumerate(facts.curve.distances.tolist()):
        image: NDArray[Any] | None = picture_data.images[sample]
        if 0 < distance < np.inf:
            image = picture_data.examples.get(facts.parts[int(facts.winner[sample])].data.evidence, sample)
        if image is None or image.shape != picture_data.images.shape[1:]:
            return None
        found.append(to_pixels(image))
    return sheet(found)
