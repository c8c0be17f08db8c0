"""Where the letters of curves stand: on their line, apart from each other, and where the line is alone.

`charts.js` has the same function for the models that a reader chooses; both are tested on the same cases, so all
arithmetic here is that of whole numbers.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats

WIDTH: Final = 1000
HEIGHT: Final = 400
PLACES: Final = 64
"""Places along the axis that are tried, its ends left out."""
APART: Final = 44
"""Smallest distance of two letters, in pixels of the plot, across or down."""


def letter_places(counts: NDArray[np.integer], n: int, grid: Floats) -> list[int]:
    """The position in the grid of each curve's letter.

    Args:
        counts: Robust samples, shape (curves, g); the first has the first choice.
        n: Number of samples.
        grid: The positions, shape (g,), rising from 0.
    """
    tried = [j * (len(grid) - 1) // PLACES for j in range(1, PLACES)]
    x = np.floor(grid[tried] / grid[-1] * WIDTH + 0.5).astype(np.int64)
    y = np.floor((1 - counts[:, tried] / n) * HEIGHT + 0.5).astype(np.int64)
    chosen: list[int] = []
    taken: list[tuple[int, int]] = []
    for k in range(len(counts)):
        gaps = np.abs(np.delete(y, k, axis=0) - y[k]).min(axis=0, initial=APART)
        free = np.full(len(tried), 2 * APART)
        for there in taken:
            free = np.minimum(free, np.maximum(np.abs(x - there[0]), np.abs(y[k] - there[1])))
        worth = np.where(free < APART, free - 10_000, 4 * gaps + free) - np.where(counts[k, tried] == 0, 1000, 0)
        best = int(np.argmax(worth))
        chosen.append(tried[best])
        taken.append((int(x[best]), int(y[k, best])))
    return chosen
