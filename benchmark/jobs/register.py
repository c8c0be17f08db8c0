"""Entering what is to run: protocol, models, datasets, evaluations, and what each row of a board wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from benchmark.board import record
from benchmark.board.history import record_rows
from benchmark.board.job import Job
from benchmark.data import Dataset
from benchmark.jobs.protocol import Protocol
from db.session import only_writer
from models_zoo import Entry


def register(
    session: Session,
    *,
    protocol: Protocol,
    entries: Mapping[str, Entry],
    datasets: Mapping[str, Dataset],
    wanted: Sequence[Job],
) -> dict[str, int]:
    """Enter everything the jobs speak of: protocol, models, datasets, evaluations, cells.

    Args:
        session: A writing session.
        protocol: The protocol.
        entries: The models by slug.
        datasets: The datasets by name.
        wanted: All that the protocol asks of the rows, whatever of it is to run now: a row is complete when it has
            all of it.

    Returns:
        The evaluation's id for each job's key.

    Raises:
        InputError: If the protocol's version is known with other contents.
    """
    only_writer(session)  # two evaluators that begin at once would both find nothing, and both insert it
    row = record.protocol_row(
        session, name=protocol.name, version=protocol.version, title=protocol.title, spec=protocol.spec
    )
    ids: dict[str, int] = {}
    rows: dict[tuple[int, int, int], set[int]] = {}
    models = {slug: record.model_row(session, entry).id for slug, entry in entries.items()}
    data = {name: record.dataset_row(session, dataset).id for name, dataset in datasets.items()}
    for job in wanted:
        evaluation = record.evaluation_row(session, job, model_id=models[job.model], dataset_id=data[job.dataset])
        ids[job.key] = evaluation.id
        rows.setdefault((evaluation.model_id, evaluation.dataset_id, job.n), set()).add(evaluation.id)
    for (model_id, dataset_id, n), evaluations in rows.items():
        record.set_cells(
            session, protocol_id=row.id, model_id=model_id, dataset_id=dataset_id, n=n, evaluations=evaluations
        )
    session.flush()
    record_rows(session)  # rows that earlier evaluations have completed
    return ids
