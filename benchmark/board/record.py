"""Writing to the database: rows, chunks, results. Each function is one transaction or part of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.job import Job, digest
from benchmark.board.names import refusal
from benchmark.data import Dataset
from benchmark.errors import InputError
from benchmark.results import Flag, Summary, Table
from db import schema
from db.session import only_writer
from db.texts import plain
from models_zoo import Entry


def model_row(session: Session, entry: Entry) -> schema.Model:
    """The model's row; its card is brought up to date."""
    query = select(schema.Model).where(schema.Model.slug == entry.slug, schema.Model.digest == entry.digest)
    row = session.scalar(query)
    if row is None:
        if (reason := refusal(session, entry)) is not None:
            raise InputError(reason)
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


def protocol_row(session: Session, *, name: str, version: int, title: str, spec: Mapping[str, Any]) -> schema.Protocol:
    """The row of a version of a protocol.

    Raises:
        InputError: If that version is stored with other contents: rows of the two cannot be ranked together.
    """
    query = select(schema.Protocol).where(schema.Protocol.name == name, schema.Protocol.version == version)
    row = session.scalar(query)
    content = digest(spec)
    if row is None:
        row = schema.Protocol(
            name=name, version=version, title=title, spec=dict(spec), digest=content, added_at=datetime.now(UTC)
        )
        session.add(row)
        session.flush()
    if row.digest != content:
        raise InputError(
            f"The protocol {name}@{version} is known here with other contents ({_differing(row.spec, spec)}); rows of "
            f"the two cannot be ranked together. Raise the version in its file, to {version + 1} for instance."
        )
    return row


def _differing(known: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    names = sorted({*known, *given})
    return "different: " + ", ".join(name for name in names if known.get(name) != given.get(name))


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
            attack_version=job.attack_version,
            parameters=dict(job.parameters),
            norm=job.norm,
            seed=job.seed,
            content_key=job.content_key,
            content=job.content,
            state=schema.State.QUEUED,
            created_at=datetime.now(UTC),
        )
        session.add(row)
        session.flush()
    if job.outputs:
        row.outputs = [dict(output) for output in job.outputs]
    return row


def set_cells(
    session: Session, *, protocol_id: int, model_id: int, dataset_id: int, n: int, evaluations: set[int]
) -> None:
    """Say which evaluations a row wants: these and no others."""
    query = select(schema.Cell).where(
        schema.Cell.protocol_id == protocol_id,
        schema.Cell.model_id == model_id,
        schema.Cell.dataset_id == dataset_id,
        schema.Cell.n == n,
    )
    present = {cell.evaluation_id: cell for cell in session.scalars(query)}
    for evaluation_id, cell in present.items():
        if evaluation_id not in evaluations:
            session.delete(cell)
    for evaluation_id in sorted(evaluations - set(present)):
        session.add(
            schema.Cell(
                protocol_id=protocol_id, model_id=model_id, dataset_id=dataset_id, n=n, evaluation_id=evaluation_id
            )
        )


class EvidenceFile(Protocol):
    """A stored file of adversarial examples."""

    @property
    def digest(self) -> str:
        """SHA-256 of its bytes."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def samples(self) -> int:
        """How many examples it holds."""


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
    evidence: EvidenceFile | None
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
        notes=[dataclasses.asdict(flag) | {"message": plain(flag.message)} for flag in result.flags],
        arrays=[schema.Array(name=name, data=data) for name, data in sorted(result.arrays.items())],
    )
    if result.evidence is not None:
        add_evidence(session, result.evidence)
        chunk.evidence_digest = result.evidence.digest
    session.add(chunk)
    evaluation.attempts = 1  # an evaluator that dies after this has made progress: the count starts again


def take_over_chunks(session: Session, evaluation: schema.Evaluation) -> int:
    """Copy the samples that are missing from evaluations of the same content on other slices; returns how many.

    A chunk is cut where it has more than is wanted; its cost is shared out among its samples. The evidence file is the
    same one: what it has beyond the chunk's samples is not looked at.
    """
    query = (
        select(schema.Chunk)
        .join(schema.Evaluation)
        .where(
            schema.Evaluation.content_key == evaluation.content_key,
            schema.Evaluation.id != evaluation.id,
            schema.Evaluation.state != schema.State.WITHDRAWN,
        )
        .order_by(schema.Chunk.start, schema.Chunk.id)
    )
    missing = np.ones(evaluation.samples, dtype=np.bool_)
    for chunk in evaluation.chunks:
        missing[chunk.start : chunk.stop] = False
    taken = 0
    for chunk in session.scalars(query):
        if chunk.evaluation.bundle is not None:
            continue  # what another board reported does not become this board's own by being cut
        for start, stop in runs(missing[: chunk.stop], first=chunk.start):
            session.add(_part_of(chunk, evaluation.id, start, stop))
            missing[start:stop] = False
            taken += stop - start
    session.flush()
    session.expire(evaluation, ["chunks"])
    return taken


def _part_of(chunk: schema.Chunk, evaluation_id: int, start: int, stop: int) -> schema.Chunk:
    rows, share = slice(start - chunk.start, stop - chunk.start), (stop - start) / (chunk.stop - chunk.start)
    return schema.Chunk(
        evaluation_id=evaluation_id,
        start=start,
        stop=stop,
        seconds=chunk.seconds * share,
        forward_passes=round(chunk.forward_passes * share),
        backward_passes=round(chunk.backward_passes * share),
        evidence_digest=chunk.evidence_digest,
        notes=list(chunk.notes),
        arrays=[schema.Array(name=array.name, data=array.data[rows]) for array in chunk.arrays],
    )


def runs(mask: NDArray[np.bool_], *, first: int = 0) -> list[tuple[int, int]]:
    """The runs of True from ``first`` on, as (start, stop)."""
    padded = np.concatenate([[False], mask[first:], [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1]) + first
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def add_evidence(session: Session, evidence: EvidenceFile) -> None:
    """Enter an evidence file, unless it is known."""
    if session.get(schema.Evidence, evidence.digest) is not None:
        return
    only_writer(session)  # two evaluators may find the same examples at once
    if session.get(schema.Evidence, evidence.digest) is None:
        session.add(
            schema.Evidence(
                digest=evidence.digest,
                bytes=evidence.bytes,
                samples=evidence.samples,
                created_at=datetime.now(UTC),
            )
        )
        session.flush()


def same_of(session: Session, own: schema.Evaluation, slug: str) -> schema.Evaluation | None:
    """The evaluation of the same content and slice on the newest model of that slug; this very one for its own."""
    if own.model.slug == slug:
        return own
    query = (
        select(schema.Evaluation)
        .join(schema.Model)
        .where(
            schema.Model.slug == slug,
            schema.Evaluation.dataset_id == own.dataset_id,
            schema.Evaluation.measure == own.measure,
            schema.Evaluation.n == own.n,
            schema.Evaluation.samples == own.samples,
        )
        .order_by(schema.Evaluation.id.desc())
    )
    wanted = {**own.content, "model": None}
    return next((row for row in session.scalars(query) if {**row.content, "model": None} == wanted), None)


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


def release(evaluation: schema.Evaluation, state: schema.State, reason: str | None = None) -> None:
    """Give up the lease and say where the evaluation stands now."""
    evaluation.state, evaluation.reason = state, reason
    evaluation.owner = evaluation.lease_until = None


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
