"""Suites that are made of a dataset when they are asked for, by the corruptions of a family."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.data.corruptions import Family, Quirks, corrupt, family_corruptions, levels, unavailable
from benchmark.data.suites import Suite
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
        seed: Of the random numbers.
        quirks: Which of the published generators' quirks it follows.
    """

    family: Family
    sides: tuple[int, int]
    seed: int = 0
    quirks: Quirks = field(default_factory=Quirks)

    def unavailable(self) -> str:
        """Why not of this dataset: its images have another size or number of channels."""
        channels, h, _ = self.base.shape
        if channels not in (1, 3):
            return f"Corruptions are defined for 1 or 3 channels; {self.base.name!r} has {channels}."
        if not self.sides[0] <= h <= self.sides[1]:
            return (
                f"The constants of {self.name!r} are for images of {self.sides[0]} to {self.sides[1]} pixels; those of "
                f"{self.base.name!r} have {h}."
            )
        return ""

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
        made = self.corrupted(x.numpy(), name, float(severity), first=start)
        return torch.from_numpy(made.astype(np.float32)) / 255, y

    def corrupted(
        self, images: np.ndarray, name: str, severity: float, *, first: int, stream: str | None = None
    ) -> np.ndarray:
        """As `corrupt`, with what this suite has chosen."""
        return corrupt(
            images,
            name,
            severity,
            family=self.family,
            seed=self.seed,
            images_at=first,
            stream=stream,
            quirks=self.quirks,
        )
