"""A cheap search of this board's own for rows that another board reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from benchmark.board.job import Job
from benchmark.board.record import evaluation_row
from benchmark.data import Dataset
from benchmark.errors import InputError
from benchmark.jobs.job import make_job
from benchmark.measures import get_measure
from benchmark.threat import norm_names
from db.queries import Board, Row, RowStatus
from models_zoo import Entry


@dataclass(frozen=True)
class Recheck:
    """What a reported row needs to be ranked.

    Attributes:
        board: Its board.
        row: The row.
        norms: Those in which another board attacked all samples: this one has to attack them too.
        other: What this search cannot do: other threats, or rows without an attack. `curveboard evaluate --rerun all`
            does it.
    """

    board: Board
    row: Row
    norms: tuple[str, ...]
    other: tuple[str, ...]


def reported_rows(boards: list[Board], slug: str | None) -> list[Recheck]:
    """The rows that wait for a search, all or one model's.

    Raises:
        InputError: If the model has no such row.
    """
    found = []
    for board in boards:
        for row in board.rows:
            if row.status is RowStatus.REPORTED and slug in {None, row.model.slug}:
                norms = tuple(threat for threat in row.threats if threat in norm_names())
                other = tuple(threat for threat in row.threats if threat not in norms)
                found.append(Recheck(board, row, norms, other))
    if slug is not None and not found:
        raise InputError(f"No row of {slug!r} waits for a search of this board's own; curveboard status lists them.")
    return found


def search_jobs(recheck: Recheck, entry: Entry, dataset: Dataset) -> list[Job]:
    """One quick run of the engine in each norm, on all samples of the row's slice.

    Raises:
        InputError: If the model or the dataset here is not the row's.
    """
    for what, here, there in (
        ("model", entry.digest, recheck.row.model.digest),
        ("dataset", dataset.digest, recheck.board.dataset.digest),
    ):
        if here != there:
            raise InputError(
                f"The {what} of {entry.slug!r} here has the digest {here[:12]}…, its row is of {there[:12]}…."
            )
    curve = get_measure("curve")
    settings = [curve.Parameters(norm=norm, attack="engine", effort="quick") for norm in recheck.norms]
    return [make_job(curve, one, entry, dataset, n=recheck.board.n, reason="reported") for one in settings]


def enter_jobs(session: Session, jobs: list[Job], recheck: Recheck) -> Mapping[str, int]:
    """Queue the jobs; returns the evaluation of each key."""
    model_id, dataset_id = recheck.row.model.id, recheck.board.dataset.id
    return {job.key: evaluation_row(session, job, model_id=model_id, dataset_id=dataset_id).id for job in jobs}
