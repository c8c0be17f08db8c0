"""The values that queries return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from db.schema import State


@dataclass(frozen=True)
class ModelInfo:
    """A model as it was evaluated; ``card`` is its card as JSON."""

    id: int
    slug: str
    digest: str
    title: str
    card: Mapping[str, Any]
    added_at: datetime
    withdrawn: str | None = None
    """Why the maintainer withdrew it."""


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset without its arrays; ``card`` has its shape, classes, published eps, licence and source."""

    id: int
    name: str
    digest: str
    title: str
    size: int
    card: Mapping[str, Any]


@dataclass(frozen=True)
class ProtocolInfo:
    """A version of a protocol."""

    id: int
    name: str
    version: int
    title: str
    spec: Mapping[str, Any]
    added_at: datetime


@dataclass(frozen=True)
class EvaluationInfo:
    """An evaluation without its arrays and provenance."""

    id: int
    key: str
    model_id: int
    dataset_id: int
    n: int
    samples: int
    measure: str
    version: int
    attack_version: int
    parameters: Mapping[str, Any]
    norm: str | None
    seed: int
    state: State
    reason: str | None
    created_at: datetime
    finished_at: datetime | None
    outputs: tuple[Mapping[str, Any], ...] = ()
    """The outputs that its measure declared, as stored (`benchmark.results.Output`)."""
    bundle: str | None = None
    """Digest of the bundle that brought it, if another board reported it; None if this one ran it."""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to come: it is done, or does not apply to the model."""
        return self.state in {State.DONE, State.UNSUPPORTED}


@dataclass(frozen=True)
class ScoreInfo:
    """One number of an evaluation, with its interval."""

    name: str
    value: float | None
    low: float | None
    high: float | None
    confidence: float | None
    unit: str
    direction: str


@dataclass(frozen=True)
class TableInfo:
    """The values of a grid or trace; its axes are in the evaluation's ``outputs``, under the same name.

    Attributes:
        name: The output's name.
        values: Shape: the lengths of the output's axes; NaN in a cell that is missing.
        low: Lower ends of the intervals, NaN where unknown.
        high: Upper ends.
        confidence: Confidence level of the intervals.
    """

    name: str
    values: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence: float | None


@dataclass(frozen=True)
class FlagInfo:
    """A warning of an evaluation."""

    code: str
    message: str
    value: float | None


@dataclass(frozen=True)
class EvaluationDetail:
    """The rest of an evaluation: what it cost, under what circumstances, and what it said.

    ``seconds`` and the passes are summed over its chunks.
    """

    evaluation_id: int
    started_at: datetime | None
    samples: int
    provenance: Mapping[str, Any]
    seconds: float
    forward_passes: int
    backward_passes: int
    scores: tuple[ScoreInfo, ...]
    flags: tuple[FlagInfo, ...]
    tables: tuple[TableInfo, ...] = ()


class RowStatus(StrEnum):
    """How a row stands on its board."""

    COMPLETE = "complete"
    """It has all that its protocol asks for, or it does not apply: the row is ranked."""
    INCOMPLETE = "incomplete"
    """It lacks something that its protocol asks for."""
    REPORTED = "reported"
    """Another board reported it, and this one has not searched for adversarial examples of its own yet."""
    WITHDRAWN = "withdrawn"
    """The maintainer withdrew the model; `ModelInfo.withdrawn` says why."""
    STALE = "stale"
    """It has cells of an older version of the protocol only."""
    SUPERSEDED = "superseded"
    """The board has a row of the same model with newer weights."""


@dataclass(frozen=True)
class Row:
    """A model's row on a board.

    Attributes:
        model: The model.
        protocol: The newest version of the protocol that the row has cells of.
        status: How it stands.
        missing: What it lacks of its protocol, in words; nothing if it is complete.
        threats: Keys of the threats under which all its samples were attacked.
        cells: The evaluations that the protocol wants of it.
        others: Done evaluations of the same model and dataset beyond those: challenges, replays, older versions.
    """

    model: ModelInfo
    protocol: ProtocolInfo
    status: RowStatus
    cells: tuple[EvaluationInfo, ...]
    others: tuple[EvaluationInfo, ...]
    missing: tuple[str, ...] = ()
    threats: tuple[str, ...] = ()

    @property
    def reported(self) -> tuple[EvaluationInfo, ...]:
        """What the protocol wants of it and another board reported."""
        return tuple(e for e in self.cells if e.bundle is not None)

    @property
    def done(self) -> tuple[EvaluationInfo, ...]:
        """All done evaluations, in the order in which they joined the ledger."""
        everything = (e for e in (*self.cells, *self.others) if e.state is State.DONE)
        return tuple(sorted(everything, key=lambda e: (e.finished_at is None, e.finished_at, e.id)))


@dataclass(frozen=True)
class Board:
    """The rows that are ranked together: equal dataset digest, slice and protocol.

    Attributes:
        dataset: The dataset.
        n: The slice: its first ``n`` samples.
        protocol: The protocol's newest version that any row has.
        rows: Every row, by slug; only complete ones are ranked.
    """

    dataset: DatasetInfo
    n: int
    protocol: ProtocolInfo
    rows: tuple[Row, ...]
    crowded: bool = False
    """Whether another board has the same dataset name, slice and protocol name (the dataset's digest differs)."""

    @cached_property
    def slug(self) -> str:
        """A name for addresses: ``mnist-1000-default``."""
        name = f"{self.dataset.name}-{self.n}-{self.protocol.name}"
        return f"{name}-{self.dataset.digest[:8]}" if self.crowded else name

    @property
    def ranked(self) -> tuple[Row, ...]:
        """The complete rows."""
        return tuple(row for row in self.rows if row.status is RowStatus.COMPLETE)

    @property
    def threats(self) -> tuple[str, ...]:
        """Keys of the threats that rows are ranked under: the protocol's, if every ranked row was attacked there."""
        named = self.protocol.spec.get("threats") or sorted({t for row in self.ranked for t in row.threats})
        return tuple(threat for threat in named if all(threat in row.threats for row in self.ranked))


@dataclass(frozen=True)
class ChangeInfo:
    """An entry of the changelog."""

    id: int
    at: datetime
    kind: str
    model: str | None
    """The model's slug."""
    called: str | None
    """Its slug when the entry was made: a model may have been renamed since."""
    model_id: int | None
    dataset: str | None
    dataset_id: int | None
    measure: str | None
    parameters: Mapping[str, Any]
    detail: Mapping[str, Any]
