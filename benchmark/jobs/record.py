"""Writing to the database: rows, chunks, results. Each function is one transaction or part of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.history import record_rows
from benchmark.data import Dataset
from benchmark.evidence.store import StoredEvidence
from benchmark.jobs.job import Job
from benchmark.jobs.lease import release
from benchmark.jobs.protocol import Protocol
from benchmark.results import Flag, Summary, Table
from db import schema
from db.session import alone
from models_zoo import Entry


def register(
    session: Session,
    *,
    protocol: Protocol,
    entries: Mapping[str, Entry],
    datasets: Mapping[str, Dataset],
    wanted: Sequence[Job],
    replace: bool = True,
) -> dict[str, int]:
    """Enter everything the jobs speak of: protocol, models, datasets, evaluations, cells.

    Args:
        session: A writing session.
        protocol: The protocol.
        entries: The models by slug.
        datasets: The datasets by name.
        wanted: All jobs that the rows are to have.
        replace: Whether ``wanted`` is all that its rows want: cells they have too much are removed.

    Returns:
        The evaluation's id for each job's key.
    """
    alone(session)  # two evaluators that begin at once would both find nothing, and both insert it
    protocol_row = _protocol(session, protocol)
    ids: dict[str, int] = {}
    rows: dict[tuple[int, int, int], set[int]] = {}
    models = {slug: model_row(session, entry).id for slug, entry in entries.items()}
    data = {name: dataset_row(session, dataset).id for name, dataset in datasets.items()}
    for job in wanted:
        evaluation = evaluation_row(session, job, model_id=models[job.model], dataset_id=data[job.dataset])
        ids[job.key] = evaluation.id
        rows.setdefault((evaluation.model_id, evaluation.dataset_id, job.n), set()).add(evaluation.id)
    for row, evaluations in rows.items():
        _set_cells(session, protocol_row.id, row, evaluations, replace=replace)
    session.flush()
    record_rows(session)  # rows that earlier evaluations have completed
    return ids


def model_row(session: Session, entry: Entry) -> schema.Model:
    """The model's row; its card is brought up to date."""
    query = select(schema.Model).where(schema.Model.slug == entry.slug, schema.Model.digest == entry.digest)
    row = session.scalar(query)
    if row is None:
        row = schema.Model(slug=entry.slug, digest=entry.digest, added_at=datetime.now(UTC))
        session.add(row)
    row.title, row.card = entry.title, model_card(entry)
    session.flush()
    return row


def model_card(entry: Entry) -> dict[str, Any]:
    """The card as JSON values; local paths stay out."""
    card = dataclasses.asdict(entry)
    for name in ("folder", "slug", "trusted"):
        del card[name]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in card.items()}


def dataset_card(dataset: Dataset) -> dict[str, Any]:
    """What the board shows of a dataset, as JSON values."""
    return {
        "shape": list(dataset.shape),
        "classes": list(dataset.classes),
        "levels": dataset.levels,
        "eps": {norm: list(values) for norm, values in dataset.eps.items()},
        "licence": dataset.licence,
        "source": dataset.source,
    }


def dataset_row(session: Session, dataset: Dataset) -> schema.Dataset:
    """The dataset's row; its card is brought up to date."""
    query = select(schema.Dataset).where(schema.Dataset.name == dataset.name, schema.Dataset.digest == dataset.digest)
    row = session.scalar(query)
    if row is None:
        row = schema.Dataset(name=dataset.name, digest=dataset.digest, added_at=datetime.now(UTC))
        session.add(row)
    row.title, row.size, row.card = dataset.title, dataset.size, dataset_card(dataset)
    session.flush()
    return row


def _protocol(session: Session, protocol: Protocol) -> schema.Protocol:
    query = select(schema.Protocol).where(
        schema.Protocol.name == protocol.name, schema.Protocol.version == protocol.version
    )
    row = session.scalar(query)
    if row is None:
        row = schema.Protocol(name=protocol.name, version=protocol.version, added_at=datetime.now(UTC))
        session.add(row)
    row.title, row.spec = protocol.title, protocol.spec
    session.flush()
    return row


def evaluation_row(session: Session, job: Job, *, model_id: int, dataset_id: int) -> schema.Evaluation:
    """The job's row, queued if it is new."""
    row = session.scalar(select(schema.Evaluation).where(schema.Evaluation.key == job.key))
    if row is None:
        row = schema.Evaluation(
            key=job.key,
            model_id=model_id,
            dataset_id=dataset_id,
            n=job.n,
            samples=job.samples,
            measure=job.measure,
            version=job.version,
            parameters=job.parameters,
            norm=job.norm,
            seed=job.seed,
            state=schema.State.QUEUED,
            created_at=datetime.now(UTC),
        )
        session.add(row)
        session.flush()
    return row


def _set_cells(
    session: Session, protocol_id: int, row: tuple[int, int, int], evaluations: set[int], *, replace: bool
) -> None:
    model_id, dataset_id, n = row
    query = select(schema.Cell).where(
        schema.Cell.protocol_id == protocol_id,
        schema.Cell.model_id == model_id,
        schema.Cell.dataset_id == dataset_id,
        schema.Cell.n == n,
    )
    present = {cell.evaluation_id: cell for cell in session.scalars(query)}
    for evaluation_id, cell in present.items():
        if replace and evaluation_id not in evaluations:
            session.delete(cell)
    for evaluation_id in sorted(evaluations - set(present)):
        session.add(
            schema.Cell(
                protocol_id=protocol_id, model_id=model_id, dataset_id=dataset_id, n=n, evaluation_id=evaluation_id
            )
        )


@dataclasses.dataclass(frozen=True)
class ChunkResult:
    """One chunk, computed and checked, ready to be committed.

    Attributes:
        start: First sample.
        stop: One past the last sample.
        arrays: Named per-sample arrays.
        evidence: The stored adversarial examples, if there are any.
        flags: What was noticed.
        seconds: Wall time.
        forward_passes: In images.
        backward_passes: In images.
    """

    start: int
    stop: int
    arrays: Mapping[str, NDArray[Any]]
    evidence: StoredEvidence | None
    flags: Sequence[Flag]
    seconds: float
    forward_passes: int
    backward_passes: int


def add_chunk(session: Session, evaluation: schema.Evaluation, result: ChunkResult) -> None:
    """Enter a chunk with its arrays and evidence."""
    chunk = schema.Chunk(
        evaluation_id=evaluation.id,
        start=result.start,
        stop=result.stop,
        seconds=result.seconds,
        forward_passes=result.forward_passes,
        backward_passes=result.backward_passes,
        notes=[dataclasses.asdict(flag) for flag in result.flags],
        arrays=[schema.Array(name=name, data=data) for name, data in sorted(result.arrays.items())],
    )
    if result.evidence is not None:
        add_evidence(session, result.evidence)
        chunk.evidence_digest = result.evidence.digest
    session.add(chunk)
    evaluation.attempts = 1  # whoever dies over it now did get on


def add_evidence(session: Session, evidence: StoredEvidence) -> None:
    """Enter an evidence file, unless it is known."""
    if session.get(schema.Evidence, evidence.digest) is not None:
        return
    alone(session)  # two evaluators may find the same examples at once
    if session.get(schema.Evidence, evidence.digest) is None:
        values = dataclasses.asdict(evidence)
        session.add(schema.Evidence(**values, created_at=datetime.now(UTC)))
        session.flush()


def same_of(session: Session, own: schema.Evaluation, slug: str) -> schema.Evaluation | None:
    """The finished evaluation of the same measure, parameters, data and slice on another model, or this very one."""
    if own.model.slug == slug:
        return own
    query = (
        select(schema.Evaluation)
        .join(schema.Model)
        .where(
            schema.Model.slug == slug,
            schema.Evaluation.dataset_id == own.dataset_id,
            schema.Evaluation.measure == own.measure,
            schema.Evaluation.version == own.version,
            schema.Evaluation.seed == own.seed,
            schema.Evaluation.n == own.n,
            schema.Evaluation.samples == own.samples,
            schema.Evaluation.state == schema.State.DONE,
        )
        .order_by(schema.Evaluation.id.desc())
    )
    return next((row for row in session.scalars(query) if row.parameters == own.parameters), None)


def joined_arrays(chunks: Sequence[schema.Chunk]) -> dict[str, NDArray[Any]]:
    """The arrays of all chunks, joined along the samples."""
    names = sorted({array.name for chunk in chunks for array in chunk.arrays})
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for chunk in chunks:
        have = {array.name: array.data for array in chunk.arrays}
        for name in names:
            parts[name].append(have[name])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def joined_flags(chunks: Sequence[schema.Chunk]) -> list[Flag]:
    """The flags of all chunks: one of each code, that with the largest value."""
    found: dict[str, Flag] = {}
    for note in (note for chunk in chunks for note in chunk.notes):
        flag = Flag(**note)
        kept = found.get(flag.code)
        if kept is None or (flag.value or 0.0) > (kept.value or 0.0):
            found[flag.code] = flag
    return list(found.values())


def finish(evaluation: schema.Evaluation, summary: Summary, flags: Sequence[Flag]) -> None:
    """Enter scores, tables and flags, and mark the evaluation done."""
    evaluation.scores = [
        schema.Score(
            name=s.name,
            value=_finite(s.value),
            low=_finite(s.low),
            high=_finite(s.high),
            confidence=s.confidence,
            unit=s.unit,
            direction=s.direction,
        )
        for s in summary.scores
    ]
    evaluation.tables = [
        schema.SummaryTable(name=name, data=_stacked(table), confidence=table.confidence)
        for name, table in summary.tables.items()
    ]
    evaluation.flags = [schema.Flag(code=f.code, message=f.message, value=_finite(f.value)) for f in flags]
    release(evaluation, schema.State.DONE)
    evaluation.finished_at = datetime.now(UTC)


def _stacked(table: Table) -> NDArray[np.float64]:
    """Values and both ends of their intervals, shape (3, *axes)."""
    values = np.asarray(table.values, dtype=np.float64)
    ends = [np.full_like(values, np.nan) if end is None else np.asarray(end) for end in (table.low, table.high)]
    return np.stack([values, *ends])


def _finite(value: float | None) -> float | None:
    """Infinite and undefined values are stored as null: JSON and some databases have no word for them."""
    return float(value) if value is not None and np.isfinite(value) else None
