"""Evaluations that no measure ran: challenges and replays. Their examples join the ledger like any others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.history import record_change
from benchmark.board.ledger import ledger
from benchmark.board.norms import ledger_norms
from benchmark.data import Dataset
from benchmark.evidence.store import StoredEvidence
from benchmark.jobs import record
from benchmark.jobs.job import Job
from benchmark.results import Score, Summary
from benchmark.threat import norm_names
from db.schema import Change, Evaluation, Model, State
from db.schema import Dataset as DatasetRow
from db.session import alone
from models_zoo import Entry

Distances = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Accepted:
    """Verified examples that are to join the ledger.

    Attributes:
        indices: Their samples, shape (k,), int64, rising.
        distances: Norm -> distances as verified, shape (k,), float64.
        evidence: The file that holds the examples; None when there are none.
        arrays: Further named arrays, first axis k.
        seconds: What it took to check everything, accepted or not.
        forward_passes: In images.
    """

    indices: NDArray[np.int64]
    distances: Distances
    evidence: StoredEvidence | None
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    seconds: float = 0.0
    forward_passes: int = 0


def guest_job(entry: Entry, dataset: Dataset, *, measure: str, samples: int, parameters: dict[str, Any]) -> Job:
    """The job that a challenge or replay amounts to; its key tells equal ones."""
    return Job(
        model=entry.slug,
        model_digest=entry.digest,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        n=dataset.size,
        samples=samples,
        measure=measure,
        version=1000,
        parameters=parameters,
        seed=0,
    )


def is_known(session: Session, job: Job) -> bool:
    """Whether the job was entered before."""
    query = select(Evaluation.id).where(Evaluation.key == job.key, Evaluation.state == State.DONE)
    return session.scalar(query) is not None


def enter(
    session: Session,
    job: Job,
    *,
    entry: Entry,
    dataset: Dataset,
    accepted: Accepted,
    scores: Sequence[Score],
    provenance: Mapping[str, Any],
) -> Change | None:
    """Enter a finished challenge or replay.

    Args:
        session: A writing session.
        job: What it amounts to.
        entry: The model.
        dataset: The dataset.
        accepted: The examples that hold and lower something.
        scores: Its scores.
        provenance: Where it comes from.

    Returns:
        The changelog's entry; None where nothing on the board changed, or the job was entered before.
    """
    alone(session)
    if is_known(session, job):
        return None
    model_id = record.model_row(session, entry).id
    dataset_id = record.dataset_row(session, dataset).id
    evaluation = record.evaluation_row(session, job, model_id=model_id, dataset_id=dataset_id)
    evaluation.provenance = dict(provenance)
    evaluation.started_at = datetime.now(UTC)
    for position, run in enumerate(contiguous(accepted.indices)):
        named = {f"distance_{norm}": found for norm, found in accepted.distances.items()} | dict(accepted.arrays)
        chunk = record.ChunkResult(
            start=int(accepted.indices[run.start]),
            stop=int(accepted.indices[run.stop - 1]) + 1,
            arrays={name: array[run] for name, array in named.items()},
            evidence=accepted.evidence,
            flags=(),
            seconds=accepted.seconds if position == 0 else 0.0,
            forward_passes=accepted.forward_passes if position == 0 else 0,
            backward_passes=0,
        )
        record.add_chunk(session, evaluation, chunk)
    record.finish(evaluation, Summary(scores), ())
    session.flush()
    return record_change(session, evaluation)


def present_distances(session: Session, entry: Entry, dataset: Dataset, *, also: str | None = None) -> Distances:
    """The ledger's distances of a model on the whole dataset: norm -> shape (size,), float64; ``inf`` without a row.

    Of the norms whose ledgers are kept up and of ``also``; without a row, of all.
    """
    model = select(Model.id).where(Model.slug == entry.slug, Model.digest == entry.digest)
    data = select(DatasetRow.id).where(DatasetRow.name == dataset.name, DatasetRow.digest == dataset.digest)
    model_id, dataset_id = session.scalar(model), session.scalar(data)
    if model_id is None or dataset_id is None:
        return {norm: np.full(dataset.size, np.inf) for norm in norm_names()}
    kept = ledger_norms(session, dataset_id=dataset_id, model_id=model_id)
    return {
        norm: ledger(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=dataset.size).distances
        for norm in norm_names()
        if norm in kept or norm == also
    }


def contiguous(indices: NDArray[np.int64]) -> list[slice]:
    """The runs of consecutive numbers in a rising array; a chunk is one run, so that it claims no sample between."""
    if not len(indices):
        return []
    ends = np.flatnonzero(np.diff(indices) != 1) + 1
    return [slice(int(a), int(b)) for a, b in zip([0, *ends], [*ends, len(indices)], strict=True)]
