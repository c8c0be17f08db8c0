"""ImageNet-P and CIFAR-P: an image as a sequence of frames under a perturbation that grows, turns or moves.

The constants of the two are apart. The published ImageNet-P moves the image of 256 pixels and crops it afterwards; here
the frames are made of the images as the dataset has them, and black comes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.corruptions import as_bytes, digital, weather
from benchmark.data.corruptions.blur import along
from benchmark.data.corruptions.digital import picture, pixels
from benchmark.data.corruptions.draws import Draws, Floats
from benchmark.errors import InputError, UnknownNameError

SequenceFamily = Literal["imagenet", "cifar"]


@dataclass(frozen=True)
class _Constants:
    """What differs between ImageNet-P and CIFAR-P."""

    noise: tuple[float, float, float]
    """Sigma of the sequence, and of the two harder ones."""
    rate: tuple[float, float, float]
    """Photons, likewise."""
    speckle: tuple[float, float, float]
    """Sigma of noise that is multiplied with the image, likewise."""
    motion: tuple[float, float, int, float]
    """Radius, sigma, last frame, degrees a frame: the angle is (i − last frame) · degrees."""
    snow: tuple[float, float, float]
    """Zoom, radius, sigma."""
    brightness: float
    translate: tuple[int, int]
    """Frames, and the frame that is not moved."""
    tilt: float
    scale: tuple[float, float]
    """Share of the first frame, and what each frame adds."""


_FAMILIES: Final[dict[SequenceFamily, _Constants]] = {
    "imagenet": _Constants(
        (0.03, 0.05, 0.08),
        (300, 120, 60),
        (0.05, 0.10, 0.15),
        (10, 3, 30, 4),
        (3, 14, 4),
        0.02,
        (41, 20),
        1.0,
        (0.40, 0.025),
    ),
    "cifar": _Constants(
        (0.02, 0.04, 0.06),
        (700, 400, 200),
        (0.05, 0.07, 0.1),
        (6, 1.8, 20, 9),
        (2, 10, 2),
        0.015,
        (16, 7),
        0.75,
        (0.70, 0.02),
    ),
}

EXTRA_NOISES: Final = (
    "gaussian_noise_2", "gaussian_noise_3", "shot_noise_2", "shot_noise_3", "speckle_noise", "speckle_noise_2",
    "speckle_noise_3",
)  # fmt: skip
"""Speckle, and the harder levels of the noises: outside the ten, and outside all their means."""

NOISES: Final = ("gaussian_noise", "shot_noise", *EXTRA_NOISES)
"""Each frame is a draw of its own: frames are compared with the first, not with the one before."""

KINDS: Final = (
    "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow", "brightness", "translate", "rotate", "tilt",
    "scale",
)  # fmt: skip


def frames_of(kind: str, family: SequenceFamily) -> int:
    """How many frames a sequence of a kind has: 31 but for CIFAR-P's motion (21) and translation (41, or 16)."""
    constants = _FAMILIES[family]
    return {"motion_blur": constants.motion[2] + 1, "translate": constants.translate[0]}.get(kind, 31)


def sequence(
    images: NDArray[Any], kind: str, *, family: SequenceFamily, seed: int = 0, images_at: Sequence[int] | int = 0
) -> NDArray[np.uint8]:
    """The frames of some images.

    Args:
        images: Shape (n, c, h, w) of 1 or 3 channels, bytes or floats in [0, 1].
        kind: One of `KINDS` or of `EXTRA_NOISES`.
        family: Whose constants.
        seed: Seed of the suite.
        images_at: Index of each image in its dataset, or of the first.

    Returns:
        Shape (n, frames, c, h, w), bytes.

    Raises:
        InputError: If the images have another shape.
        UnknownNameError: If there is no such kind.
    """
    if kind not in _MAKERS:
        raise UnknownNameError("kind of sequence", kind, _MAKERS)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"Sequences are of images of shape (n, 1 or 3, h, w), got {images.shape}.")
    source = as_bytes(images) / 255.0
    at = range(images_at, images_at + len(source)) if isinstance(images_at, int) else images_at
    draws = Draws.of(seed, kind, "sequence", images=at)
    frames = _MAKERS[kind](source, draws, _FAMILIES[family], frames_of(kind, family))
    return np.floor(np.clip(frames, 0, 1) * 255 + 1e-3).astype(np.uint8)


def _stacked(frames: Sequence[Floats]) -> Floats:
    return np.stack(list(frames), axis=1)


def _gaussian_noise(x: Floats, draws: Draws, constants: _Constants, count: int, level: int = 0) -> Floats:
    noise = draws.normal(count, *x.shape[1:])
    noise[:, 0] = 0
    return np.asarray(x[:, None] + constants.noise[level] * noise)


def _speckle_noise(x: Floats, draws: Draws, constants: _Constants, count: int, level: int = 0) -> Floats:
    noise = draws.normal(count, *x.shape[1:])
    noise[:, 0] = 0
    return np.asarray(x[:, None] * (1 + constants.speckle[level] * noise))


def _shot_noise(x: Floats, draws: Draws, constants: _Constants, count: int, level: int = 0) -> Floats:
    rate = constants.rate[level]
    later = [
        generator.poisson(rate * image, size=(count - 1, *image.shape)) / rate
        for generator, image in zip(draws, x, strict=True)
    ]
    return np.concatenate([x[:, None], np.stack(later)], axis=1)


def _motion_blur(x: Floats, draws: Draws, constants: _Constants, count: int) -> Floats:
    radius, sigma, last, step = constants.motion
    return _stacked([along(x, np.full(len(x), (i - last) * step), radius=radius, sigma=sigma) for i in range(count)])


def _zoom_blur(x: Floats, draws: Draws, constants: _Constants, count: int) -> Floats:
    total = x.copy()
    frames = [x]
    for i in range(1, count):
        total += _about_centre(x, _turn(0, 1 + 0.004 * i))
        frames.append(total / (i + 1))
    return _stacked(frames)


def _snow(x: Floats, draws: Draws, constants: _Constants, count: int) -> Floats:
    zoom, radius, sigma = constants.snow
    layer = weather.flakes(draws.normal(*x.shape[-2:]), 0.05, 0.3, zoom, 0.5)
    return _stacked(
        [
            weather.snowed(x, along(layer, np.full(len(x), 4.0 * i - 150), radius=radius, sigma=sigma), share=0.85)
            for i in range(count)
        ]
    )


def _brightness(x: Floats, draws: Draws, constants: _Constants, count: int) -> Floats:
    return _stacked([digital.brightness(x, draws, added=(i - 15) * constants.brightness) for i in range(count)])


def _translate(x: Floats, draws: Draws, constants: _Constants, count: int) -> Floats:
    w = x.shape[-1]
    out = np.zeros((len(x), count, *x.shape[1:]))
    for i in range(count):
        right = i - constants.translate[1]
        if abs(right) < w:
            out[:, i, ..., max(right, 0) : w + min(right, 0)] = x[..., max(-right, 0) : w - max(right, 0)]
    return out


def _rotate(x: Floats, draws: Draws, constants: _Constants, count: int) -> Floats:
    return _stacked([_about_centre(x, _turn(math.radians(i - 15), 1)) for i in range(count)])


def _scale(x: Floats, draws: Draws, constants: _Constants, count: int) -> Floats:
    first, step = constants.scale
    return _stacked([_about_centre(x, _turn(0, first + step * i)) for i in range(count)])


def _tilt(x: Floats, draws: Draws, constants: _Constants, count: int) -> Floats:
    h, w = x.shape[-2:]
    frames = []
    for i in range(count):
        inverse = np.linalg.inv(perspective(math.radians(constants.tilt * (i - 15)), h, w))
        # Pillow's coordinates have the first pixel's centre at ½.
        shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        matrix = shift @ inverse @ np.linalg.inv(shift)
        frames.append(_through_pillow(x, Image.Transform.PERSPECTIVE, (matrix / matrix[2, 2]).ravel()[:8].tolist()))
    return _stacked(frames)


def perspective(angle: float, h: int, w: int) -> Floats:
    """The plane of the image turned by ``angle`` about both axes, seen from the length of its diagonal: 3 × 3."""
    distance = math.hypot(w, h)
    cosine, sine = math.cos(angle), math.sin(angle)
    lift = np.array([[1, 0, -w / 2], [0, 1, -h / 2], [0, 0, 1], [0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    about_y = np.array([[cosine, 0, -sine, 0], [0, 1, 0, 0], [sine, 0, cosine, 0], [0, 0, 0, 1]])
    away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, distance], [0, 0, 0, 1]])
    camera = np.array([[distance, 0, w / 2, 0], [0, distance, h / 2, 0], [0, 0, 1, 0]])
    return np.asarray(camera @ away @ about_x @ about_y @ lift)


def _turn(angle: float, scale: float) -> tuple[float, float, float, float]:
    """The inverse of a rotation and a scaling: where an offset from the centre comes from."""
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    return cosine, sine, -sine, cosine


def _about_centre(x: Floats, matrix: tuple[float, float, float, float]) -> Floats:
    a, b, d, e = matrix
    u, v = x.shape[-1] / 2, x.shape[-2] / 2
    return _through_pillow(x, Image.Transform.AFFINE, [a, b, u - a * u - b * v, d, e, v - d * u - e * v])


def _through_pillow(x: Floats, method: Image.Transform, coefficients: Sequence[float]) -> Floats:
    """Each image through Pillow's bilinear transform; black comes in."""
    size = (x.shape[-1], x.shape[-2])
    moved = (picture(i).transform(size, method, coefficients, resample=Image.Resampling.BILINEAR) for i in x)
    return np.stack([pixels(image) for image in moved])


_MAKERS: Final[dict[str, Callable[[Floats, Draws, _Constants, int], Floats]]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "motion_blur": _motion_blur,
    "zoom_blur": _zoom_blur,
    "snow": _snow,
    "brightness": _brightness,
    "translate": _translate,
    "rotate": _rotate,
    "tilt": _tilt,
    "scale": _scale,
    "speckle_noise": _speckle_noise,
    **{
        f"{name}_{level + 1}": partial(maker, level=level)
        for name, maker in (
            ("gaussian_noise", _gaussian_noise),
            ("shot_noise", _shot_noise),
            ("speckle_noise", _speckle_noise),
        )
        for level in (1, 2)
    },
}
