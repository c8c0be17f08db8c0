"""MNIST-C's own: affine maps, stripes, lines and edges (Mu & Gilmer 2019).

Lengths are stated for 28 × 28 pixels, and measured in 28ths of the side on other images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.data.corruptions.draws import Draws, Floats
from benchmark.data.corruptions.sampling import luma, warped

SIDE: Final = 28
REACH: Final = 2.3
"""Half the width of a line, in pixels."""


def shear(x: Floats, draws: Draws, *, angle: float) -> Floats:
    """Sheared by ± angle about the centre: sampled at [[1, −sin], [0, cos]]."""
    return _signed(x, draws, lambda s: (1.0, -math.sin(s * angle), 0.0, math.cos(s * angle)))


def rotate(x: Floats, draws: Draws, *, angle: float) -> Floats:
    """Rotated by ± angle about the centre."""

    def matrix(sign: int) -> tuple[float, float, float, float]:
        cosine, sine = math.cos(sign * angle), math.sin(sign * angle)
        return cosine, -sine, sine, cosine

    return _signed(x, draws, matrix)


def scale(x: Floats, draws: Draws, *, inverse: float) -> Floats:
    """Made smaller about the centre, by ``inverse`` on both axes."""
    return warped(x, _about_centre(x.shape, (inverse, 0.0, 0.0, inverse)))


def translate(x: Floats, draws: Draws, *, pixels: float) -> Floats:
    """Moved by ± pixels on both axes; zeros come in."""
    h, w = x.shape[-2:]
    signs = np.array([2 * generator.integers(0, 2, 2) - 1 for generator in draws])
    out = np.empty_like(x)
    for right in (-1, 1):
        for down in (-1, 1):
            rows = (signs[:, 0] == right) & (signs[:, 1] == down)
            if rows.any():
                dx, dy = right * pixels * w / SIDE, down * pixels * h / SIDE
                out[rows] = warped(x[rows], (1.0, 0.0, dx, 0.0, 1.0, dy))
    return out


def _signed(x: Floats, draws: Draws, matrix: Callable[[int], tuple[float, float, float, float]]) -> Floats:
    """Each image by one of two maps about its centre, with sign −1 or 1."""
    signs = np.array([2 * generator.integers(0, 2) - 1 for generator in draws])
    out = np.empty_like(x)
    for sign in (-1, 1):
        rows = signs == sign
        if rows.any():
            out[rows] = warped(x[rows], _about_centre(x.shape, matrix(sign)))
    return out


def _about_centre(shape: tuple[int, ...], matrix: tuple[float, float, float, float]) -> tuple[float, ...]:
    h, w = shape[-2:]
    u, v = (w - 1) / 2, (h - 1) / 2
    a, b, d, e = matrix
    return a, b, u - a * u - b * v, d, e, v - d * u - e * v


def stripe(x: Floats, draws: Draws, *, strength: float) -> Floats:
    """The outer quarters, from left and right, inverted."""
    column = np.arange(x.shape[-1]) * SIDE
    side = x.shape[-1]
    outer = (column < 7 * side) | (column >= 21 * side)
    return np.where(outer, (1 - strength) * x + strength * (1 - x), x)


def dotted_line(x: Floats, draws: Draws, *, strength: float) -> Floats:
    """A line from (0, r0) to (27, r1), every second run of two columns blank, the first at column 0 or 1."""
    _, columns = _points(*x.shape[-2:])
    out = x.copy()
    for image, generator in zip(out, draws, strict=True):
        r0, r1 = generator.integers(0, 27, 2)
        drawn = (np.floor(columns) - generator.integers(2)) // 2 % 2 == 1
        np.add(image, strength * _lines(x.shape[-2:], np.array([[0.0, r0, 27.0, r1]]), drawn), out=image)
    return out


def zigzag(x: Floats, draws: Draws, *, strength: float) -> Floats:
    """A zigzag of amplitude 2 and half period 2 along a line from (2, r0) to (25, r0 + [−5, 4])."""
    out = x.copy()
    for image, generator in zip(out, draws, strict=True):
        r0, climb = int(generator.integers(0, 27)), int(generator.integers(-5, 5))
        np.add(image, strength * _lines(x.shape[-2:], _zigzag(r0, climb)), out=image)
    return out


@lru_cache(maxsize=512)
def _zigzag(r0: int, climb: int) -> Floats:
    """The segments, (k, 4): c0, r0, c1, r1 of each."""
    length, theta = 23 / math.cos(math.atan2(climb, 23)), math.atan2(climb, 23)
    corners = [(0.0, 0.0)]
    corners += [(4.0 * i + 2, 2.0 * (-1) ** i) for i in range(int((length - 2) // 4) + 1)]
    last = 4 * (length // 4)
    if length != last:
        corners.append((length, corners[-1][1] / (2 * (length - last))))
    c, r = np.array(corners).T
    turned = np.column_stack([c * math.cos(theta) - r * math.sin(theta), c * math.sin(theta) + r * math.cos(theta)])
    points = turned + np.array([2, r0])
    return np.hstack([points[:-1], points[1:]])


def _lines(shape: tuple[int, ...], segments: Floats, drawn: NDArray[np.bool_] | None = None) -> Floats:
    """Sum of lines of intensity clip(log(1 − d / 2.3) + 1, 0, 1), d the vertical distance: shape (h, w).

    Args:
        shape: (h, w).
        segments: (k, 4): c0, r0, c1, r1 of each line.
        drawn: Which of the columns of `_points` are drawn; all by default.
    """
    rows, columns = _points(*shape)
    c0, r0, c1, r1 = (segments[:, i, None, None] for i in range(4))
    middle = (r1 - r0) / np.where(c1 != c0, c1 - c0, 1) * (columns - c0) + r0
    distance = np.minimum(np.abs(rows[:, None] - middle), REACH - 1e-10)
    line = np.clip(np.log(1 - distance / REACH) + 1, 0, 1)
    inside = (columns >= np.floor(c0)) & (columns < np.ceil(c1)) & (c1 != c0)
    total = np.where(inside & (drawn if drawn is not None else True), line, 0).sum(axis=0)
    h, w = shape
    return np.asarray(total.reshape(h, len(rows) // h, w, len(columns) // w).mean(axis=(1, 3)))


@lru_cache(maxsize=8)
def _points(h: int, w: int) -> tuple[Floats, Floats]:
    """Where lines are drawn, on the grid of 28: the pixels' centres; some to a pixel that is larger, to be averaged."""
    rows, columns = (max(math.ceil(SIDE / side), 1) * side for side in (h, w))
    return (np.arange(rows) + 0.5) * SIDE / rows - 0.5, (np.arange(columns) + 0.5) * SIDE / columns - 0.5


def canny_edges(x: Floats, draws: Draws, *, sigma: float, strength: float) -> Floats:
    """Canny's edges after a Gaussian, by scikit-image; of colours, the edges of their greys."""
    from skimage.feature import canny

    width = sigma * x.shape[-1] / SIDE
    edges = np.stack([canny(grey, sigma=width) for grey in luma(x)[:, 0]])[:, None]  # type: ignore[no-untyped-call]
    return np.asarray((1 - strength) * x + strength * edges)
