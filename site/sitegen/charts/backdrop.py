"""The grey curves of a large board as one picture, whose size does not grow with the models or the images."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from sitegen.pictures import shades

WIDTH: Final = 1200
HEIGHT: Final = 400
"""Pixels down: a curve is drawn within half of one, 0.125 points of robust accuracy, of where it is."""
GREY: Final = (0x88, 0x95, 0xA1)
"""Seen on white and on black."""
SHADES: Final = tuple(round(255 * (1 - 0.3**lines)) for lines in range(8))
"""How opaque a pixel is by the curves that pass it: each lets three tenths of it
shine through; seven and more are alike."""


def backdrop(counts: NDArray[np.integer], n: int, grid: Floats) -> bytes:
    """The curves as a PNG that is stretched over a chart's plot.

    Args:
        counts: Robust samples, shape (curves, g), falling.
        n: Number of samples.
        grid: The axis' positions, shape (g,), rising from 0.
    """
    columns = np.minimum((grid / grid[-1] * WIDTH).astype(np.int64), WIDTH - 1)
    reached = np.searchsorted(columns, np.arange(WIDTH), side="right") - 1  # the last position of each column
    depths = np.minimum(((n - counts) * HEIGHT) // n, HEIGHT - 1)[:, reached]
    above = np.concatenate((depths[:, :1], depths[:, :-1]), axis=1)  # where each curve comes from
    passes = np.zeros((HEIGHT + 1, WIDTH), dtype=np.int32)
    across = np.broadcast_to(np.arange(WIDTH), depths.shape)
    np.add.at(passes, (above, across), 1)
    np.add.at(passes, (depths + 1, across), -1)
    lines = np.cumsum(passes, axis=0)[:HEIGHT]
    return shades(np.minimum(lines, len(SHADES) - 1).astype(np.uint8), GREY, SHADES)
