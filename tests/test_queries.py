"""What the site, status, show and export read: boards and their rows, at any moment."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
import synthetic
from sqlalchemy import select, update

from benchmark.board.ledger import ledger
from db import queries
from db.errors import DatabaseError
from db.queries import Board, Row, RowStatus
from db.schema import Array, Cell, Evaluation, Model, Protocol, State
from db.session import Database


@pytest.fixture
def made(database: Database) -> synthetic.Board:
    return synthetic.populate(database, models=3, n=12, exact=4)


def only_board(database: Database) -> Board:
    with database.read() as session:
        (board,) = queries.boards(session)
    return board


def row_of(board: Board, slug: str) -> Row:
    (row,) = [row for row in board.rows if row.model.slug == slug]
    return row


def test_a_row_is_complete_when_all_its_cells_are_settled(database: Database, made: synthetic.Board) -> None:
    board = only_board(database)
    assert board.slug == "synthetic-12-standard"
    assert [row.status for row in board.rows] == [RowStatus.COMPLETE] * 3
    assert [row.model.slug for row in board.rows] == sorted(made.models)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.FAILED, RowStatus.INCOMPLETE),
        (State.QUEUED, RowStatus.INCOMPLETE),
        (State.RUNNING, RowStatus.INCOMPLETE),
        (State.UNSUPPORTED, RowStatus.COMPLETE),
    ],
)
def test_what_a_state_makes_of_its_row(
    database: Database, made: synthetic.Board, state: State, status: RowStatus
) -> None:
    slug = next(iter(made.models))
    with database.write() as session:
        cell = session.scalars(select(Cell).where(Cell.model_id == made.models[slug])).first()
        assert cell is not None
        cell.evaluation.state = state
    board = only_board(database)
    assert row_of(board, slug).status is status
    assert len(board.ranked) == (3 if status is RowStatus.COMPLETE else 2)


def test_a_row_of_an_older_protocol_is_stale(database: Database, made: synthetic.Board) -> None:
    left_behind, *others = made.models
    with database.write() as session:
        newer = Protocol(name="standard", version=3, title="Newer", spec={}, added_at=synthetic.START)
        session.add(newer)
        session.flush()
        for cell in session.scalars(select(Cell).where(Cell.model_id.in_([made.models[s] for s in others]))).all():
            session.add(
                Cell(
                    protocol_id=newer.id,
                    model_id=cell.model_id,
                    dataset_id=cell.dataset_id,
                    n=cell.n,
                    evaluation_id=cell.evaluation_id,
                )
            )
    board = only_board(database)
    assert board.protocol.version == 3
    assert {row.model.slug: row.status for row in board.rows} == {
        left_behind: RowStatus.STALE,
        **dict.fromkeys(others, RowStatus.COMPLETE),
    }


def test_new_weights_take_the_place_of_old_ones_once_they_are_complete(
    database: Database, made: synthetic.Board
) -> None:
    slug, donor = list(made.models)[:2]
    with database.write() as session:
        old = session.get_one(Model, made.models[donor])
        old.slug = slug  # the donor's row becomes a second row of the slug, added later
    board = only_board(database)
    assert [row.status for row in board.rows if row.model.slug == slug] == [RowStatus.SUPERSEDED, RowStatus.COMPLETE]
    with database.write() as session:
        cell = session.scalars(select(Cell).where(Cell.model_id == made.models[donor])).first()
        assert cell is not None
        cell.evaluation.state = State.RUNNING
    board = only_board(database)
    assert [row.status for row in board.rows if row.model.slug == slug] == [RowStatus.COMPLETE, RowStatus.INCOMPLETE]


def test_the_board_as_it_stood(database: Database, made: synthetic.Board) -> None:
    first, second, third = made.models
    with database.read() as session:
        moment = synthetic.START + timedelta(hours=1, minutes=5)  # the second model's evaluations have just begun
        (board,) = queries.boards(session, as_of=moment)
        assert {row.model.slug for row in board.rows} == {first, second}
        assert row_of(board, first).status is RowStatus.COMPLETE
        assert row_of(board, second).status is RowStatus.INCOMPLETE
        assert all(e.finished_at is None or e.finished_at <= moment for e in row_of(board, second).cells)
        assert [c.model for c in queries.changes(session, as_of=moment)] == [second, first]
    assert third in {row.model.slug for row in only_board(database).rows}


def test_the_data_of_a_row_joins_its_chunks(database: Database, made: synthetic.Board) -> None:
    with database.write() as session:
        evaluation = session.scalars(select(Evaluation).where(Evaluation.measure == "clean")).first()
        assert evaluation is not None
        (chunk,) = evaluation.chunks
        for array in chunk.arrays:
            session.execute(update(Array).where(Array.id == array.id).values(data=array.data[:5]))
        later = type(chunk)(
            evaluation_id=evaluation.id, start=5, stop=12, seconds=1.5, forward_passes=7, backward_passes=0, notes=[]
        )
        later.arrays = [type(a)(name=a.name, data=np.zeros(7, dtype=a.data.dtype)) for a in chunk.arrays]
        session.add(later)
        key = evaluation.id
    with database.read() as session:
        data = queries.row_data(session, [key])[key]
    assert data.arrays["prediction"].shape == (12,)
    assert data.samples["prediction"].tolist() == list(range(12))
    assert data.detail.forward_passes == 12 + 7
    assert data.detail.seconds == pytest.approx(0.02 * 12 + 1.5)


def test_boards_and_ledgers_of_one_database_agree(database: Database, made: synthetic.Board) -> None:
    board = only_board(database)
    with database.read() as session:
        for row in board.rows:
            data = queries.row_data(session, [e.id for e in row.done])
            for norm in synthetic.NORMS:
                own = np.minimum.reduce(
                    [d.arrays[f"distance_{norm}"] for d in data.values() if f"distance_{norm}" in d.arrays]
                )
                found = ledger(
                    session, model_id=row.model.id, dataset_id=board.dataset.id, norm=norm, n=board.n
                ).distances
                assert np.array_equal(own, found)


def test_an_unknown_board_is_named_with_those_there_are(database: Database, made: synthetic.Board) -> None:
    with (
        database.read() as session,
        pytest.raises(DatabaseError, match=r"no board called 'mnist'.*synthetic-12-standard"),
    ):
        queries.board_named(session, "mnist")


def test_the_overview_counts(database: Database, made: synthetic.Board) -> None:
    with database.read() as session:
        found = queries.overview(session)
        assert found.models == 3
        assert found.evaluations[State.DONE] == sum(len(row.done) for row in queries.boards(session)[0].rows)
        assert [m.slug for m in queries.find_models(session)] == sorted(made.models)
        assert [d.name for d in queries.datasets(session)] == ["synthetic"]
        assert {"images", "labels", "nearest_l2"} <= set(queries.dataset_arrays(session, made.dataset_id))
        assert queries.dataset_array(session, made.dataset_id, "labels") is not None
        assert queries.dataset_array(session, made.dataset_id, "nothing") is None
