"""Frost: photographs of frosted glass over the image, downloaded and verified; without them there is no frost."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from benchmark.data.corruptions.draws import Draws, Floats
from benchmark.data.corruptions.sampling import luma
from models_zoo.errors import FetchError
from models_zoo.fetch import RemoteFile, cache_folder, fetch

_HOMES: Final = (
    "https://raw.githubusercontent.com/bethgelab/imagecorruptions/master/imagecorruptions/frost/",
    "https://raw.githubusercontent.com/hendrycks/robustness/master/ImageNet-C/create_c/",
)

_FILES: Final = (
    ("frost1.png", 1199930, "ff9f907860bd7a835d459e32f9d588062b7f61ee267343cc7222b56753a14755"),
    ("frost2.png", 299002, "fe211a89b336999c207a852ce05818d4545d0b57c5beadd824b4cc9d9a9b6137"),
    ("frost3.png", 299002, "2d0d50b4a9bb213f38b024ef7768731bb83cc08d2f26b5766bbc167cdfa0e504"),
    ("frost4.jpg", 36734, "3f8b91ca1a9fa7167b09e773da53f5ae60d0a1fd88f02a783f6e328a72887f6e"),
    ("frost5.jpg", 155150, "5fc6a19df4a429ba68abdcc8f8a4278d4c9f81c9ccafd2c92ab0c8cf8992ebd2"),
)

PHOTOGRAPHS: Final = tuple(
    RemoteFile(name, tuple(home + name for home in _HOMES), size, sha256) for name, size, sha256 in _FILES
)
"""The published generators draw one of the first five of six."""


RETRY: Final = 600.0
"""Seconds for which a fetch that failed is not tried again: without a network each try takes seconds, and each chunk
of an evaluation asks for every severity."""
_failed: dict[RemoteFile, tuple[float, FetchError]] = {}


def _here(file: RemoteFile) -> Path:
    """The photograph, fetched if need be."""
    if file in _failed and not (cache_folder() / file.sha256).exists():
        at, error = _failed[file]
        if time.monotonic() - at < RETRY:
            raise error
    try:
        return fetch(file)
    except FetchError as found:
        _failed[file] = time.monotonic(), found
        raise


@cache
def photographs(shrink: float) -> tuple[Floats, ...]:
    """The five photographs, each (3, h, w) in [0, 1], made smaller by linear interpolation between four pixels.

    Raises:
        FetchError: If one cannot be had: there is no frost then.
    """
    found = []
    for file in PHOTOGRAPHS:
        with Image.open(_here(file)) as picture:
            pixels = np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
        small = _sampled(_sampled(pixels.transpose(2, 0, 1), shrink).swapaxes(1, 2), shrink).swapaxes(1, 2)
        # In 8 bits, as a picture library keeps them.
        found.append(np.round(small * 255) / 255)
    return tuple(found)


def _sampled(pixels: Floats, shrink: float) -> Floats:
    """The middle axis sampled at the centres of a grid ``shrink`` times as fine, without smoothing."""
    if shrink == 1:
        return pixels
    old = pixels.shape[1]
    at = np.clip((np.arange(round(old * shrink)) + 0.5) / shrink - 0.5, 0, old - 1)
    low = np.minimum(np.floor(at).astype(int), old - 2)
    share = (at - low)[None, :, None]
    return np.asarray(pixels[:, low] * (1 - share) + pixels[:, low + 1] * share)


def frost(x: Floats, draws: Draws, *, share: float, ice: float, shrink: float) -> Floats:
    """A share of the image, plus ice times a random part of a random photograph (of its greys, for greys).

    Raises:
        FetchError: If the photographs cannot be had.
    """
    h, w = x.shape[-2:]
    pictures = photographs(shrink)
    out = np.empty_like(x)
    for image, result, generator in zip(x, out, draws, strict=True):
        picture = _large_enough(pictures[generator.integers(len(pictures))], h, w)
        top = generator.integers(picture.shape[1] - h + 1)
        left = generator.integers(picture.shape[2] - w + 1)
        part = picture[:, top : top + h, left : left + w]
        result[:] = share * image + ice * (part if len(image) == 3 else luma(part[None])[0])
    return out


def _large_enough(picture: Floats, h: int, w: int) -> Floats:
    """The picture, mirrored as often as an image that is larger than it needs."""
    missing = max(h - picture.shape[1], 0), max(w - picture.shape[2], 0)
    return np.pad(picture, ((0, 0), (0, missing[0]), (0, missing[1])), mode="symmetric") if any(missing) else picture
