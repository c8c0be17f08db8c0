"""Where the letters of curves stand: on their line, apart from each other, and where the line is alone.

`charts.js` has the same function for the models that a reader chooses; both are tested on the same cases, so all
arithmetic here is that of whole numbers.

Letters on the map of ranks (`rank_letter_places`) must not hide where two models change places; those of single points
(`spread`) must not hide each other where models tie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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

MAP: Final = (300, 190)
"""Width and height of the map of ranks in pixels where it is smallest: on a phone."""
REACH: Final = 12
"""How far a letter on the map of ranks reaches, in pixels, and how far it stays from what it must not hide."""

FIELD: Final = (250, 260)
"""Width and height of a scatter in pixels where it is smallest: letters that are apart there are apart everywhere."""
BADGE: Final = 25
"""Smallest distance of two letters of a scatter, in its pixels, across or down."""
STEP: Final = 13
"""By how much a letter is moved at a time: two steps make room for another."""
RINGS: Final = 10
"""How often it may be moved."""


def spread(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where the letters of single points stand: on them, or as near as no other letter is; the first chooses first.

    `charts.js` has the same function, so all arithmetic is that of whole numbers.

    Args:
        points: (from the left, from the top) of each, as shares of the plot.

    Returns:
        The same of each letter; a point itself where its letter is on it.
    """
    offsets = [(0, 0)]
    for ring in range(1, RINGS + 1):
        around = [(dx, dy) for dy in range(-ring, ring + 1) for dx in range(-ring, ring + 1)]
        own = [(dx, dy) for dx, dy in around if max(abs(dx), abs(dy)) == ring]
        offsets += sorted(own, key=lambda d: (abs(d[0]) + abs(d[1]), abs(d[0]), d[1], d[0]))
    taken: list[tuple[int, int]] = []
    found: list[tuple[float, float]] = []
    for point in points:
        px, py = (math.floor(share * size + 0.5) for share, size in zip(point, FIELD, strict=True))
        spots = [(px + dx * STEP, py + dy * STEP) for dx, dy in offsets]
        inside = [s for s in spots if 0 <= s[0] <= FIELD[0] and 0 <= s[1] <= FIELD[1]] or spots
        free = [s for s in inside if all(max(abs(s[0] - t[0]), abs(s[1] - t[1])) >= BADGE for t in taken)]
        best = (free or inside)[0]
        taken.append(best)
        found.append(point if best == (px, py) else (best[0] / FIELD[0], best[1] / FIELD[1]))
    return found


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


def rank_letter_places(
    places: Sequence[Floats], x: Floats, top: int, crossings: Sequence[tuple[float, float]]
) -> list[tuple[float, ...]]:
    """Where each model's letter stands on the map of ranks, so that it hides no crossing and no other letter.

    A model that is on the map at the first position has its letter there, outside the plot, where nothing crosses. A
    second one stands near the line's end, as far back as it must; where it would hide something it is left out.

    Args:
        places: Place of each model at each position, shape (k,) each; NaN where it has none.
        x: The positions, shape (k,), rising from 0.
        top: Last place that the map shows.
        crossings: (position, place) of each crossing.
    """
    scale = np.array([MAP[0] / x[-1], MAP[1] / top])
    marks = np.array(crossings, dtype=np.float64).reshape(-1, 2) * scale
    taken = np.empty((0, 2))
    found: list[tuple[float, ...]] = []
    for own in places:
        inside = np.flatnonzero(own <= top)
        if not len(inside):
            found.append(())
            continue
        at_edge = inside[0] == 0
        at = [0.0] if at_edge else []
        last_quarter = inside[inside >= inside[0] + 3 * (inside[-1] - inside[0]) // 4][::-1]
        for candidates, needed in ((inside, True), (last_quarter, False))[int(at_edge) :]:
            spots = np.column_stack((x[candidates], own[candidates])) * scale
            room = np.minimum(_room(spots, marks), _room(spots, taken) / 2)
            best = int(np.argmax(np.minimum(room, REACH)))
            if needed or room[best] >= REACH:
                at.append(float(x[candidates[best]]))
                taken = np.vstack((taken, spots[best]))
        found.append(tuple(at))
    return found


def _room(spots: Floats, others: Floats) -> Floats:
    """How far each spot is from the nearest of others, across or down, in pixels."""
    nearest: Floats = np.abs(spots[:, None] - others[None]).max(axis=2).min(axis=1, initial=np.inf)
    return nearest
