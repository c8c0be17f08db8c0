"""Pictures of samples: clean image, adversarial example and their difference, as small PNGs. No imaging library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import EvidenceError
from benchmark.evidence.store import EvidenceStore

Image = NDArray[np.uint8]


def png(pixels: Image, *, effort: int = 9) -> bytes:
    """A PNG file.

    Args:
        pixels: Shape (h, w) or (h, w, 3), uint8.
        effort: How hard to compress, 0 to 9.
    """
    height, width = pixels.shape[:2]
    kind = 0 if pixels.ndim == 2 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return _file(header, [], pixels.reshape(height, -1), effort)


def shades(levels: Image, colour: tuple[int, int, int], opacities: Sequence[int]) -> bytes:
    """A PNG of one colour that is more or less opaque, four bits a pixel.

    Args:
        levels: Which opacity each pixel has, shape (h, w) with an even w, below 16.
        colour: Red, green and blue.
        opacities: Of each level, 0 to 255.
    """
    height, width = levels.shape
    palette = (b"PLTE", bytes(colour) * len(opacities)), (b"tRNS", bytes(opacities))
    header = struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)
    pairs: Image = np.left_shift(levels[:, ::2], 4, dtype=np.uint8) | levels[:, 1::2]
    return _file(header, palette, pairs, 9)


def _file(header: bytes, between: Sequence[tuple[bytes, bytes]], rows: Image, effort: int) -> bytes:
    unfiltered = np.pad(rows, ((0, 0), (1, 0)))  # each row begins with the number of its filter: none
    data = zlib.compress(unfiltered.tobytes(), effort)
    chunks = ((b"IHDR", header), *between, (b"IDAT", data), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def to_pixels(image: NDArray[np.generic]) -> Image:
    """An image of shape (c, h, w), uint8 or float in [0, 1], as pixels: grey for one channel, else the first three."""
    values = image if image.dtype == np.uint8 else np.rint(np.clip(image.astype(np.float64), 0, 1) * 255)
    values = values.astype(np.uint8)
    if values.shape[0] < 3:
        return np.ascontiguousarray(values[0])
    return np.ascontiguousarray(values[:3].transpose(1, 2, 0))


def difference(clean: NDArray[np.floating], adversarial: NDArray[np.floating]) -> Image:
    """The perturbation as pixels: mid-grey where nothing changed, stretched to its largest change.

    Args:
        clean: Shape (c, h, w), in [0, 1].
        adversarial: The same shape.
    """
    delta = adversarial.astype(np.float64) - clean
    scale = np.abs(delta).max() or 1.0
    return to_pixels(0.5 + 0.5 * delta / scale)


def strip(images: Iterable[Image], *, gap: int = 1) -> Image:
    """Images of one height side by side with a white gap."""
    pieces: list[Image] = []
    for image in images:
        if pieces:
            pieces.append(np.full((image.shape[0], gap, *image.shape[2:]), 255, dtype=np.uint8))
        pieces.append(image)
    return np.concatenate(pieces, axis=1)


class Examples:
    """Adversarial examples by evaluation and sample, from the evidence files.

    Args:
        artifacts: Folder or URL of the evidence.
    """

    def __init__(self, artifacts: Path | str) -> None:
        self._store = EvidenceStore(artifacts)
        self._files: dict[str, tuple[NDArray[np.int64], NDArray[np.float32]] | None] = {}
        self.lacking: set[str] = set()
        """Digests of the files that were asked for and are not there."""

    def get(self, evidence: Iterable[tuple[int, int, str]], sample: int) -> NDArray[np.float32] | None:
        """The example of a sample, shape (c, h, w), or None where its file is not at hand.

        Args:
            evidence: (first sample, one past the last, digest) of the evaluation's files.
            sample: Index in the dataset.
        """
        for start, stop, digest in evidence:
            if not start <= sample < stop:
                continue
            if digest not in self._files:
                self._files[digest] = self._load(digest)
            loaded = self._files[digest]
            if loaded is not None and (found := np.flatnonzero(loaded[0] == sample)).size:
                example: NDArray[np.float32] = loaded[1][int(found[0])]
                return example
        return None

    def _load(self, digest: str) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """A damaged or missing file costs the page its pictures, not the site; `curveboard verify` finds it."""
        if not self._store.has(digest):
            self.lacking.add(digest)
            return None
        try:
            return self._store.get(digest)
        except EvidenceError:
            return None
