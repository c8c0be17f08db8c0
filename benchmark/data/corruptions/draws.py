"""Random numbers of corruptions: one generator for each (seed, corruption, severity, image).

An image's pixels so depend on nothing else: not on its batch, not on the images before it, not on the machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """The generators of some images.

    Attributes:
        key: The first half of Philox's key, from seed, corruption and severity.
        images: Index of each image in its dataset: the second half.
    """

    key: int
    images: Sequence[int]

    @classmethod
    def of(cls, *what: object, images: Sequence[int]) -> Draws:
        """Generators keyed by ``what`` (seed, corruption, severity), by a hash that is the same everywhere."""
        text = "\0".join(map(str, what)).encode()
        return cls(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"), images)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Generator]:
        """The generator of each image, good until the next is asked for: one object set anew, a quarter of the cost."""
        bits = Philox(key=np.array([self.key, 0], dtype=np.uint64))
        fresh: Any = bits.state
        generator = Generator(bits)
        for image in self.images:
            fresh["state"]["key"][1] = image
            bits.state = fresh
            yield generator

    def parts(self, size: int) -> Iterator[Draws]:
        """The same generators, at most ``size`` images at a time."""
        for start in range(0, len(self), size):
            yield Draws(self.key, self.images[start : start + size])

    def normal(self, *shape: int) -> Floats:
        """Standard normal numbers, shape (n, *shape)."""
        out = np.empty((len(self), *shape))
        for row, generator in zip(out, self, strict=True):
            generator.standard_normal(out=row)
        return out

    def uniform(self, *shape: int, dtype: type[np.floating[Any]] = np.float64) -> NDArray[Any]:
        """Uniform numbers in [0, 1), shape (n, *shape)."""
        out = np.empty((len(self), *shape), dtype=dtype)
        for row, generator in zip(out, self, strict=True):
            generator.random(dtype=dtype, out=row)
        return out
