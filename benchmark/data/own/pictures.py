"""One picture of any kind, to the pixels that models see."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from benchmark.errors import InputError

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
"""Formats that are read; Pillow knows others, some of which run programs."""
SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2"}
)
MOST_PIXELS: Final = Image.MAX_IMAGE_PIXELS or 89_478_485
"""Larger pictures are refused: a small file may hold billions of pixels."""

# Pillow warns of a bomb before it reads one; the filter is for good, since `catch_warnings` is not for threads.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)

_METHODS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_ORIENTATION: Final = 0x0112
_GREY: Final = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_OTHER_COLOURS: Final = frozenset({"CMYK", "YCbCr", "LAB", "HSV"})


@dataclass(frozen=True)
class Picture:
    """A picture as it was read.

    Attributes:
        image: Upright, 8 bits a channel, of mode ``L`` or ``RGB``.
        notes: What had to be done to it, in words.
    """

    image: Image.Image
    notes: Set[str] = frozenset()

    @property
    def grey(self) -> bool:
        """Whether it has one channel."""
        return self.image.mode == "L"


@dataclass(frozen=True)
class Preparation:
    """How a picture of any size becomes an image of the dataset.

    The pixels are those of torchvision's ``Resize`` (with anti-aliasing) and ``CenterCrop`` on the same Pillow.

    Attributes:
        size: (height, width) of the result, which is cut from the middle.
        resize: What happens before: the shorter side is scaled to a number of pixels; ``"cover"``, the picture is
            scaled until it just covers the result; ``"none"``, nothing.
        colour: Three channels, or one.
        interpolation: Of the scaling.
    """

    size: tuple[int, int]
    resize: int | Literal["cover", "none"] = "cover"
    colour: bool = True
    interpolation: str = "bilinear"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the result."""
        return (3 if self.colour else 1, *self.size)

    def in_words(self) -> str:
        """How images came to their size, for people."""
        height, width = self.size
        first = {
            "cover": f"scaled ({self.interpolation}) until they cover {height}×{width}",
            "none": "not scaled",
        }.get(str(self.resize), f"scaled ({self.interpolation}) so that the shorter side is {self.resize}")
        return f"{first}, the middle {height}×{width} pixels cut out"

    def apply(self, picture: Picture) -> NDArray[np.uint8]:
        """The image of the dataset, shape (c, h, w), values 0 to 255.

        Raises:
            InputError: If the picture is smaller than what is to be cut from it.
        """
        image = picture.image.convert("RGB" if self.colour else "L")
        image = self._scaled(image)
        height, width = self.size
        if image.height < height or image.width < width:
            raise InputError(
                f"the picture has {image.height}×{image.width} pixels where {height}×{width} are cut out; "
                "give --resize, or a smaller --crop"
            )
        top, left = round((image.height - height) / 2), round((image.width - width) / 2)
        pixels = np.asarray(image.crop((left, top, left + width, top + height)), dtype=np.uint8)
        return np.ascontiguousarray(pixels.reshape(height, width, -1).transpose(2, 0, 1))

    def _scaled(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        shorter = min(image.size)
        if self.resize == "none" or ((image.height, image.width) == self.size and self.resize == "cover"):
            return image
        if self.resize == "cover":
            factor = max(height / image.height, width / image.width)
            target = max(width, round(image.width * factor)), max(height, round(image.height * factor))
        else:
            target = tuple(  # type: ignore[assignment]
                self.resize if side == shorter else int(self.resize * side / shorter) for side in image.size
            )
        return image if target == image.size else image.resize(target, _METHODS[self.interpolation])


def decode(content: bytes) -> Picture:
    """A picture from the bytes of its file.

    EXIF orientation is applied; transparent parts are laid over white; CMYK and other colour spaces become RGB; 16 bits
    a channel become 8; of several frames the first is taken. `Picture.notes` says which of these were done.

    Raises:
        InputError: If it is no picture, damaged or cut, or has more than `MOST_PIXELS`; the message has no file name.
    """
    with _opened(content) as image:
        return _upright(image)


def glance(content: bytes) -> tuple[int, int, bool]:
    """Height and width of the upright picture, and whether it is grey, from the header alone; errors as of `decode`."""
    with _opened(content) as image:
        lying = image.getexif().get(_ORIENTATION, 1) in {5, 6, 7, 8}
        height, width = (image.width, image.height) if lying else (image.height, image.width)
        return height, width, image.mode in _GREY


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """The picture, its header read; whatever Pillow raises inside is told in our words."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"it has more than {MOST_PIXELS:,} pixels; scale it down") from None
    except UnidentifiedImageError:
        empty = "the file is empty" if not content else "it is no picture of a known kind"
        raise InputError(f"{empty} ({', '.join(FORMATS)})") from None
    except InputError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise anything on damaged files
        raise InputError(
            f"it cannot be decoded ({' '.join(str(error).split())[:100] or type(error).__name__})"
        ) from error


def from_array(pixels: NDArray[np.uint8]) -> Picture:
    """A picture from pixels of shape (h, w, c), c being 1 or 3."""
    return Picture(Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)))


def _upright(image: Image.Image) -> Picture:
    notes = set()
    if getattr(image, "n_frames", 1) > 1:
        notes.add("several frames: the first is taken")
    deep = any(";16" in str(part) for tile in getattr(image, "tile", ()) for part in tile[3:])
    image.load()
    turned = ImageOps.exif_transpose(image)
    if turned.size != image.size or image.getexif().get(_ORIENTATION, 1) != 1:
        notes.add("turned upright, as their EXIF orientation says")
    image = turned
    if deep or image.mode.startswith("I"):
        notes.add("16 bits a channel: rounded to 8")
    if image.mode == "F":
        raise InputError("its pixels are floating-point numbers without a stated range; give them as an .npz")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode in _OTHER_COLOURS:
        notes.add(f"{image.mode} converted to RGB")
    if image.has_transparency_data:
        image, seen = _over_white(image)
        if seen:
            notes.add("transparent parts laid over white")
    return Picture(image.convert("L" if image.mode in _GREY else "RGB"), frozenset(notes))


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"its pixels reach from {values.min()} to {values.max()}; at most 16 bits a channel are read")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))


def _over_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """The picture on white, and whether anything was transparent."""
    grey = image.mode in _GREY
    full = image.convert("RGBA")
    lowest: tuple[int, int] = full.getchannel("A").getextrema()  # type: ignore[assignment]
    white = Image.new("RGBA", full.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, full).convert("L" if grey else "RGB"), lowest[0] < 255
