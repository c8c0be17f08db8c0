"""What is withdrawn leaves the ledger and the ranking, and the changelog says why; nothing is deleted."""

from __future__ import annotations

import boards
import numpy as np
import pytest
from sqlalchemy import func, select

from benchmark.cli import run
from benchmark.workspace import Workspace
from db.queries import RowStatus, changes
from db.queries import boards as all_boards
from db.schema import Chunk, Evaluation, State
from db.session import Database


def withdraw(workspace: Workspace, *options: str) -> int:
    return run(["withdraw", "-w", str(workspace.root), *options])


@pytest.fixture
def challenged(board: Workspace) -> tuple[Workspace, dict[tuple[str, str], bytes]]:
    """A board with a challenge, and its ledgers before that."""
    before = boards.all_distances(board)
    indices, examples, _ = boards.near_examples()
    np.savez(board.root / "near.npz", indices=indices, examples=examples)
    assert run(["challenge", boards.MODELS[0], str(board.root / "near.npz"), "-w", str(board.root)]) == 0
    assert boards.all_distances(board) != before
    return board, before


def test_a_withdrawn_challenge_leaves_the_ledger_as_it_was(challenged, capsys):
    board, before = challenged
    assert withdraw(board, "--measure", "challenge", "--reason", "made with the wrong images") == 0
    assert boards.all_distances(board) == before
    assert run(["history", "-w", str(board.root), "--limit", "1"]) == 0
    assert "(made with the wrong images)" in capsys.readouterr().out
    assert run(["verify", "-w", str(board.root)]) == 0
    with Database(board.database_url).read() as session:
        row = session.scalars(select(Evaluation).where(Evaluation.measure == "challenge")).one()
        assert (row.state, row.reason) == (State.WITHDRAWN, "made with the wrong images")
        kept = select(func.count()).select_from(Chunk).where(Chunk.evaluation_id == row.id)
        assert session.scalar(kept), "what was withdrawn is still there to be looked at"


def test_a_withdrawn_attack_makes_rows_incomplete_until_it_is_run_again(board, capsys):
    before = boards.all_distances(board)
    assert withdraw(board, "--attack", "far", "--attack-version", "1", "--reason", "no such version") == 1
    assert withdraw(board, "--attack", "far", "--reason", "its seed was the clock") == 0
    with Database(board.database_url).read() as session:
        (found,) = all_boards(session)
    assert {row.status for row in found.rows} == {RowStatus.INCOMPLETE}
    assert "line norm=linf attack=far (withdrawn)" in found.rows[0].missing
    assert boards.evaluate(board) == 0
    assert boards.all_distances(board) != before, "it does not come back by itself"
    with boards.line_registered():
        again = ["evaluate", "-w", str(board.root), "--protocol", "lines", "--rerun", "failed"]
        assert run([*again, *(option for slug in boards.MODELS for option in ("-m", slug))]) == 0
    assert boards.all_distances(board) == before


def test_a_withdrawn_model_is_ranked_no_more(board):
    assert withdraw(board, "-m", boards.MODELS[0], "--reason", "trained on the test images") == 0
    with Database(board.database_url).read() as session:
        (found,) = all_boards(session)
        (change, *_) = changes(session, limit=1)
    assert [row.model.slug for row in found.ranked] == [boards.MODELS[1]]
    status = {row.model.slug: (row.status, row.model.withdrawn) for row in found.rows}
    assert status[boards.MODELS[0]] == (RowStatus.WITHDRAWN, "trained on the test images")
    assert (change.kind, change.detail["reason"]) == ("withdrawn", "trained on the test images")
    assert withdraw(board, "-m", boards.MODELS[0], "--reason", "again") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--key", "abc", "--reason", "x"], "too short"),
        (["--attack", "nobody", "--reason", "x"], "No finished evaluation is of that kind"),
        (["-m", "nobody", "--reason", "x"], "There is no model 'nobody'"),
        (["--measure", "line", "--reason", "a\x1bb"], "printable"),
        (["--reason", "x"], "Name what is withdrawn"),
    ],
)
def test_what_cannot_be_withdrawn_is_said(made_board, options, message, capsys):
    assert withdraw(made_board, *options) == 1
    assert message in capsys.readouterr().err
