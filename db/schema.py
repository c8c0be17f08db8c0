"""The tables, as SQLAlchemy 2 typed classes.

A **cell** says that a row of a board (protocol, model, dataset, slice) wants an **evaluation**; the evaluation is the
unit of work and of caching, its key the digest of what determines its result. Per-sample arrays are stored as one blob
an array and chunk. The ledger is not a table: it is derived from the chunks of finished
evaluations (`benchmark.board.ledger`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from numpy.typing import NDArray
from sqlalchemy import Float, ForeignKey, Index, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from db.types import ArrayBlob, DatasetCard, Json, State, StateName, Told, UtcDateTime, Whole

__all__ = [
    "NAMING",
    "Array",
    "Base",
    "Cell",
    "Change",
    "Chunk",
    "Dataset",
    "DatasetArray",
    "Evaluation",
    "Evidence",
    "Flag",
    "Model",
    "Protocol",
    "Score",
    "State",
    "SummaryTable",
]

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """The declarative base."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own way to configure
        dict[str, Any]: Json(dict),
        datetime: UtcDateTime,
        NDArray[Any]: ArrayBlob,
    }


class Model(Base):
    """A model as it was evaluated: new weights or a new architecture make a new row of the same slug."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("slug", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(80), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(Text)
    card: Mapped[dict[str, Any]]
    """The card as JSON: authors, paper, year, licence, architecture, claims …"""
    added_at: Mapped[datetime]
    withdrawn: Mapped[str | None] = mapped_column(Told())
    """Why the maintainer withdrew it; None while it stands."""


class Dataset(Base):
    """A dataset, known by its manifest digest."""

    __tablename__ = "datasets"
    __table_args__ = (UniqueConstraint("name", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(Whole())
    card: Mapped[dict[str, Any]] = mapped_column(DatasetCard())
    """Image shape, number and names of classes, published eps (``{"eps": {"linf": [0.1, …]}}``), licence, source."""
    added_at: Mapped[datetime]
    arrays: Mapped[list[DatasetArray]] = relationship(back_populates="dataset", cascade="all, delete-orphan")


class DatasetArray(Base):
    """A named array of a dataset: ``labels``, ``images`` (uint8, (n, c, h, w)), inter-class distances."""

    __tablename__ = "dataset_arrays"
    __table_args__ = (UniqueConstraint("dataset_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(80))
    data: Mapped[NDArray[Any]] = mapped_column(deferred=True)
    dataset: Mapped[Dataset] = relationship(back_populates="arrays")


class Protocol(Base):
    """A named, versioned list of measures."""

    __tablename__ = "protocols"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    version: Mapped[int]
    title: Mapped[str] = mapped_column(Text)
    spec: Mapped[dict[str, Any]]
    digest: Mapped[str] = mapped_column(String(64), default="")
    """SHA-256 of ``spec``: changed contents under an old version are refused."""
    added_at: Mapped[datetime]


class Evaluation(Base):
    """One measure on one model and slice, with a seed."""

    __tablename__ = "evaluations"
    __table_args__ = (Index(None, "model_id", "dataset_id", "measure"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), index=True)
    n: Mapped[int]
    """The slice: the first ``n`` samples."""
    samples: Mapped[int]
    """How many samples of the slice are measured: fewer than ``n`` where all would take too long."""
    measure: Mapped[str] = mapped_column(String(80))
    version: Mapped[int]
    """The measure's version."""
    attack_version: Mapped[int] = mapped_column(default=0)
    """Version of the attack or method that the parameters name; 0 if they name none."""
    parameters: Mapped[dict[str, Any]]
    norm: Mapped[str | None] = mapped_column(String(40))
    seed: Mapped[int]
    content: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What determines the result of a sample (`benchmark.board.job.Job.content`); ``content_key`` is its digest."""
    content_key: Mapped[str] = mapped_column(String(64), default="", index=True)
    """Digest of ``content``: evaluations that share it may take over each other's chunks."""
    outputs: Mapped[list[dict[str, Any]]] = mapped_column(Json(list), default=list)
    """The outputs that its measure declared (`benchmark.results.Output`), as JSON."""
    state: Mapped[State] = mapped_column(StateName(), index=True)
    reason: Mapped[str | None] = mapped_column(Told())
    """Why it failed or does not apply."""
    owner: Mapped[str | None] = mapped_column(String(120))
    """The evaluator that runs it."""
    lease_until: Mapped[float | None] = mapped_column(Float(53))
    """When the owner's lease runs out, in seconds since 1970."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Attempts since the last committed chunk, each ended by the death of its evaluator; 0 before the first."""
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None] = mapped_column(index=True)
    provenance: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Library versions, hardware, device, threads, command: recorded, not keyed."""

    @property
    def bundle(self) -> str | None:
        """Digest of the bundle that brought it; None if this board ran it."""
        found = self.provenance.get("ingested")
        return None if found is None else str(found["bundle"])

    model: Mapped[Model] = relationship()
    dataset: Mapped[Dataset] = relationship()
    chunks: Mapped[list[Chunk]] = relationship(
        back_populates="evaluation", cascade="all, delete-orphan", order_by="Chunk.start"
    )
    scores: Mapped[list[Score]] = relationship(cascade="all, delete-orphan", order_by="Score.id")
    tables: Mapped[list[SummaryTable]] = relationship(cascade="all, delete-orphan", order_by="SummaryTable.id")
    flags: Mapped[list[Flag]] = relationship(cascade="all, delete-orphan", order_by="Flag.id")


class Chunk(Base):
    """Samples ``start`` to ``stop`` of an evaluation, committed together."""

    __tablename__ = "chunks"
    __table_args__ = (UniqueConstraint("evaluation_id", "start"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"))
    start: Mapped[int]
    stop: Mapped[int]
    seconds: Mapped[float] = mapped_column(Float(53))
    forward_passes: Mapped[int]
    backward_passes: Mapped[int]
    evidence_digest: Mapped[str | None] = mapped_column(ForeignKey("evidence.digest"), index=True)
    notes: Mapped[list[dict[str, Any]]] = mapped_column(Json(list), default=list)
    """Flags raised on this chunk, as dictionaries, until the evaluation's last chunk joins them."""

    evaluation: Mapped[Evaluation] = relationship(back_populates="chunks")
    arrays: Mapped[list[Array]] = relationship(back_populates="chunk", cascade="all, delete-orphan")
    evidence: Mapped[Evidence | None] = relationship()


class Array(Base):
    """A named per-sample array of a chunk."""

    __tablename__ = "arrays"
    __table_args__ = (UniqueConstraint("chunk_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    chunk_id: Mapped[int] = mapped_column(ForeignKey("chunks.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(80))
    data: Mapped[NDArray[Any]]
    chunk: Mapped[Chunk] = relationship(back_populates="arrays")


class Score(Base):
    """One number of an evaluation, with its interval."""

    __tablename__ = "scores"
    __table_args__ = (UniqueConstraint("evaluation_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(80))
    value: Mapped[float | None] = mapped_column(Float(53))
    low: Mapped[float | None] = mapped_column(Float(53))
    high: Mapped[float | None] = mapped_column(Float(53))
    confidence: Mapped[float | None] = mapped_column(Float(53))
    unit: Mapped[str] = mapped_column(String(40))
    direction: Mapped[str] = mapped_column(String(8))


class SummaryTable(Base):
    """The values of a grid or trace output of an evaluation; its axes are in the evaluation's ``outputs``."""

    __tablename__ = "summary_tables"
    __table_args__ = (UniqueConstraint("evaluation_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(80))
    """The output's name."""
    data: Mapped[NDArray[Any]]
    """Shape (3, *axes), float64: values, lower and upper ends of their intervals; NaN where unknown."""
    confidence: Mapped[float | None] = mapped_column(Float(53))


class Flag(Base):
    """A warning about a row."""

    __tablename__ = "flags"
    __table_args__ = (UniqueConstraint("evaluation_id", "code"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"))
    code: Mapped[str] = mapped_column(String(80))
    message: Mapped[str] = mapped_column(Told())
    value: Mapped[float | None] = mapped_column(Float(53))


class Evidence(Base):
    """A file of adversarial examples under ``artifacts/``, named by its content's SHA-256."""

    __tablename__ = "evidence"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int]
    samples: Mapped[int]
    created_at: Mapped[datetime]


class Cell(Base):
    """A row of a board wants an evaluation."""

    __tablename__ = "cells"
    __table_args__ = (UniqueConstraint("protocol_id", "model_id", "dataset_id", "n", "evaluation_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    protocol_id: Mapped[int] = mapped_column(ForeignKey("protocols.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), index=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"))
    n: Mapped[int]
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"), index=True)

    protocol: Mapped[Protocol] = relationship()
    model: Mapped[Model] = relationship()
    dataset: Mapped[Dataset] = relationship()
    evaluation: Mapped[Evaluation] = relationship()


class Change(Base):
    """An entry of the changelog: what an evaluation changed on the board."""

    __tablename__ = "changes"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(40))
    """``model-added``, ``distances-lowered``, ``challenge-accepted`` …"""
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"), index=True)
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id"))
    evaluation_id: Mapped[int | None] = mapped_column(ForeignKey("evaluations.id"), index=True)
    detail: Mapped[dict[str, Any]]
    """What changed: samples lowered a norm, robust accuracies and ranks before and after, by which attack."""

    model: Mapped[Model | None] = relationship()
    dataset: Mapped[Dataset | None] = relationship()
    evaluation: Mapped[Evaluation | None] = relationship()
