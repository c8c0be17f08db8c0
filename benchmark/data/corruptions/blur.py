"""Blurs: gaussian, defocus, glass, motion and zoom."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmark.data.corruptions.draws import Draws, Floats
from benchmark.data.corruptions.sampling import correlate, gaussian, zoom_matrix

Whole = NDArray[np.intp]

_MANY: Final = 64
"""From so many images on, a step of all at once is cheaper than as many steps of one."""


def gaussian_blur(x: Floats, draws: Draws, *, sigma: float) -> Floats:
    """A Gaussian filter, edges replicated."""
    return gaussian(x, sigma)


def defocus_blur(x: Floats, draws: Draws, *, radius: float, alias: float) -> Floats:
    """A disk's mean, the disk's edge smoothed by a small Gaussian; edges mirrored."""
    return correlate(x, disk(radius, alias))


def disk(radius: float, alias: float) -> Floats:
    """A disk of sum 1 smoothed by a Gaussian of 3 × 3 taps (5 × 5 above a radius of 8): a square kernel of odd side."""
    reach = 8 if radius <= 8 else math.ceil(radius)
    taps = 1 if radius <= 8 else 2
    axis = np.arange(-reach, reach + 1)
    inside = (axis[:, None] ** 2 + axis**2 <= radius**2).astype(np.float64)
    smooth = np.exp(-(np.arange(-taps, taps + 1) ** 2) / (2 * alias**2))
    smooth /= smooth.sum()
    kernel = inside / inside.sum()
    for direction in (0, 1):
        kernel = ndimage.correlate1d(kernel, smooth, axis=direction, mode="mirror")
    return np.asarray(kernel)


def glass_blur(
    x: Floats, draws: Draws, *, sigma: float, reach: float, passes: float, chance: float = 1.0, exchange: bool | None
) -> Floats:
    """Blur, shuffle pixels locally, blur.

    Args:
        x: Images.
        draws: Generators.
        sigma: Of both Gaussians.
        reach: Offsets are drawn from −reach … reach − 1 on both axes.
        passes: Times that all pixels are gone through, from the last to the first.
        chance: Probability that a pixel is touched at all (MNIST-C: ½).
        exchange: True exchanges two pixels; False overwrites the first by the second, which is what the public
            generators do with RGB; None does what they do: exchange greys, overwrite colours.
    """
    n, c, h, w = x.shape
    reach, passes = max(round(reach), 1), round(passes)
    swap = c == 1 if exchange is None else exchange
    rows, columns = np.arange(h - reach, reach, -1), np.arange(w - reach, reach, -1)
    places = np.tile((rows[:, None] * w + columns).ravel(), passes)
    others = np.empty((len(places), n), dtype=np.intp)
    for i, generator in enumerate(draws):
        dx, dy = generator.integers(-reach, reach, size=(2, len(places)))
        touched = chance >= 1 or generator.random(len(places)) < chance
        others[:, i] = np.where(touched, places + dy * w + dx, places)
    flat = np.floor(gaussian(x, sigma) * 255 + 1e-3).reshape(n, c, h * w) / 255
    order = shuffled(h * w, places, others, swap=swap)
    return gaussian(np.take_along_axis(flat, order[:, None], axis=2).reshape(x.shape), sigma)


def shuffled(size: int, places: Whole, others: Whole, *, swap: bool) -> Whole:
    """Where each pixel comes from after the steps, one after the other, of each image.

    A step sees the ones before it: a loop, over all images at once where they are many, else over plain numbers.

    Args:
        size: Pixels of an image.
        places: The pixel that each step touches, shape (steps,).
        others: The pixel that it meets in each image, shape (steps, n); its own place for none.
        swap: Whether the two are exchanged, or the first is overwritten.

    Returns:
        Shape (n, size).
    """
    n = others.shape[1]
    if n < _MANY:
        return np.array([_shuffled(size, places.tolist(), others[:, i].tolist(), swap=swap) for i in range(n)])
    order = np.repeat(np.arange(size)[:, None], n, axis=1)
    image = np.arange(n)
    for place, other in zip(places.tolist(), others, strict=True):
        met = order[other, image]
        if swap:
            order[other, image] = order[place]
        order[place] = met
    return order.T


def _shuffled(size: int, places: list[int], others: list[int], *, swap: bool) -> list[int]:
    order = list(range(size))
    for a, b in zip(places, others, strict=True):
        if swap:
            order[a], order[b] = order[b], order[a]
        else:
            order[a] = order[b]
    return order


def motion_blur(x: Floats, draws: Draws, *, radius: float, sigma: float) -> Floats:
    """Motion at an angle U(−45°, 45°) that each image draws for itself."""
    return along(x, -45 + 90 * draws.uniform(1)[:, 0], radius=radius, sigma=sigma)


def along(x: Floats, degrees: Floats, *, radius: float, sigma: float) -> Floats:
    """One-sided motion: tap i of 2 · radius + 1 weighs exp(−i² / 2 sigma²) and is shifted i pixels, edges replicated.

    Args:
        x: Images.
        degrees: The angle of each image, shape (n,).
        radius: Half of the number of taps, without the first.
        sigma: Decay of the taps.
    """
    width = 2 * max(round(radius), 0) + 1
    steps = np.arange(width)
    weights = np.exp(-(steps**2) / (2 * sigma**2)) if sigma > 0 else (steps == 0).astype(np.float64)
    weights /= weights.sum()
    kept = np.flatnonzero(weights > 1e-12)
    h, w = x.shape[-2:]
    out = np.empty_like(x)
    padded = np.pad(x, ((0, 0), (0, 0), (width, width), (width, width)), mode="edge")
    angles = np.deg2rad(degrees)
    # Rounded, so that a last bit of sine or cosine cannot move a tap: 0.5 is 0.5 on every machine.
    down = -np.ceil(np.round(np.sin(angles)[:, None] * kept, 9) - 0.5).astype(int)
    right = -np.ceil(np.round(np.cos(angles)[:, None] * kept, 9) - 0.5).astype(int)
    # Many angles have the same shifts: those images move together.
    patterns, which = np.unique(np.hstack([down, right]), axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = np.flatnonzero(which == number)
        source, total = padded[rows], np.zeros((len(rows), *x.shape[1:]))
        for k, dy, dx in zip(kept, *np.split(pattern, 2), strict=True):
            total += weights[k] * source[..., width - dy : width - dy + h, width - dx : width - dx + w]
        out[rows] = total
    return out


def zoom_blur(x: Floats, draws: Draws, *, stop: float, step: float) -> Floats:
    """Mean of the images and of their zooms by 1, 1 + step, … below stop.

    The zooms are numpy's arange(1, stop, step), as published: where rounding has it so, the last is stop itself.
    """
    factors = np.arange(1, stop, step)[1:]  # the first is 1: the images themselves
    h, w = x.shape[-2:]
    if not len(factors):
        return x
    # Σ A x Bᵀ in two products: all zooms of the columns at once, then all rows and the sum over the zooms at once.
    columns = np.concatenate([zoom_matrix(w, float(f)).T for f in factors], axis=1)
    rows = np.stack([zoom_matrix(h, float(f)) for f in factors], axis=-1).reshape(h, h * len(factors))
    wide = (x.reshape(-1, w) @ columns).reshape(*x.shape[:2], h * len(factors), w)
    return np.asarray((2 * x + rows @ wide) / (len(factors) + 2))
