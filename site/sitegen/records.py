"""What the pages of a board need of a row, as typed records that are stored as JSON, by the names of their fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import cattrs

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """A number with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Published:
    """A row at one marked budget.

    Attributes:
        eps: The budget.
        accuracy: Robust accuracy.
        certified: Share proven robust, or None.
    """

    eps: float
    accuracy: Share
    certified: float | None

    @property
    def undecided(self) -> float | None:
        """Share neither broken nor proven, or None."""
        return None if self.certified is None else max(self.accuracy.value - self.certified, 0.0)


@dataclass(frozen=True)
class CreditRecord:
    """What a source of adversarial examples did for the row; see `sitegen.facts.Credit`."""

    slug: str
    title: str
    about: str
    paper: str
    decided: int
    alone: int
    lowered: float
    optimality: float | None
    seconds: float
    passes: int


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
        text: What it says.
        small: Its interval, or empty.
        sort: By what it is sorted; None comes last.
    """

    text: str
    small: str = ""
    sort: float | None = None


@dataclass(frozen=True)
class ThreatRecord:
    """A row under one threat.

    Attributes:
        published: At the marked budgets.
        area: Under the curve up to the end of the axis.
        median: Median distance; None where more than half of the images are never broken.
        censored: Images where nothing was found.
        decided: Share of the curve that is decided; None where nothing is proven.
        falls: Robust samples along the axis, encoded (`scripts_data.falls`).
        credits: Who found the examples.
    """

    published: tuple[Published, ...]
    area: Share
    median: float | None
    censored: int
    decided: float | None
    falls: str
    credits: tuple[CreditRecord, ...]


@dataclass(frozen=True)
class Problem:
    """An evaluation without a result."""

    measure: str
    norm: str
    state: str
    reason: str

    @property
    def name(self) -> str:
        """The evaluation in words."""
        return f"{self.measure} {self.norm}".strip()


@dataclass(frozen=True)
class Verified:
    """A check of everything that a row rests on.

    Attributes:
        at: When, in ISO 8601.
        by: By what: program, versions, device.
        examples: Adversarial examples that were checked.
    """

    at: str
    by: str
    examples: int

    @property
    def text(self) -> str:
        """In words."""
        return f"All {self.examples} adversarial examples were re-checked on {self.at[:10]} ({self.by})."


@dataclass(frozen=True)
class RowRecord:
    """A row for its board.

    Attributes:
        clean: Share of clean images classified correctly, or None without a curve.
        flags: Codes of its warnings.
        problems: Its evaluations without a result.
        threats: threat -> its figures.
        missing: Threats that were not attacked on all samples -> on how many they were.
        crossing: What is wrong where a certificate exceeds a distance; empty if nothing is.
        damaged: Why its results cannot be read; empty if they can.
        cells: Name of an output (`Found.name`) -> its cell.
        fields: Columns of the CSV that its outputs give.
        parameters: Number of the model's parameters, or None.
        flops: Operations of one image's forward pass, or None.
        latency: Seconds of a forward pass, an image, or None.
        seconds: What its evaluations took in all.
        passes: Forward and backward passes of them, in images.
        finished: When the newest of them finished, in ISO 8601; empty without any.
        architecture: From the card.
        verified: The last check of all its evidence since it last changed, or None.
        reported: How many of its evaluations another board has made.
    """

    clean: Share | None
    flags: tuple[str, ...]
    problems: tuple[Problem, ...]
    threats: Mapping[str, ThreatRecord]
    missing: Mapping[str, int]
    crossing: str
    damaged: str
    cells: Mapping[str, Cell]
    fields: Mapping[str, float | None]
    parameters: int | None
    flops: float | None
    latency: float | None
    seconds: float
    passes: int
    finished: str
    architecture: str
    verified: Verified | None
    reported: int


@dataclass(frozen=True)
class FilesRecord:
    """A row's files in the site.

    Attributes:
        outside: Links of its page that lead out of its folder.
        ids: Fragments that its page offers.
        sizes: Name of a file -> its bytes.
        sheets: Threats that have a sheet of adversarial examples.
    """

    outside: tuple[str, ...]
    ids: tuple[str, ...]
    sizes: Mapping[str, int]
    sheets: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """A built row, as it is kept."""

    row: RowRecord
    files: FilesRecord


@cache
def _converter() -> cattrs.Converter:
    return cattrs.Converter()


def save(path: Path, record: object) -> None:
    """Write a record as JSON; infinite numbers are refused."""
    text = json.dumps(_converter().unstructure(record), sort_keys=True, allow_nan=False, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")


def load(path: Path, kind: type[T]) -> T:
    """Read what `save` wrote."""
    return _converter().structure(json.loads(path.read_text(encoding="utf-8")), kind)
