"""Samples in pictures: the easiest and the hardest to break, each as clean image, adversarial example, difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sitegen.facts import ThreatFacts
from sitegen.pictures import Examples, difference, png, strip, to_pixels
from sitegen.words import number

COUNT: Final = 4
"""Pictures at each end."""


@dataclass(frozen=True)
class Strip:
    """A sample in pictures.

    Attributes:
        file: The picture's file, beside the page.
        alt: What it shows.
        sample: Index in the dataset.
        label: Name of its class.
        distance: Of the nearest adversarial example.
        source: Who found that.
        width: Of the picture in pixels.
        height: Of the picture in pixels.
    """

    file: str
    alt: str
    sample: int
    label: str
    distance: float
    source: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class PictureData:
    """What pictures of samples are made from.

    Attributes:
        card: The dataset's card: names of classes, ``levels`` of its images.
        labels: Shape (n,), or None where they are not stored.
        images: Shape (n, c, h, w), uint8, or None where they are not stored.
        examples: Where adversarial examples come from.
    """

    card: Mapping[str, Any]
    labels: NDArray[np.int64] | None = None
    images: NDArray[np.uint8] | None = None
    examples: Examples | None = None

    def label(self, sample: int) -> str:
        """Name of a sample's class."""
        names = self.card.get("classes") or []
        value = int(self.labels[sample]) if self.labels is not None and sample < len(self.labels) else -1
        return str(names[value]) if 0 <= value < len(names) else str(value)

    def clean(self, sample: int) -> NDArray[np.float64] | None:
        """The clean image in [0, 1], shape (c, h, w), as the model saw it; None without images."""
        if self.images is None or sample >= len(self.images):
            return None
        levels = int(self.card.get("levels") or 255)
        image: NDArray[np.float64] = np.rint(self.images[sample] / 255 * levels) / levels
        return image


def strips_of(facts: ThreatFacts, picture_data: PictureData, files: dict[str, bytes]) -> list[tuple[str, list[Strip]]]:
    """The easiest and the hardest samples that have an adversarial example; their pictures go into ``files``."""
    distances = facts.curve.distances
    known = np.flatnonzero((distances > 0) & np.isfinite(distances))
    order = known[np.argsort(distances[known], kind="stable")]
    groups = {
        "Easiest to break": order[:COUNT],
        "Hardest to break": order[max(len(order) - COUNT, COUNT) :][::-1],
    }
    found = {
        title: [s for sample in map(int, chosen) if (s := _strip(facts, picture_data, sample, files)) is not None]
        for title, chosen in groups.items()
    }
    return [(title, strips) for title, strips in found.items() if strips]


def _strip(facts: ThreatFacts, picture_data: PictureData, sample: int, files: dict[str, bytes]) -> Strip | None:
    part = facts.parts[int(facts.winner[sample])]
    clean = picture_data.clean(sample)
    example = picture_data.examples.get(part.data.evidence, sample) if picture_data.examples is not None else None
    if clean is None or example is None or example.shape != clean.shape:
        return None
    pixels = strip([to_pixels(clean), to_pixels(example), difference(clean, example)])
    name, distance = picture_data.label(sample), float(facts.curve.distances[sample])
    file = f"sample-{facts.axis.threat}-{sample}.png"
    files[file] = png(pixels)
    alt = (
        f"Sample {sample}, a {name}: clean image, adversarial example at {facts.axis.threat} distance "
        f"{number(distance)}, and their difference"
    )
    return Strip(file, alt, sample, name, distance, part.source.title, pixels.shape[1], pixels.shape[0])
