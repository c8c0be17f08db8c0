"""Suites, one a file: a dataset's samples under the cells of named axes, or as sequences of frames.

To add a suite, add a file here (or an entry point of the group ``curveboard.suites``) that holds a constant
``SUITE = MySuite(...)``. A suite is made for any dataset by `on`; whether it can be had for that one (files that are
not here, another image size) is what `unavailable` says, in words.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from benchmark.data.dataset import Dataset
from benchmark.errors import InputError
from benchmark.plugins import discover, look_up
from benchmark.results import GridAxis

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class _Made(ABC):
    """What suites of both kinds have.

    Attributes:
        name: The name in protocols and on the command line.
        title: What it is, in one line.
        version: Raised whenever what it gives can change; part of the digest.
        paper: Its source.
        licence: Of its data, where it brings some.
        default: Whether a protocol's ``suite = "*"`` means it too; others (large downloads) are asked for by name.
        dataset: The dataset it is made of; None for the registered suite, which is made of any.
    """

    name: str
    title: str
    version: int
    paper: str = ""
    licence: str = ""
    default: bool = True
    dataset: Dataset | None = None

    def on(self, dataset: Dataset) -> Self:
        """This suite of that dataset."""
        return dataclasses.replace(self, dataset=dataset)

    @property
    def base(self) -> Dataset:
        """The dataset it is made of; raises `InputError` if it is made of none yet."""
        if self.dataset is None:
            raise InputError(f"The suite {self.name!r} is of no dataset yet; use suite.on(dataset).")
        return self.dataset

    @property
    def size(self) -> int:
        """Samples of a cell, or sequences of a kind."""
        return self.base.size

    def unavailable(self) -> str:
        """Why it cannot be had here, and what to do about it; empty if it can."""
        return ""

    def content(self) -> Mapping[str, Any]:
        """What else determines its images, as plain values: digests of files, parameters."""
        return {}

    @property
    @abstractmethod
    def shown(self) -> tuple[GridAxis, ...]:
        """The axes by which its results are shown."""

    @property
    def digest(self) -> str:
        """What identifies its images: the name, version and axes, the dataset's digest, and `content`."""
        parts = {
            "suite": self.name,
            "version": self.version,
            "axes": [[axis.name, list(axis.labels)] for axis in self.shown],
            "dataset": self.base.digest,
            "content": dict(self.content()),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class Suite(_Made):
    """A dataset with axes: the same samples in each cell, for instance under corruption × severity.

    Attributes:
        axes: The axes with their labels; a cell is one label of each, in order.
    """

    axes: tuple[GridAxis, ...]

    @property
    def shown(self) -> tuple[GridAxis, ...]:
        """Its axes."""
        return self.axes

    def cells(self) -> Iterator[tuple[str, ...]]:
        """All cells, the last axis running fastest."""
        return itertools.product(*(axis.labels for axis in self.axes))

    def missing(self, cell: tuple[str, ...]) -> str:
        """Why one cell cannot be had although the suite can; empty if it can."""
        return ""

    @abstractmethod
    def batch(self, cell: tuple[str, ...], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Samples ``start`` to ``stop`` in a cell; the same bytes whatever the range they are asked for in.

        Returns:
            Images, shape (n, c, h, w), float32 in [0, 1]; labels, shape (n,), int64; on the CPU.
        """


@dataclass(frozen=True, eq=False, kw_only=True)
class Sequences(_Made):
    """Samples as sequences of frames that change little by little.

    Attributes:
        kinds: The axis of what changes (``"gaussian_noise"``, ``"tilt"`` …).
        frames: Frames of a sequence.
    """

    kinds: GridAxis
    frames: int

    @property
    def shown(self) -> tuple[GridAxis, ...]:
        """What changes."""
        return (self.kinds,)

    @property
    def digest(self) -> str:
        """As of any suite, and of the number of frames."""
        return hashlib.sha256(f"{super().digest} {self.frames}".encode()).hexdigest()

    @abstractmethod
    def batch(self, sequence: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Sequences ``start`` to ``stop`` of a kind; the same bytes whatever the range they are asked for in.

        Returns:
            Frames, shape (n, frames, c, h, w), float32 in [0, 1]; labels, shape (n,), int64; on the CPU.
        """


def suites() -> Mapping[str, Suite | Sequences]:
    """All registered suites by name."""
    return cast("Mapping[str, Suite | Sequences]", discover(__name__, "SUITE"))


def get_suite(name: str) -> Suite | Sequences:
    """The suite called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Suite | Sequences", look_up("suite", name, suites()))
