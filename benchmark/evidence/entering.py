"""Entering the evaluations of a bundle into a database: what it holds is checked before it joins anything."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from benchmark.board import record
from benchmark.board.checks import check_arrays, check_summary
from benchmark.board.crossings import refuse_crossings
from benchmark.board.history import record_change, record_rows
from benchmark.board.job import Job
from benchmark.data import Dataset
from benchmark.errors import InputError
from benchmark.evidence.check import Report
from benchmark.evidence.container import Container
from benchmark.evidence.store import StoredEvidence, unpack
from benchmark.measures import measures
from benchmark.results import Flag, Output, Score, Summary, Table
from db.schema import Cell, Chunk, Evaluation, State
from db.session import only_writer
from models_zoo import Entry


@dataclass(frozen=True)
class Contents:
    """A bundle whose card and dataset have been read.

    Attributes:
        container: The open file.
        entry: The model, its files unpacked beside its card.
        dataset: The dataset, from the bundle where it carries it.
        notes: What a reader of the verdict should know.
    """

    container: Container
    entry: Entry
    dataset: Dataset
    notes: tuple[str, ...]


@dataclass
class Ingested:
    """What came into the database.

    Attributes:
        slug: The model.
        entered: Evaluations entered.
        known: Evaluations that were there already.
        notes: What was left out, and why.
        report: The verification that came first; with problems, nothing was entered.
    """

    slug: str
    report: Report
    entered: int = 0
    known: int = 0
    notes: list[str] = field(default_factory=list)


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """What goes wrong with the types inside a manifest is the bundle's fault."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} is no sound bundle: {type(error).__name__}: {str(error)[:200]}.") from error


def enter(session: Session, contents: Contents, entry: Entry, outcome: Ingested) -> tuple[int, int]:
    """Enter all evaluations that are new; returns the ids of the model's and the dataset's row."""
    container = contents.container
    only_writer(session)
    with sound(container.path):
        model_id = record.model_row(session, entry).id
        dataset_id = record.dataset_row(session, contents.dataset).id
        cells: list[tuple[str, int, int, int]] = []
        for values in container.manifest["evaluations"]:
            job = _job(contents, values)
            row = record.evaluation_row(session, job, model_id=model_id, dataset_id=dataset_id)
            cells += [(str(name), int(version), int(n), row.id) for name, version, n in values["cells"]]
            if row.state in {State.DONE, State.UNSUPPORTED}:
                outcome.known += 1
            elif row.state == State.RUNNING and (row.lease_until or 0) > time.time():
                outcome.notes.append(f"{job}: left out, an evaluator is working on it")
            else:
                _fill(session, container, row, values)
                outcome.entered += 1
        _enter_cells(session, container, cells, model_id=model_id, dataset_id=dataset_id)
        refuse_crossings(session, model_id=model_id, dataset_id=dataset_id)
        record_rows(session, model_id=model_id)
    return model_id, dataset_id


def _job(contents: Contents, values: Mapping[str, Any]) -> Job:
    content = dict(values["content"])
    parameters, changed = dict(values["parameters"]), dict(content["parameters"])
    if any(parameters.get(name) != value for name, value in changed.items()):
        raise InputError(f"The bundle's {values['measure']} states parameters that are not those of its key.")
    job = Job(
        model=contents.entry.slug,
        model_digest=contents.entry.digest,
        dataset=contents.dataset.name,
        dataset_digest=contents.dataset.digest,
        n=int(values["n"]),
        samples=int(values["samples"]),
        measure=str(values["measure"]),
        version=int(values["version"]),
        attack_version=int(values["attack_version"]),
        parameters=parameters,
        changed=changed,
        seed=int(values["seed"]),
        needs={str(name): str(value) for name, value in dict(content["needs"]).items()},
        outputs=[Output.from_json(output).to_json() for output in values["outputs"]],
    )
    if job.key != values["key"]:
        raise InputError(f"The bundle states the key {values['key']!r} for {job}, which has {job.key}; it was altered.")
    _refuse_other_outputs(contents, job)
    return job


def _refuse_other_outputs(contents: Contents, job: Job) -> None:
    """What is to be found in the arrays is said by the measure, where it is installed here, never by the bundle."""
    measure = measures().get(job.measure)
    if measure is None or measure.version != job.version:
        return
    declared = [output.to_json() for output in measure.outputs(measure.Parameters(**job.parameters), contents.dataset)]
    if [Output.from_json(output) for output in declared] != [Output.from_json(output) for output in job.outputs]:
        raise InputError(f"The bundle declares other outputs for {job} than the measure does; it was altered.")


def _fill(session: Session, container: Container, row: Evaluation, values: Mapping[str, Any]) -> None:
    session.execute(delete(Chunk).where(Chunk.evaluation_id == row.id))  # what a failed run here had begun
    row.provenance = dict(values["provenance"]) | {
        "ingested": {"bundle": container.sha256, "finished_at": values["finished_at"]}
    }
    row.started_at = datetime.now(UTC)
    if State(values["state"]) is State.UNSUPPORTED:
        record.release(row, State.UNSUPPORTED, None if values["reason"] is None else str(values["reason"]))
        record_change(session, row)
        return
    for chunk in values["chunks"]:
        record.add_chunk(session, row, _chunk(container, row, chunk))
    scores = [Score(**{**score, "value": _number(score["value"])}) for score in values["scores"]]
    outputs = [Output.from_json(output) for output in row.outputs]
    tables = {str(name): _table(container, dict(table)) for name, table in dict(values["tables"]).items()}
    summary = check_summary(row.measure, Summary(scores, tables), outputs)
    record.finish(row, summary, [Flag(**flag) for flag in values["flags"]])
    session.flush()
    record_change(session, row)


def _table(container: Container, values: Mapping[str, Any]) -> Table:
    data = container.array(str(values["member"]))
    if data.dtype != np.float64 or data.shape[:1] != (3,):
        raise InputError(f"A table of the bundle is {data.dtype} of shape {data.shape}; expected float64, 3 of each.")
    confidence = values["confidence"]
    return Table(data[0], data[1], data[2], None if confidence is None else float(confidence))


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _chunk(container: Container, row: Evaluation, values: Mapping[str, Any]) -> record.ChunkResult:
    start, stop = int(values["start"]), int(values["stop"])
    if not 0 <= start < stop <= row.n:
        raise InputError(f"A chunk of {row.measure} goes from {start} to {stop}, of {row.n} samples.")
    arrays = {str(name): container.array(str(member)) for name, member in dict(values["arrays"]).items()}
    for name, array in arrays.items():
        if array.shape[:1] != (stop - start,) or len(name) > 80:
            raise InputError(
                f"The array {name[:80]!r} of {row.measure} has shape {array.shape}, for {stop - start} samples."
            )
        if name.startswith("distance_") and not (array.dtype == np.float64 and array.ndim == 1 and (array >= 0).all()):
            raise InputError(f"The array {name!r} of {row.measure} holds what is no distance.")
    check_arrays(row.measure, arrays, [Output.from_json(output) for output in row.outputs], stop - start)
    evidence = None
    if values["evidence"] is not None:
        data = container.read(f"evidence/{values['evidence']}")
        evidence = StoredEvidence(str(values["evidence"]), len(data), len(unpack(data)[0]))
    return record.ChunkResult(
        start=start,
        stop=stop,
        arrays=arrays,
        evidence=evidence,
        flags=[Flag(**note) for note in values["notes"]],
        seconds=float(values["seconds"]),
        forward_passes=int(values["forward_passes"]),
        backward_passes=int(values["backward_passes"]),
    )


def _enter_cells(
    session: Session,
    container: Container,
    cells: Sequence[tuple[str, int, int, int]],
    *,
    model_id: int,
    dataset_id: int,
) -> None:
    protocols: dict[tuple[str, int], int] = {}
    for values in container.manifest["protocols"]:
        row = record.protocol_row(
            session,
            name=str(values["name"])[:80],
            version=int(values["version"]),
            title=str(values["title"]),
            spec=dict(values["spec"]),
        )
        protocols[row.name, row.version] = row.id
    query = select(Cell.protocol_id, Cell.n, Cell.evaluation_id)
    mine = query.where(Cell.model_id == model_id, Cell.dataset_id == dataset_id)
    present = {tuple(row) for row in session.execute(mine)}
    for name, version, n, evaluation_id in cells:
        cell = (protocols[name, version], n, evaluation_id)
        if cell not in present:
            present.add(cell)
            session.add(
                Cell(protocol_id=cell[0], model_id=model_id, dataset_id=dataset_id, n=n, evaluation_id=evaluation_id)
            )
    session.flush()
