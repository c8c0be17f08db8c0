"""Weather: snow, fog, spatter. Frost, which needs photographs, has a file of its own."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from scipy import ndimage

from benchmark.data.corruptions.blur import along
from benchmark.data.corruptions.draws import Draws, Floats
from benchmark.data.corruptions.sampling import gaussian, luma, zoomed

_FIELD: Final = 1 << 17
"""Values of fractals made at once, to fit into a processor's cache: several times as fast as thousands of them."""

WATER: Final = np.array([175, 238, 238]) / 255
MUD: Final = np.array([63, 42, 20]) / 255


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
    n, _, h, w = x.shape
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
    field = np.concatenate([plasma(few, side, decay)[:, None, :h, :w] for few in draws.parts(max(_FIELD // side**2, 1))])
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray((x + height * field) * brightest / (brightest + height) if height > 0 else x)


def plasma(draws: Draws, side: int, decay: float) -> Floats:
    """Diamond-square fractals on a torus, each scaled to [0, 1]: (n, side, side). ``side`` is a power of 2."""
    noise = 2 * draws.uniform(side * side) - 1
    field = np.zeros((len(draws), side, side))
    used, step, wibble = 1, side, 100.0

    def near(total: Floats) -> Floats:
        """The mean of four with a random step; the numbers are used in the order of the scales."""
        nonlocal used
        count = total.shape[1] * total.shape[2]
        drawn = noise[:, used : used + count].reshape(total.shape)
        used += count
        return np.asarray(total / 4 + wibble**2 * drawn)

    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        field[:, half::step, half::step] = near(rows + np.roll(rows, -1, axis=2))
        centres = field[:, half::step, half::step]
        vertical = centres + np.roll(centres, 1, axis=1)
        horizontal = corners + np.roll(corners, -1, axis=2)
        field[:, ::step, half::step] = near(vertical + horizontal)
        field[:, half::step, ::step] = near(centres + np.roll(centres, 1, axis=2) + corners + np.roll(corners, -1, 1))
        step, wibble = half, wibble / decay
    field -= field.min(axis=(1, 2), keepdims=True)
    top = field.max(axis=(1, 2), keepdims=True)
    return np.asarray(field / np.where(top > 0, top, 1))


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
    drops = np.stack([_water(image[0]) for image in layer])[:, None]
    return np.asarray(x + strength * drops * _colour(WATER, x.shape[1]))


def _colour(colour: Floats, channels: int) -> Floats:
    """Of greys the red part, as MNIST-C has it for mud."""
    return colour[:channels].reshape(1, channels, 1, 1)


def _water(layer: Floats) -> Floats:
    """Thickness of the water, at most 1: shape (h, w).

    The distance to the drops' edges, cut at 20 pixels, equalised and embossed. The published generator takes OpenCV's
    approximate distance; this one is the exact one.
    """
    liquid = np.floor(layer * 255 + 1e-3) % 256  # a byte wraps around, as published
    edges = contours(liquid, low=50, high=150)
    distance = ndimage.distance_transform_edt(~edges) if edges.any() else np.full(layer.shape, 20.0)
    smooth = np.floor(_box(np.minimum(distance, 20)) + 1e-6).astype(np.uint8)
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float64)
    emboss = ndimage.correlate(_equalised(smooth).astype(np.float64), kernel, mode="mirror")
    thickness = liquid * _box(np.clip(emboss, 0, 255), whole=True)
    most = thickness.max()
    return np.asarray(thickness / most if most > 0 else thickness)


def _box(image: Floats, *, whole: bool = False) -> Floats:
    """Mean of 3 × 3, mirrored at the edges."""
    mean = ndimage.uniform_filter(image, 3, mode="mirror")
    return np.asarray(np.rint(mean) if whole else mean)


def _equalised(image: np.ndarray) -> np.ndarray:
    """Histogram equalisation of bytes: the smallest value becomes 0, the largest 255."""
    counts = np.bincount(image.ravel(), minlength=256)
    first = int(np.flatnonzero(counts)[0])
    rest = image.size - counts[first]
    if rest == 0:
        return image
    table = np.rint((np.cumsum(counts) - counts[first]) * (255 / rest)).clip(0, 255)
    return np.asarray(table.astype(np.uint8)[image])


@cache
def _ring() -> np.ndarray:
    return np.ones((3, 3), dtype=bool)


def contours(image: Floats, *, low: float, high: float) -> np.ndarray:
    """Canny's edges of an image of bytes without smoothing, as OpenCV takes them: |Gx| + |Gy| of 3 × 3 Sobel kernels.

    Args:
        image: Shape (h, w), values 0 to 255.
        low: Edge pixels connected to a sure one are above it.
        high: Sure edge pixels are above it.

    Returns:
        Booleans, shape (h, w).
    """
    gx, gy = ndimage.sobel(image, axis=1, mode="nearest"), ndimage.sobel(image, axis=0, mode="nearest")
    size = np.pad(np.abs(gx) + np.abs(gy), 1)
    middle = size[1:-1, 1:-1]
    h, w = image.shape
    flat, steep = np.abs(gy) < 0.41421356 * np.abs(gx), np.abs(gy) > 2.41421356 * np.abs(gx)
    falling = gx * gy < 0
    before = np.zeros_like(middle)
    after = np.zeros_like(middle)
    directions = ((flat, (0, 1)), (steep, (1, 0)), (~flat & ~steep & ~falling, (1, 1)), (~flat & ~steep & falling, (1, -1)))
    for chosen, (dy, dx) in directions:
        before[chosen] = size[1 - dy : 1 - dy + h, 1 - dx : 1 - dx + w][chosen]
        after[chosen] = size[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w][chosen]
    ridge = (middle > before) & (middle >= after) & (middle > low)
    labels, count = ndimage.label(ridge, structure=_ring())
    sure = np.zeros(count + 1, dtype=bool)
    sure[labels[ridge & (middle > high)]] = True
    sure[0] = False
    return np.asarray(sure[labels])
