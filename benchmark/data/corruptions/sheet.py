"""A contact sheet: what each corruption does to a few images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmark.data.corruptions import CORRUPTIONS, Family, Quirks, corrupt, family_corruptions, levels, unavailable

_MARGIN = 4


def contact_sheet(
    images: NDArray[np.uint8], *, family: Family, seed: int = 0, quirks: Quirks | None = None, names: Sequence[str] = ()
) -> Image.Image:
    """One row a corruption: for each image the clean one, then its severities.

    Args:
        images: Shape (n, c, h, w), bytes.
        family: Whose corruptions.
        seed: Seed of the suite.
        quirks: Which of the published generators' quirks to follow.
        names: Which corruptions; all of the family by default.

    Returns:
        A picture; a corruption that cannot be had has its reason in its row.
    """
    n, channels, h, w = images.shape
    zoom = max(1, round(72 / max(h, w)))
    cell_h, cell_w = h * zoom + _MARGIN, w * zoom + _MARGIN
    left, top = 130, 24
    severities = range(1, levels(family) + 1)
    chosen = list(names) or list(family_corruptions(family))
    size = (left + n * (1 + len(severities)) * cell_w, top + len(chosen) * cell_h)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for i in range(n):
        for j, label in enumerate(["clean", *map(str, severities)]):
            draw.text((left + (i * (1 + len(severities)) + j) * cell_w, 6), label, "black", font)
    for row, name in enumerate(chosen):
        y = top + row * cell_h
        draw.text((4, y + cell_h // 2 - 8), CORRUPTIONS[name].title, "black", font)
        reason = unavailable(name, family, channels)
        if reason:
            draw.text((left, y + cell_h // 2 - 8), reason, "black", font)
            continue
        made = [images, *(corrupt(images, name, s, family=family, seed=seed, quirks=quirks) for s in severities)]
        for i in range(n):
            for j, version in enumerate(made):
                x = left + (i * len(made) + j) * cell_w
                sheet.paste(_picture(version[i]).resize((w * zoom, h * zoom), Image.Resampling.NEAREST), (x, y))
    return sheet


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0).copy())
