"""Weather: snow, fog, spatter. Frost, which needs photographs, has a file of its own."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.data.corruptions.blur import along
from benchmark.data.corruptions.draws import Draws, Floats
from benchmark.data.corruptions.sampling import gaussian, luma, zoomed

_FIELD: Final = 1 << 17
"""Values of fractals made at once, to fit into a processor's cache: several times as fast as thousands of them."""

WATER: Final = np.array([175, 238, 238]) / 255
MUD: Final = np.array([63, 42, 20]) / 255
Bytes = NDArray[np.uint8]

_TAN_22: Final = math.tan(math.pi / 8)


def snow(
    x: Floats,
    draws: Draws,
    *,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    share: float,
) -> Floats:
    """Flakes: thresholded noise, zoomed and blurred along an angle U(−135°, −45°), on a paler image.

    The layer is held in 8 bits before and after the motion, as published; it is added as it is and turned by 180°.
    """
    h, w = x.shape[-2:]
    drawn = [(g.standard_normal((h, w)), g.uniform(-135, -45)) for g in draws]
    layer = flakes(np.stack([noise for noise, _ in drawn]), mean, deviation, zoom, threshold)
    moved = along(layer, np.array([angle for _, angle in drawn]), radius=radius, sigma=sigma)
    return snowed(x, moved, share=share)


def flakes(noise: Floats, mean: float, deviation: float, zoom: float, threshold: float) -> Floats:
    """The layer before it moves: (n, 1, h, w), in 8 bits."""
    layer = zoomed(mean + deviation * noise[:, None], zoom)
    return np.floor(np.clip(np.where(layer < threshold, 0, layer), 0, 1) * 255 + 1e-3) / 255


def snowed(x: Floats, layer: Floats, *, share: float) -> Floats:
    """The image made paler, with the moved layer and the layer turned by 180° added."""
    layer = np.round(layer * 255) / 255
    pale = share * x + (1 - share) * np.maximum(x, luma(x) * 1.5 + 0.5)
    return np.asarray(pale + layer + layer[..., ::-1, ::-1])


def fog(x: Floats, draws: Draws, *, height: float, decay: float, size: float) -> Floats:
    """(x + height · field) · max / (max + height), the field a diamond-square fractal in [0, 1].

    Args:
        x: Images.
        draws: Generators.
        height: Of the field.
        decay: By how much the field's steps shrink from one scale to the next.
        size: Side of the field, a power of 2; 0 for the smallest that covers the image.
    """
    h, w = x.shape[-2:]
    side = int(size) or 1 << (max(h, w) - 1).bit_length()
    field = np.concatenate([plasma(few, side, decay, h, w) for few in draws.parts(max(_FIELD // side**2, 1))])[:, None]
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((x + height * field) * brightest / (brightest + height) if height > 0 else x)


def plasma(draws: Draws, side: int, decay: float, height: int, width: int) -> Floats:
    """The corner of diamond-square fractals on a torus, each scaled so that the whole is in [0, 1].

    From scale to scale the grid of corners gets its centres (the mean of four corners) and then the middles of its
    edges (the mean of two corners and two centres), each with a uniform step that shrinks by ``decay`` squared.

    Args:
        draws: Generators.
        side: Of the whole, a power of 2.
        decay: How the steps shrink.
        height: Rows that are wanted.
        width: Columns that are wanted.

    Returns:
        Shape (n, height, width).
    """
    n, k = len(draws), 1
    grid = np.zeros((n, 1, 1), dtype=np.float32)
    noise = draws.uniform(side * side - 1, dtype=np.float32)
    used, wibble = 0, 100.0
    low, high = np.zeros((n, 1, 1)), np.zeros((n, 1, 1))
    while k < side:
        steps = noise[:, used : used + 3 * k * k].reshape(n, 3, k, k)
        steps *= np.float32(2 * wibble**2)
        steps -= np.float32(wibble**2)
        across, down = _with_next(grid, 2), _with_next(grid, 1)
        centres = steps[:, 0]
        centres += 0.25 * _with_next(across, 1)
        for edges, corners, axis in ((steps[:, 1], across, 1), (steps[:, 2], down, 2)):
            np.add(edges, 0.25 * (corners + np.roll(_with_next(centres, axis), 1, axis)), out=edges)
        used, wibble = used + 3 * k * k, wibble / decay
        low = np.minimum(low, steps.min(axis=(1, 2, 3))[:, None, None])
        high = np.maximum(high, steps.max(axis=(1, 2, 3))[:, None, None])
        kept = slice(None) if 2 * k < side else slice((max(height, width) + 1) // 2)
        grid = _woven(grid[:, kept, kept], steps[:, :, kept, kept])
        k *= 2
    return np.asarray((grid[:, :height, :width] - low) / np.where(high > low, high - low, 1))


def _with_next(grid: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Each value and the next along an axis, added; the one after the last is the first."""
    return np.asarray(grid + np.roll(grid, -1, axis))


def _woven(corners: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The grid of half the step, (n, 2 h, 2 w): corners, and between them centres and both kinds of edges."""
    n, h, w = corners.shape
    finer = np.empty((n, h, 2, w, 2), dtype=np.float32)
    finer[:, :, 0, :, 0], finer[:, :, 1, :, 1] = corners, steps[:, 0]
    finer[:, :, 0, :, 1], finer[:, :, 1, :, 0] = steps[:, 1], steps[:, 2]
    return finer.reshape(n, 2 * h, 2 * w)


def spatter(
    x: Floats,
    draws: Draws,
    *,
    mean: float,
    deviation: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: float,
) -> Floats:
    """Drops of water (pale turquoise, thick at their rims) or of mud (brown, opaque) where smooth noise is high."""
    h, w = x.shape[-2:]
    layer = gaussian(mean + deviation * draws.normal(h, w)[:, None], sigma)
    layer = np.where(layer < threshold, 0, layer)
    if mud >= 0.5:
        mask = gaussian((layer > threshold).astype(np.float64), strength)
        mask = np.where(mask < 0.8, 0, mask)
        return np.asarray(x * (1 - mask) + mask * _colour(MUD, x.shape[1]))
    return np.asarray(x + strength * _water(layer[:, 0])[:, None] * _colour(WATER, x.shape[1]))


def _colour(colour: Floats, channels: int) -> Floats:
    """Of greys the red part, as MNIST-C has it for mud."""
    return colour[:channels].reshape(1, channels, 1, 1)


def _water(layer: Floats) -> Floats:
    """Thickness of the water, at most 1: shape (n, h, w).

    The distance to the drops' edges, cut at 20 pixels, equalised and embossed. The published generator takes OpenCV's
    approximate distance; this one is the exact one.
    """
    liquid = np.floor(layer * 255 + 1e-3) % 256  # a byte wraps around, as published
    edges = contours(liquid, low=50, high=150)
    # The first axis is so long that another image's edges are beyond the cut.
    distance = ndimage.distance_transform_edt(~edges, sampling=(100, 1, 1)) if edges.any() else np.full(layer.shape, 20)
    smooth = np.floor(_box(np.minimum(distance, 20)) + 1e-6).astype(np.uint8)
    kernel = np.array([[[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]], dtype=np.float64)
    emboss = ndimage.correlate(_equalised(smooth).astype(np.float64), kernel, mode="mirror")
    thickness = liquid * np.rint(_box(np.clip(emboss, 0, 255)))
    most = thickness.max(axis=(1, 2), keepdims=True)
    return np.asarray(thickness / np.where(most > 0, most, 1))


def _box(images: Floats) -> Floats:
    """Mean of 3 × 3, mirrored at the edges."""
    return np.asarray(ndimage.uniform_filter(images, (1, 3, 3), mode="mirror"))


def _equalised(images: Bytes) -> Bytes:
    """Histogram equalisation of each image, (n, h, w): its smallest value becomes 0, its largest 255."""
    n, size = len(images), images[0].size
    index = images.reshape(n, size) + 256 * np.arange(n)[:, None]
    counts = np.bincount(index.ravel(), minlength=256 * n).reshape(n, 256)
    first = np.take_along_axis(counts, images.reshape(n, size).min(axis=1).astype(np.intp)[:, None], axis=1)
    rest = size - first
    table = np.rint((np.cumsum(counts, axis=1) - first) * (255 / np.maximum(rest, 1))).clip(0, 255)
    table = np.where(rest > 0, table, np.arange(256)).astype(np.uint8)
    return np.asarray(table.ravel()[index].reshape(images.shape))


def contours(images: Floats, *, low: float, high: float) -> NDArray[np.bool_]:
    """Canny's edges of images of bytes without smoothing, as OpenCV takes them: |Gx| + |Gy| of 3 × 3 Sobel kernels.

    Args:
        images: Shape (n, h, w), values 0 to 255.
        low: Edge pixels connected to a sure one are above it.
        high: Sure edge pixels are above it.

    Returns:
        Booleans, shape (n, h, w).
    """
    smooth, slope = np.array([1.0, 2, 1]), np.array([-1.0, 0, 1])
    gx, gy = (
        ndimage.correlate1d(ndimage.correlate1d(images, slope, a, mode="nearest"), smooth, b, mode="nearest")
        for a, b in ((2, 1), (1, 2))
    )
    size = np.pad(np.abs(gx) + np.abs(gy), ((0, 0), (1, 1), (1, 1)))
    middle = size[:, 1:-1, 1:-1]
    h, w = middle.shape[1:]
    flat, steep = np.abs(gy) < _TAN_22 * np.abs(gx), np.abs(gy) > np.abs(gx) / _TAN_22
    direction = np.select([flat, steep, gx * gy >= 0], [0, 1, 2], 3)
    ahead = [
        (size[:, 1 - dy : 1 - dy + h, 1 - dx : 1 - dx + w], size[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w])
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))
    ]
    before, after = (np.choose(direction, [pair[i] for pair in ahead]) for i in (0, 1))
    ridge = (middle > before) & (middle >= after) & (middle > low)
    connected = np.zeros((3, 3, 3), dtype=bool)
    connected[1] = True  # within an image, diagonals too
    labels, count = ndimage.label(ridge, structure=connected)
    sure = np.zeros(count + 1, dtype=bool)
    sure[labels[ridge & (middle > high)]] = True
    return np.asarray(sure[labels])
