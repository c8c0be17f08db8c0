"""Digital corruptions: brightness, contrast, saturation, elastic transform, pixels, JPEG."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.corruptions.draws import Draws, Floats
from benchmark.data.corruptions.sampling import gaussian


def brightness(x: Floats, draws: Draws, *, added: float) -> Floats:
    """``added`` to the value V of HSV, at most 1; hue and saturation kept. Of greys: min(x + added, 1)."""
    value = x.max(axis=1, keepdims=True)
    brighter = np.clip(value + added, 0, 1)
    scaled = x * (brighter / np.where(value > 0, value, 1))
    return np.asarray(np.where(value > 0, scaled, brighter))


def contrast(x: Floats, draws: Draws, *, factor: float) -> Floats:
    """(x − mean) · factor + mean, the mean of each image and channel."""
    mean = x.mean(axis=(2, 3), keepdims=True)
    return np.asarray((x - mean) * factor + mean)


def saturate(x: Floats, draws: Draws, *, factor: float, offset: float) -> Floats:
    """S · factor + offset in HSV, clipped to [0, 1]; greys get the hue 0 (red), as in the published generators."""
    value = x.max(axis=1, keepdims=True)
    chroma = value - x.min(axis=1, keepdims=True)
    saturation = chroma / np.where(value > 0, value, 1)
    changed = np.clip(saturation * factor + offset, 0, 1)
    ratio = changed / np.where(saturation > 0, saturation, 1)
    coloured = value - (value - x) * ratio
    red = value * np.concatenate([np.ones_like(changed), 1 - changed, 1 - changed], axis=1)
    return np.asarray(np.where(saturation > 0, coloured, red))


def pixelate(x: Floats, draws: Draws, *, share: float) -> Floats:
    """Made smaller to int(share · side) and back, both by Pillow's box filter."""
    h, w = x.shape[-2:]
    small = max(int(w * share + 1e-9), 1), max(int(h * share + 1e-9), 1)
    out = np.empty_like(x)
    for image, result in zip(x, out, strict=True):
        smaller = picture(image).resize(small, Image.Resampling.BOX)
        result[:] = pixels(smaller.resize((w, h), Image.Resampling.BOX))
    return out


def jpeg_compression(x: Floats, draws: Draws, *, quality: float) -> Floats:
    """Pillow's JPEG and back."""
    return np.stack([jpeg(image, round(quality)) for image in x])


def jpeg(image: Floats, quality: int, *, optimize: bool = False) -> Floats:
    """One image, shape (c, h, w), through Pillow's JPEG and back."""
    content = io.BytesIO()
    picture(image).save(content, "JPEG", quality=quality, optimize=optimize)
    with Image.open(content) as read:
        return pixels(read)


def picture(image: Floats) -> Image.Image:
    """An image of 1 or 3 channels in [0, 1] as Pillow's."""
    values = np.rint(image * 255).astype(np.uint8)
    return Image.fromarray(values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0)))


def pixels(read: Image.Image) -> Floats:
    """The inverse of `picture`."""
    values = np.asarray(read, dtype=np.float64) / 255
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def elastic_transform(x: Floats, draws: Draws, *, alpha: float, sigma: float, affine: float, unit: float = 0) -> Floats:
    """A random affine map of three corners, then displacements by smooth noise; bilinear, edges mirrored.

    Args:
        x: Images.
        draws: Generators.
        alpha: Length of the displacements, in units.
        sigma: Smoothness of the displacements, in units.
        affine: The corners move by U(−affine, affine), in units.
        unit: Pixels; 0 for the image's height (ImageNet-C's is 244, by a slip).
    """
    h, w = x.shape[-2:]
    unit = unit or h
    drawn = [(g.uniform(-1, 1, (3, 2)), g.uniform(-1, 1, (2, h, w)) if alpha else None) for g in draws]
    y, x_ = _grid(h, w)
    maps = np.stack([_affine(corners * affine * unit, h, w) for corners, _ in drawn])[..., None, None]
    rows, columns = (maps[:, i, 0] * x_ + maps[:, i, 1] * y + maps[:, i, 2] for i in (1, 0))
    turned = sampled(x, rows, columns, about_edge=False)
    if not alpha:
        return turned
    noise = np.stack([noise for _, noise in drawn if noise is not None])
    smooth = gaussian(noise, sigma * unit, mode="reflect", truncate=3) * alpha * unit
    return sampled(turned, y + smooth[:, 1], x_ + smooth[:, 0], about_edge=True)


def sampled(x: Floats, rows: Floats, columns: Floats, *, about_edge: bool) -> Floats:
    """All channels of each image at the same places, by bilinear interpolation, mirrored outside.

    Written here for speed: scipy.ndimage.map_coordinates (mode ``reflect`` about the edge, ``mirror`` about the last
    pixel) goes image by image, and finds the places of each channel anew.

    Args:
        x: Shape (n, c, h, w).
        rows: Shape (n, h, w).
        columns: Shape (n, h, w).
        about_edge: Mirrored about the edge of the last pixel, or about its middle.

    Returns:
        Shape (n, c, h, w).
    """
    n, c, h, w = x.shape
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    first = np.arange(n)[:, None, None] * (h * w)
    ys = [first + _mirrored(top.astype(np.intp) + i, h, about_edge=about_edge) * w for i in (0, 1)]
    xs = [_mirrored(left.astype(np.intp) + j, w, about_edge=about_edge) for j in (0, 1)]
    # A pixel's channels side by side: one look-up for all.
    flat = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).reshape(n * h * w, c)
    upper, lower = (flat[y + xs[0]] * (1 - right) + flat[y + xs[1]] * right for y in ys)
    return np.ascontiguousarray((upper * (1 - down) + lower * down).transpose(0, 3, 1, 2))


def _mirrored(at: NDArray[np.intp], side: int, *, about_edge: bool) -> NDArray[np.intp]:
    period = max(2 * side if about_edge else 2 * side - 2, 1)
    at = at % period
    return np.minimum(at, period - about_edge - at)


@lru_cache(maxsize=8)
def _grid(h: int, w: int) -> tuple[Floats, Floats]:
    y, x = np.mgrid[:h, :w].astype(np.float64)
    return y, x


def _affine(moves: Floats, h: int, w: int) -> Floats:
    """Where each pixel comes from when three corners of a square about the centre move: (2, 3), acts on (x, y, 1)."""
    centre, reach = np.array([h // 2, w // 2], dtype=np.float64), min(h, w) // 3
    corners = np.array([centre + reach, [centre[0] + reach, centre[1] - reach], centre - reach])
    after = np.column_stack([corners + moves, np.ones(3)])
    # The three would lie on one line in a drawing of probability 0, and nearly so in some: those keep the image.
    if abs(np.linalg.det(after)) < 1e-9:
        return np.eye(2, 3)
    return np.asarray(np.linalg.solve(after, corners).T)
