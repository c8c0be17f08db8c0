"""A cheap search of this board's own for rows that another board reported."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from benchmark.attacks import get_attack
from benchmark.board.job import Job
from benchmark.board.record import evaluation_row
from benchmark.data import Dataset
from benchmark.errors import BenchmarkError, InputError
from benchmark.jobs.job import make_job
from benchmark.measures import Measure, get_measure
from benchmark.threat.goals import TARGETED, Threat
from db.queries import Board, Row, RowStatus
from models_zoo import Entry


@dataclass(frozen=True)
class Recheck:
    """What a reported row needs to be ranked.

    Attributes:
        board: Its board.
        row: The row.
        threats: Those under which another board attacked all samples and this search can: this one has to as well.
        other: What this search cannot do: threats of other goals, or rows without an attack. `curveboard evaluate
            --rerun all` does it.
    """

    board: Board
    row: Row
    threats: tuple[str, ...]
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
                known = tuple(threat for threat in row.threats if _search(threat, board.n) is not None)
                other = tuple(threat for threat in row.threats if threat not in known)
                found.append(Recheck(board, row, known, other))
    if slug is not None and not found:
        raise InputError(f"No row of {slug!r} waits for a search of this board's own; curveboard status lists them.")
    return found


def enter_searches(session: Session, recheck: Recheck, entry: Entry, dataset: Dataset) -> list[tuple[Job, int]]:
    """Queue one quick run of the engine under each threat, on all samples of the row's slice.

    Returns:
        Each job with its evaluation.

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
    return [_enter(session, threat, recheck, entry, dataset) for threat in recheck.threats]


def _enter(session: Session, threat: str, recheck: Recheck, entry: Entry, dataset: Dataset) -> tuple[Job, int]:
    found = _search(threat, recheck.board.n)
    assert found is not None
    for seed in itertools.count():  # the other board may have reported this very search: ours then has another seed
        job = make_job(*found, entry, dataset, n=recheck.board.n, seed=seed, reason="reported")
        row = evaluation_row(session, job, model_id=recheck.row.model.id, dataset_id=recheck.board.dataset.id)
        if row.bundle is None:
            return job, row.id
    raise AssertionError


def _search(key: str, n: int) -> tuple[Measure[Any], Any] | None:
    """The measure, with its parameters, that attacks all samples under a threat; None if there is none."""
    try:
        threat = Threat.parse(key)
        if not threat.targeted:
            get_attack("engine").check(threat.norm, threat.goal)
            curve = get_measure("curve")
            return curve, curve.Parameters(norm=threat.norm, attack="engine", effort="quick")
        targeted, choice = get_measure("targeted"), threat.goal.removeprefix(f"{TARGETED}-")
        return targeted, targeted.Parameters(norm=threat.norm, choice=choice, effort="quick", samples=max(n, 10_000))
    except BenchmarkError:  # another goal, or a norm that the attack does not know
        return None
