"""Sizes that depend on the batch: exact arithmetic on ``per_image * n + fixed``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from models_zoo.errors import WeightsError

MAX_SIZE: Final = 1 << 40
"""No size in a program is larger; a chain of squarings soon is."""


@dataclass(frozen=True)
class Size:
    """A number that is ``per_image * n + fixed`` for a batch of n images; ``per_image`` is not zero."""

    per_image: Fraction
    fixed: Fraction

    def at(self, batch: int) -> int:
        """Its value for a batch.

        Raises:
            WeightsError: If it is no whole number there.
        """
        value = self.per_image * batch + self.fixed
        if value.denominator != 1:
            raise WeightsError(f"It needs a size of {self}, which is not a whole number for {batch} images.")
        return int(value)

    def __str__(self) -> str:
        return f"{self.per_image} * n + {self.fixed}" if self.fixed else f"{self.per_image} * n"

    def __add__(self, other: Any) -> Any:
        return made(self.per_image + _parts(other)[0], self.fixed + _parts(other)[1])

    def __neg__(self) -> Any:
        return made(-self.per_image, -self.fixed)

    def __sub__(self, other: Any) -> Any:
        return self + -_number(other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        slope, offset = _parts(other)
        if slope:
            raise WeightsError("It multiplies the batch size by itself, which is not supported.")
        return made(self.per_image * offset, self.fixed * offset)

    def __truediv__(self, other: Any) -> Any:
        slope, offset = _parts(other)
        if slope and offset * self.per_image == self.fixed * slope:
            return made(Fraction(0), self.per_image / slope)
        if slope or not offset:
            raise WeightsError(f"It divides the batch size ({self}) by {other}, which is not supported.")
        return made(self.per_image / offset, self.fixed / offset)

    def __floordiv__(self, other: Any) -> Any:
        return whole(self / other)

    def __mod__(self, other: Any) -> Any:
        return self - (self // other) * other

    __radd__, __rmul__ = __add__, __mul__

    def __rtruediv__(self, other: Any) -> Any:
        raise WeightsError(f"It divides {other} by the batch size, which is not supported.")

    __rfloordiv__ = __rmod__ = __rtruediv__

    def __ge__(self, other: Any) -> bool:
        return _sign(self - other, at_zero=True)

    def __gt__(self, other: Any) -> bool:
        return _sign(self - other, at_zero=False)

    def __le__(self, other: Any) -> bool:
        return not self > other

    def __lt__(self, other: Any) -> bool:
        return not self >= other


N: Final = Size(Fraction(1), Fraction(0))
"""The number of images."""


def made(per_image: Fraction, fixed: Fraction) -> int | Fraction | Size:
    """The simplest number of this value.

    Raises:
        WeightsError: If it is larger than any size.
    """
    if abs(per_image) > MAX_SIZE or abs(fixed) > MAX_SIZE or max(per_image.denominator, fixed.denominator) > MAX_SIZE:
        raise WeightsError(f"It computes a size beyond {MAX_SIZE}.")
    if per_image:
        return Size(per_image, fixed)
    return int(fixed) if fixed.denominator == 1 else fixed


def whole(value: Any) -> Any:
    """The largest whole number that is not above ``value``, for every batch.

    Raises:
        WeightsError: If that is no sum of a multiple of the batch and a number.
    """
    if not isinstance(value, Size):
        return value // 1
    if value.per_image.denominator != 1:
        raise WeightsError(f"It rounds {value}, which depends on the number of images.")
    return made(value.per_image, Fraction(value.fixed // 1))


def equal(a: Any, b: Any) -> bool:
    """Whether two numbers are equal for every batch of at least one image.

    Two `Size` are ``==`` where they are the same; this asks whether they can be, and cannot be.

    Raises:
        WeightsError: If that depends on the number of images.
    """
    gap = a - b if isinstance(a, Size) else b - a
    if not isinstance(gap, Size):
        return bool(gap == 0)
    root = -gap.fixed / gap.per_image
    if root.denominator == 1 and root >= 1:
        raise WeightsError(f"It asks whether {a} is {b}, which depends on the number of images.")
    return False


def fitted(values: Sequence[int], batches: Sequence[int]) -> int | Size:
    """The size that has these values for these batches.

    Raises:
        WeightsError: If none has.
    """
    if len(batches) == 1 or all(v == values[0] for v in values):
        return values[0]
    per_image = Fraction(values[1] - values[0], batches[1] - batches[0])
    size = made(per_image, values[0] - per_image * batches[0])
    if not isinstance(size, Size) or any(size.at(n) != v for n, v in zip(batches, values, strict=True)):
        raise WeightsError("It has a tensor whose size does not grow evenly with the number of images.")
    return size


def product(sizes: Sequence[Any]) -> Any:
    """The product of sizes, of which at most one depends on the batch."""
    total: Any = 1
    for size in sizes:
        total = total * size
    if isinstance(total, int) and abs(total) > MAX_SIZE:
        raise WeightsError(f"It computes a size beyond {MAX_SIZE}.")
    return total


def _number(value: Any) -> Any:
    return value if isinstance(value, Size) else Fraction(value)


def _parts(value: Any) -> tuple[Fraction, Fraction]:
    return (value.per_image, value.fixed) if isinstance(value, Size) else (Fraction(0), Fraction(value))


def _sign(value: Any, *, at_zero: bool) -> bool:
    """Whether a number is positive (or zero) for every batch of at least one image."""
    if not isinstance(value, Size):
        return bool(value > 0 or (at_zero and value == 0))
    first = value.per_image + value.fixed
    if value.per_image > 0 and (first > 0 or (at_zero and first == 0)):
        return True
    if value.per_image < 0 and (first < 0 or (not at_zero and first == 0)):
        return False
    raise WeightsError(f"It compares {value} with 0, which depends on the number of images.")
