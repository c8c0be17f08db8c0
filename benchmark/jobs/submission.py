"""A checked submission becomes one of the workspace's models: its report is stored, its folder moved to its place.

The database comes first, the folder second; a run that is killed in between is finished by whoever looks next, and one
that is killed earlier leaves nothing.
"""

from __future__ import annotations

import functools
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import delete
from sqlalchemy.orm import Session

from benchmark.board import checks, record
from benchmark.board.history import record_change
from benchmark.conformance import IMAGES
from benchmark.data import Dataset, get_dataset
from benchmark.jobs.checking import Checked
from benchmark.jobs.job import make_job
from benchmark.jobs.provenance import provenance
from benchmark.jobs.settling import move
from benchmark.measures import Inputs, get_measure
from benchmark.measures.conformance import result_of
from benchmark.results import Output
from db.schema import Chunk, Evaluation, State
from db.session import Database, only_writer
from models_zoo import Entry


def accept(database: Database, models: Path, entry: Entry, checked: Checked, *, device: str) -> None:
    """Enter a staged model and its report, and move its folder to its place; what was there before goes.

    Raises:
        DatabaseError: If it cannot be entered; then nothing has changed.
    """
    database.transact(functools.partial(_enter, entry=entry, checked=checked, device=device))
    move(entry.folder, models / entry.slug)


def _enter(session: Session, *, entry: Entry, checked: Checked, device: str) -> None:
    """The model's row and its report, as an evaluation like any other."""
    dataset, measure = get_dataset(entry.dataset), get_measure("conformance")
    job = make_job(measure, measure.Parameters(), entry, dataset, n=dataset.size, reason="submitted")
    only_writer(session)
    model, data = record.model_row(session, entry), record.dataset_row(session, dataset)
    row = record.evaluation_row(session, job, model_id=model.id, dataset_id=data.id)
    if row.state in {State.DONE, State.RUNNING}:
        return
    session.execute(delete(Chunk).where(Chunk.evaluation_id == row.id))
    row.provenance = provenance(device) | {"method": asdict(measure.method(measure.Parameters()))}
    row.started_at = row.started_at or datetime.now(UTC)
    _fill(session, row, dataset, checked)


def _fill(session: Session, row: Evaluation, dataset: Dataset, checked: Checked) -> None:
    measure = get_measure("conformance")
    n = min(IMAGES, row.samples)
    result = result_of(checked.report, n)
    outputs = [Output.from_json(output) for output in row.outputs]
    checks.check_arrays(row.measure, result.arrays, outputs, n)
    record.add_chunk(
        session,
        row,
        record.ChunkResult(
            start=0,
            stop=n,
            arrays=result.arrays,
            evidence=None,
            flags=result.flags,
            seconds=checked.seconds,
            forward_passes=0,
            backward_passes=0,
        ),
    )
    inputs = Inputs(dict(result.arrays), dataset.labels(0, n), {}, dataset)
    summary = checks.check_summary(row.measure, measure.summarise(inputs, measure.Parameters()), outputs)
    record.finish(row, summary, result.flags)
    record_change(session, row)
