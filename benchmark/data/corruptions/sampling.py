"""What several corruptions share: Gaussian filters, linear resampling, small correlations. All of float64.

Linear resampling of a whole batch is a matrix product; the matrix depends on the shape alone and is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal, sparse

Floats = NDArray[np.float64]

_FEW_TAPS: Final = 49
"""Up to so many taps, shifted sums are faster than a Fourier transform."""

_LUMA: Final = np.array([0.299, 0.587, 0.114])


def gaussian(x: Floats, sigma: float, *, mode: str = "nearest", truncate: float = 4.0) -> Floats:
    """Gaussian filter over the last two axes, as scikit-image's: edges replicated, cut at four sigma."""
    sigmas = (0.0,) * (x.ndim - 2) + (sigma, sigma)
    return np.asarray(ndimage.gaussian_filter(x, sigmas, mode=mode, truncate=truncate))


def luma(x: Floats) -> Floats:
    """Greys, shape (n, 1, h, w), of colours or greys (n, c, h, w)."""
    return x if x.shape[1] == 1 else np.einsum("nchw,c->nhw", x, _LUMA)[:, None]


@lru_cache(maxsize=256)
def zoom_matrix(side: int, factor: float) -> Floats:
    """One axis of a zoom about the centre, clipped to the side: shape (side, side).

    The middle ceil(side / factor) positions are stretched to round(that · factor) by linear interpolation between the
    first and the last of them (scipy.ndimage.zoom, order 1), and the middle of these is kept.
    """
    inner = math.ceil(side / factor)
    top = (side - inner) // 2
    outer = max(round(inner * factor), side)
    at = np.arange(outer) * ((inner - 1) / (outer - 1) if outer > 1 else 0.0)
    trim = (outer - side) // 2
    at = at[trim : trim + side]
    low = np.minimum(np.floor(at).astype(int), inner - 1)
    high = np.minimum(low + 1, inner - 1)
    share = at - low
    matrix = np.zeros((side, side))
    rows = np.arange(side)
    np.add.at(matrix, (rows, top + low), 1 - share)
    np.add.at(matrix, (rows, top + high), share)
    matrix.flags.writeable = False
    return matrix


def zoomed(x: Floats, factor: float) -> Floats:
    """The images zoomed about their centres and clipped to their shape."""
    h, w = x.shape[-2:]
    return np.asarray(zoom_matrix(h, factor) @ x @ zoom_matrix(w, factor).T)


def correlate(x: Floats, kernel: Floats) -> Floats:
    """Correlation of each channel with a kernel of odd sides, the image mirrored about its edge pixels."""
    kernel = trimmed(kernel)
    r, s = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (r, r), (s, s)), mode="reflect" if min(x.shape[-2:]) > 1 else "edge")
    h, w = x.shape[-2:]
    if kernel.size <= _FEW_TAPS:
        out = np.zeros_like(x)
        for i, j in zip(*np.nonzero(kernel), strict=True):
            out += kernel[i, j] * padded[..., i : i + h, j : j + w]
        return out
    return np.asarray(signal.oaconvolve(padded, kernel[None, None, ::-1, ::-1], mode="valid", axes=(-2, -1)))


def trimmed(kernel: Floats) -> Floats:
    """The kernel without outer rings of zeros."""
    while min(kernel.shape) > 1 and not (kernel[[0, -1]].any() or kernel[:, [0, -1]].any()):
        kernel = kernel[1:-1, 1:-1]
    return kernel


@lru_cache(maxsize=64)
def warp_matrix(h: int, w: int, inverse: tuple[float, ...]) -> Any:
    """A linear map of images that samples at ``inverse`` by bilinear interpolation, zeros outside.

    Args:
        h: Height.
        w: Width.
        inverse: a, b, c, d, e, f: the output pixel (x, y) is the input at (a x + b y + c, d x + e y + f).

    Returns:
        A sparse matrix (h·w, h·w).
    """
    a, b, c, d, e, f = inverse
    y, x = np.mgrid[:h, :w].astype(np.float64)
    # Sines and cosines are a last bit off a whole pixel on some machines; a pixel is then a pixel.
    u, v = np.round(a * x + b * y + c, 9).ravel(), np.round(d * x + e * y + f, 9).ravel()
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    rows, columns, weights = [], [], []
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        i, j = top + dy, left + dx
        weight = np.abs(1 - dx - (u - left)) * np.abs(1 - dy - (v - top))
        inside = (i >= 0) & (i < h) & (j >= 0) & (j < w) & (weight > 0)
        rows.append(np.flatnonzero(inside))
        columns.append((i * w + j)[inside])
        weights.append(weight[inside])
    entries = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.csr_matrix(entries, shape=(h * w, h * w))


def warped(x: Floats, inverse: Sequence[float]) -> Floats:
    """The images sampled at ``inverse``, as `warp_matrix` says."""
    n, c, h, w = x.shape
    flat = x.reshape(n * c, h * w)
    return np.asarray((warp_matrix(h, w, tuple(inverse)) @ flat.T).T).reshape(x.shape)
