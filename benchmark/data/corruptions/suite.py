"""Suites that are made of a dataset when they are asked for, by the corruptions of a family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.data.corruptions import Family, Quirks, corrupt, family_corruptions, levels, unavailable
from benchmark.data.corruptions.sequences import SequenceFamily
from benchmark.data.corruptions.sequences import sequence as make_sequence
from benchmark.data.dataset import Dataset
from benchmark.data.suites import Sequences, Suite
from benchmark.results import GridAxis

if TYPE_CHECKING:
    from torch import Tensor


def family_axes(family: Family) -> tuple[GridAxis, GridAxis]:
    """The grid corruption × severity of a family."""
    severities = tuple(str(severity) for severity in range(1, levels(family) + 1))
    return GridAxis("corruption", family_corruptions(family)), GridAxis("severity", severities)


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneratedSuite(Suite):
    """Corruption × severity, generated.

    Attributes:
        family: Whose constants.
        sides: Smallest and largest height of images that the constants are meant for.
        channels: Numbers of channels that the publication is of.
        seed: Of the random numbers.
        quirks: Which of the published generators' quirks it follows.
    """

    family: Family
    sides: tuple[int, int]
    channels: tuple[int, ...]
    seed: int = 0
    quirks: Quirks = field(default_factory=Quirks)

    def unavailable(self) -> str:
        """Why not of this dataset: its images have another size or number of channels."""
        return _unfit(self.name, self.base, self.sides, self.channels)

    def missing(self, cell: tuple[str, ...]) -> str:
        """Why a cell cannot be had (frost without its photographs, saturation of greys)."""
        return unavailable(cell[0], self.family, self.base.shape[0])

    def content(self) -> Mapping[str, Any]:
        """The seed, and the quirks that are not those of the publication."""
        chosen = dataclasses.asdict(self.quirks)
        return {"seed": self.seed} | {k: v for k, v in chosen.items() if v != getattr(Quirks(), k)}

    def batch(self, cell: tuple[str, ...], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Corrupted images of a range, and their labels."""
        import torch

        x, y = self.base.batch(start, stop)
        name, severity = cell
        made = self.corrupted(x.numpy(), name, float(severity), at=start)
        return torch.from_numpy(made.astype(np.float32)) / 255, y

    def corrupted(
        self, images: NDArray[Any], name: str, severity: float, *, at: Sequence[int] | int, stream: str | None = None
    ) -> NDArray[np.uint8]:
        """As `corrupt`, with what this suite has chosen."""
        return corrupt(
            images,
            name,
            severity,
            family=self.family,
            seed=self.seed,
            images_at=at,
            stream=stream,
            quirks=self.quirks,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneratedSequences(Sequences):
    """Sequences of frames, generated.

    Attributes:
        family: Whose constants.
        sides: Smallest and largest height of images that they are meant for.
        seed: Of the random numbers.
    """

    family: SequenceFamily
    sides: tuple[int, int]
    seed: int = 0

    def unavailable(self) -> str:
        """Why not of this dataset: its images have another size or number of channels."""
        return _unfit(self.name, self.base, self.sides, (1, 3))

    def content(self) -> Mapping[str, Any]:
        """The seed."""
        return {"seed": self.seed}

    def batch(self, sequence: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Frames of a range of images (`frames_of` the kind; the most of all kinds is ``frames``), and their labels."""
        import torch

        x, y = self.base.batch(start, stop)
        made = make_sequence(x.numpy(), sequence, family=self.family, seed=self.seed, images_at=start)
        return torch.from_numpy(made.astype(np.float32)) / 255, y


def _unfit(name: str, dataset: Dataset, sides: tuple[int, int], channels: tuple[int, ...]) -> str:
    own, h, _ = dataset.shape
    if own not in channels:
        wanted = " or ".join(map(str, channels))
        return f"{name!r} is of images of {wanted} channel(s); those of {dataset.name!r} have {own}."
    if not sides[0] <= h <= sides[1]:
        return (
            f"The constants of {name!r} are for images of {sides[0]} to {sides[1]} pixels; those of {dataset.name!r} "
            f"have {h}."
        )
    return ""
