"""Common corruptions as pure functions of (images, severity, seed): the same pixels in any batch and on any machine.

`corrupt` applies one of a family's corruptions; a family is a set of published constants: ``mnist`` (MNIST-C, one
severity), ``cifar`` (CIFAR-10-C and CIFAR-100-C), ``imagenet64`` and ``imagenet`` (ImageNet-C), of five severities.
Between the published severities, and from 0 (no effect) to 1, the constants are interpolated, so that a severity may
be any number; published is what whole numbers give.

All is computed in float64 and cut down to bytes once, as the published generators do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.data.corruptions import blur, digital, frost, noise, shapes, weather
from benchmark.data.corruptions.constants import COMMON, EXTRA, FAMILIES, MNIST_C, TABLES, Family, Row, between
from benchmark.data.corruptions.draws import Draws, Floats
from benchmark.errors import InputError, UnknownNameError

__all__ = [
    "COMMON",
    "CORRUPTIONS",
    "EXTRA",
    "FAMILIES",
    "MNIST_C",
    "Corruption",
    "Family",
    "Quirks",
    "corrupt",
    "family_corruptions",
    "levels",
    "unavailable",
]

Bytes = NDArray[np.uint8]

_PIXELS: Final = 1 << 20
"""Values that are worked on at once: 8 MB of float64 a temporary array."""

_SLACK: Final = 1e-3
"""Added before values are cut down to bytes: 254.99999999 is 255 whatever the last bit of a machine's arithmetic is."""


@dataclass(frozen=True)
class Quirks:
    """Where the published generators have a quirk: which of the two to follow. The defaults follow the publications.

    Attributes:
        glass: ``"copy"``: glass blur overwrites pixels of colour images, by a slip, and exchanges those of greys;
            ``"exchange"``: it exchanges them always.
        stored: ``"plain"`` keeps what was computed; ``"jpeg"`` takes each result through JPEG of quality 85, in which
            the published ImageNet-C is stored (so its noise has JPEG's damage too).
        elastic: ``"published"``: ImageNet-C's elastic transform has 244 pixels as its unit, by a slip; ``"side"``:
            the image's side.
    """

    glass: Literal["copy", "exchange"] = "copy"
    stored: Literal["plain", "jpeg"] = "plain"
    elastic: Literal["published", "side"] = "published"

    def __post_init__(self) -> None:
        choices = {"glass": ("copy", "exchange"), "stored": ("plain", "jpeg"), "elastic": ("published", "side")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(f"The quirk {name} is {getattr(self, name)!r}; it is {' or '.join(map(repr, known))}.")


@dataclass(frozen=True)
class Corruption:
    """A corruption.

    Attributes:
        name: As in the published folders and files.
        title: For people.
        group: ``noise``, ``blur``, ``weather``, ``digital`` or ``shape``.
        apply: (images (n, c, h, w) in [0, 1], draws, *, constants by name) -> the same shape; may leave [0, 1].
        fields: Names of the constants, in the order of the tables.
        neutral: Constants at severity 0; None where it is that of severity 1.
        reciprocal: Fields that are interpolated in their reciprocals.
        colour: Whether it needs three channels.
    """

    name: str
    title: str
    group: str
    apply: Callable[..., Floats]
    fields: tuple[str, ...]
    neutral: tuple[float | None, ...]
    reciprocal: tuple[str, ...] = ()
    colour: bool = False
    doc: str = field(default="", compare=False)

    def constants(self, family: Family, severity: float) -> Row:
        """The constants of a family at a severity."""
        rows = TABLES[family][self.name]
        neutral = tuple(first if value is None else value for value, first in zip(self.neutral, rows[0], strict=True))
        return between(rows, neutral, severity, tuple(name in self.reciprocal for name in self.fields))


def _corruptions() -> Mapping[str, Corruption]:
    def make(name: str, title: str, group: str, apply: Callable[..., Floats], **fields: float | None) -> Corruption:
        reciprocal = ("rate",) if "rate" in fields else ()
        return Corruption(
            name, title, group, apply, tuple(fields), tuple(fields.values()), reciprocal, colour=name == "saturate"
        )

    known = (
        make("gaussian_noise", "Gaussian noise", "noise", noise.gaussian_noise, sigma=0),
        make("shot_noise", "Shot noise", "noise", noise.shot_noise, rate=math.inf),
        make("impulse_noise", "Impulse noise", "noise", noise.impulse_noise, amount=0),
        make("speckle_noise", "Speckle noise", "noise", noise.speckle_noise, sigma=0),
        make("gaussian_blur", "Gaussian blur", "blur", blur.gaussian_blur, sigma=0),
        make("defocus_blur", "Defocus blur", "blur", blur.defocus_blur, radius=0, alias=None),
        make("glass_blur", "Glass blur", "blur", blur.glass_blur, sigma=0, reach=None, passes=0),
        make("motion_blur", "Motion blur", "blur", blur.motion_blur, radius=None, sigma=0),
        make("zoom_blur", "Zoom blur", "blur", blur.zoom_blur, stop=1, step=None),
        make("snow", "Snow", "weather", weather.snow, mean=0, deviation=0, zoom=None, threshold=None, radius=None,
             sigma=None, share=1),
        make("frost", "Frost", "weather", frost.frost, share=1, ice=0),
        make("fog", "Fog", "weather", weather.fog, height=0, decay=None),
        make("spatter", "Spatter", "weather", weather.spatter, mean=None, deviation=0, sigma=None, threshold=None,
             strength=None, mud=None),
        make("brightness", "Brightness", "weather", digital.brightness, added=0),
        make("contrast", "Contrast", "digital", digital.contrast, factor=1),
        make("saturate", "Saturate", "digital", digital.saturate, factor=1, offset=0),
        make("elastic_transform", "Elastic transform", "digital", digital.elastic_transform, alpha=0, sigma=None,
             affine=0),
        make("pixelate", "Pixelate", "digital", digital.pixelate, share=1),
        make("jpeg_compression", "JPEG compression", "digital", digital.jpeg_compression, quality=100),
        make("shear", "Shear", "shape", shapes.shear, angle=0),
        make("scale", "Scale", "shape", shapes.scale, inverse=1),
        make("rotate", "Rotate", "shape", shapes.rotate, angle=0),
        make("translate", "Translate", "shape", shapes.translate, pixels=0),
        make("stripe", "Stripe", "shape", shapes.stripe, strength=0),
        make("dotted_line", "Dotted line", "shape", shapes.dotted_line, strength=0),
        make("zigzag", "Zigzag", "shape", shapes.zigzag, strength=0),
        make("canny_edges", "Canny edges", "shape", shapes.canny_edges, sigma=None, strength=0),
    )  # fmt: skip
    return {corruption.name: corruption for corruption in known}


CORRUPTIONS: Final = _corruptions()
"""All corruptions by name."""


def family_corruptions(family: Family) -> tuple[str, ...]:
    """The names of a family's corruptions, in the published order."""
    return tuple(TABLES[family])


def levels(family: Family) -> int:
    """How many severities a family has: 5, or MNIST-C's one."""
    return len(next(iter(TABLES[family].values())))


def corrupt(
    images: NDArray[Any],
    name: str,
    severity: float,
    *,
    family: Family,
    seed: int = 0,
    images_at: Sequence[int] | int = 0,
    stream: str | None = None,
    quirks: Quirks | None = None,
) -> Bytes:
    """Corrupted copies of some images.

    Args:
        images: Shape (n, c, h, w) of 1 or 3 channels: bytes, or floats in [0, 1], which are rounded to bytes first.
        name: A corruption of the family.
        severity: From 0 (no effect) to `levels`; published at whole numbers.
        family: Whose constants.
        seed: Seed of the suite.
        images_at: Index of each image in its dataset, or of the first: an image's random numbers depend on it, on seed,
            corruption and stream, and on nothing else.
        stream: What names the random numbers besides; the severity by default. One name for many severities makes
            these differ by their constants alone.
        quirks: Which of the published generators' quirks to follow.

    Returns:
        The same shape, bytes.

    Raises:
        InputError: If shape, type, values or severity are none of these.
        UnknownNameError: If the family has no such corruption.
        FetchError: If frost's photographs cannot be had.
    """
    quirks = quirks or Quirks()
    corruption = _checked(images, name, severity, family)
    pixels = as_bytes(images)
    if severity == 0 or pixels.size == 0:
        return pixels.copy()
    constants = dict(zip(corruption.fields, corruption.constants(family, severity), strict=True))
    apply = partial(corruption.apply, **constants | _settings(name, family, pixels.shape[-2:], quirks, constants))
    n = len(pixels)
    at = range(images_at, images_at + n) if isinstance(images_at, int) else images_at
    block = max(_PIXELS // max(int(np.prod(pixels.shape[1:])), 1), 1)
    out = np.empty_like(pixels)
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        draws = Draws.of(seed, name, f"{severity:g}" if stream is None else stream, images=at[rows])
        values = apply(pixels[rows] / 255.0, draws)
        out[rows] = np.floor(np.clip(values, 0, 1) * 255 + _SLACK).astype(np.uint8)
    if quirks.stored == "jpeg":
        for image in out:
            image[:] = np.rint(digital.jpeg(image / 255.0, 85, optimize=True) * 255).astype(np.uint8)
    return out


def as_bytes(images: NDArray[Any]) -> Bytes:
    """Images as bytes; floats in [0, 1] are rounded."""
    return images if images.dtype == np.uint8 else np.rint(np.asarray(images, np.float64) * 255).astype(np.uint8)


def unavailable(name: str, family: Family, channels: int) -> str:
    """Why a corruption cannot be had here; empty if it can. Frost's photographs are fetched if need be."""
    if name not in TABLES[family]:
        return f"The family {family} has no {name}."
    if CORRUPTIONS[name].colour and channels != 3:
        return f"{CORRUPTIONS[name].title} needs colours; these images have {channels} channel."
    if name == "frost":
        from models_zoo.errors import ZooError

        try:
            frost.photographs(_shrink(family))
        except ZooError as error:
            return f"Frost needs its photographs, which cannot be had: {error}"
    return ""


def _checked(images: NDArray[Any], name: str, severity: float, family: Family) -> Corruption:
    if family not in TABLES:
        raise UnknownNameError("family of corruptions", family, TABLES)
    if name not in TABLES[family]:
        raise UnknownNameError(f"corruption of the family {family}", name, TABLES[family])
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"Corruptions take images of shape (n, 1 or 3, h, w), got {images.shape}.")
    if CORRUPTIONS[name].colour and images.shape[1] != 3:
        raise InputError(unavailable(name, family, images.shape[1]))
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating):
            raise InputError(f"Corruptions take bytes, or floats in [0, 1]; these images are {images.dtype}.")
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise InputError(f"Images of floats lie in [0, 1]; these reach from {images.min():g} to {images.max():g}.")
    if not 0 <= severity <= levels(family):
        raise InputError(f"The severity is {severity:g}; the family {family} has 0 (no effect) to {levels(family)}.")
    return CORRUPTIONS[name]


def _shrink(family: Family) -> float:
    """How much smaller frost's photographs are made."""
    return {"cifar": 0.2, "imagenet64": 0.3}.get(family, 1.0)


def _settings(
    name: str, family: Family, shape: tuple[int, ...], quirks: Quirks, constants: Mapping[str, float]
) -> dict[str, Any]:
    """What a corruption takes besides its table: settings of the family, and MNIST-C's lengths on other sides."""
    side = max(shape)
    settings: dict[str, Any] = {}
    if name == "glass_blur":
        settings["chance"] = 0.5 if family == "mnist" else 1.0
        settings["exchange"] = True if quirks.glass == "exchange" else None
    elif name == "fog":
        # MNIST-C crops its 28 pixels from a field of 256, so that its fog is smooth.
        field = {"mnist": 1 << (8 * side - 1).bit_length(), "imagenet": 256}.get(family, 0)
        settings["size"] = field if field >= side else 0
    elif name == "frost":
        settings["shrink"] = _shrink(family)
    elif name == "elastic_transform" and family == "imagenet" and quirks.elastic == "published":
        settings["unit"] = 244.0
    lengths = {"glass_blur": ("sigma",), "motion_blur": ("radius", "sigma"), "spatter": ("sigma", "strength")}
    if family == "mnist" and side != shapes.SIDE:
        settings |= {key: constants[key] * side / shapes.SIDE for key in lengths.get(name, ())}
    return settings
