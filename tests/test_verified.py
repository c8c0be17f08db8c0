"""What `verify` writes down, and when the board believes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import boards
from sqlalchemy import select

from benchmark.board.verified import VERIFIED
from benchmark.cli import run
from benchmark.workspace import Workspace
from db import queries
from db.schema import Change, Evaluation
from db.session import Database
from sitegen.changes import told
from sitegen.summary import verified


def entries(workspace: Workspace) -> list[Change]:
    with Database(workspace.database_url).read() as session:
        return list(session.scalars(select(Change).where(Change.kind == VERIFIED).order_by(Change.model_id)))


def marks(workspace: Workspace) -> dict[str, bool]:
    with Database(workspace.database_url).read() as session:
        changes = queries.changes(session)
        assert all(change.kind != VERIFIED for change in told(changes))
        return {
            row.model.slug: verified(row, changes) is not None
            for board in queries.boards(session)
            for row in board.rows
        }


def test_a_whole_check_is_written_down_once_for_each_row_with_what_it_saw(board: Workspace) -> None:
    begin = datetime.now(UTC)
    for _ in range(2):
        assert run(["verify", "-w", str(board.root)]) == 0
    found = entries(board)
    assert len(found) == len(boards.MODELS)
    for entry in found:
        assert begin <= entry.at <= datetime.now(UTC)
        assert entry.detail["samples"] == boards.N
        assert entry.detail["examples"] >= 18
        assert "torch" in entry.detail["by"]


def test_a_sample_a_damaged_row_and_one_model_leave_the_others_unmarked(board: Workspace) -> None:
    assert run(["verify", "-w", str(board.root), "--sample", "3"]) == 0
    assert entries(board) == []
    with Database(board.database_url).write() as session:
        row = session.scalars(select(Evaluation).where(Evaluation.measure == "line")).first()
        assert row is not None
        damaged = row.model_id
        for chunk in row.chunks:
            for array in chunk.arrays:
                if array.name.startswith("distance_"):
                    array.data = array.data / 2
    assert run(["verify", "-w", str(board.root)]) == 4
    assert len(entries(board)) == len(boards.MODELS) - 1
    assert all(entry.model_id != damaged for entry in entries(board))


def test_a_mark_goes_when_newer_evidence_joins(board: Workspace) -> None:
    assert run(["verify", "-w", str(board.root)]) == 0
    before = marks(board)
    assert before
    assert all(before.values())
    with Database(board.database_url).write() as session:
        newest = session.scalars(select(Evaluation).where(Evaluation.measure == "line")).first()
        assert newest is not None
        slug, newest.finished_at = newest.model.slug, datetime.now(UTC) + timedelta(seconds=5)
    assert {name for name, held in marks(board).items() if not held} == {slug}
