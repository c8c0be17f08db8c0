"""The database: migrations, sessions, arrays and the ledger, on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import select, text

from benchmark.board.ledger import ledger
from db import migrate, schema
from db.errors import DatabaseError, RevisionError, UnavailableError
from db.session import HEAD, Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_head_is_the_newest_migration():
    assert migrate.head() == HEAD


def test_migrating_an_empty_database_gives_the_schema(empty_database):
    assert empty_database.revision() is None
    migrate.upgrade(empty_database)
    assert empty_database.revision() == HEAD
    assert migrate.differences(empty_database) == []


def test_a_missing_column_is_found(database):
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE scores DROP COLUMN unit"))
    assert any("unit" in str(difference) for difference in migrate.differences(database))


def test_upgrading_twice_changes_nothing(database):
    migrate.upgrade(database)
    assert migrate.differences(database) == []


def test_an_empty_or_missing_database_is_refused_with_what_to_do(empty_database):
    with pytest.raises(RevisionError, match=r"(is empty|There is no database).*curveboard db upgrade"):
        empty_database.require_head()


def test_a_newer_database_is_refused(database):
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(RevisionError, match=r"9999, which is newer than this program's"):
        database.require_head()


def test_a_url_that_is_none_is_refused():
    with pytest.raises(DatabaseError, match="cannot be used"):
        Database("not a url")


def test_a_database_in_a_missing_folder_cannot_be_opened(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'no' / 'folder.db'}")
    with pytest.raises(RevisionError, match="There is no database"):
        database.require_head()
    with pytest.raises(UnavailableError, match="cannot be made"):
        migrate.upgrade(database)


def test_sqlite_is_in_wal_mode_and_holds_foreign_keys(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'test.db'}")
    migrate.upgrade(database)
    with database.read() as session:
        assert session.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert session.execute(text("PRAGMA foreign_keys")).scalar() == 1


@pytest.mark.parametrize(
    "array",
    [
        np.array([0.0, np.inf, 0.1 + 0.2]),
        np.zeros((0, 3), np.float32),
        np.array([b"fab", b"shrinking"]),
        np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::-1],
    ],
)
def test_arrays_come_back_bit_for_bit(database, array):
    with database.write() as session:
        data = _evaluation(session, measure="clean")
        data.chunks.append(_chunk(0, extra=array))
    with database.read() as session:
        back = session.scalars(select(schema.Array).where(schema.Array.name == "extra")).one().data
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_an_array_of_objects_is_refused(database):
    with pytest.raises(DatabaseError), database.write() as session:
        _evaluation(session, measure="clean").chunks.append(_chunk(0, extra=np.array([{}, None])))


def test_times_come_back_in_utc_and_naive_ones_are_refused(database):
    with database.write() as session:
        _evaluation(session, measure="clean")
    with database.read() as session:
        assert session.scalars(select(schema.Evaluation.finished_at)).one() == NOW
    with pytest.raises(DatabaseError, match="naive"), database.write() as session:
        session.scalars(select(schema.Model)).one().added_at = datetime(2026, 1, 1)


def test_a_failed_transaction_leaves_nothing(database):
    with pytest.raises(ZeroDivisionError), database.write() as session:
        _evaluation(session, measure="clean")
        session.flush()
        raise ZeroDivisionError
    with database.read() as session:
        assert session.scalars(select(schema.Evaluation)).all() == []


def test_the_ledger_is_the_minimum_of_all_finished_evaluations(database):
    with database.write() as session:
        first = _evaluation(session, key="a", finished=NOW)
        first.chunks += [
            _chunk(0, distance_l2=np.array([0.0, 2.0, np.inf])),
            _chunk(3, distance_l2=np.array([1.0, 4.0])),
        ]
        second = _evaluation(session, key="b", finished=NOW + timedelta(days=1))
        second.chunks += [_chunk(0, distance_l2=np.array([0.0, 1.5, 9.0, 1.0]))]
        running = _evaluation(session, key="c", state=schema.State.RUNNING, finished=None)
        running.chunks += [_chunk(0, distance_l2=np.array([0.1, 0.1, 0.1]))]
        session.flush()
        ids = first.id, second.id
        where = {"model_id": first.model_id, "dataset_id": first.dataset_id, "norm": "l2"}
    with database.read() as session:
        result = ledger(session, n=6, **where)
        assert result.distances.tolist() == [0.0, 1.5, 9.0, 1.0, 4.0, np.inf]
        assert result.source.tolist() == [ids[0], ids[1], ids[1], ids[0], ids[0], -1]
        assert result.covered.tolist() == [True] * 5 + [False]
        assert ledger(session, n=2, as_of=NOW, **where).distances.tolist() == [0.0, 2.0]
        without = ledger(session, n=3, without=frozenset({ids[0]}), **where)
        assert without.distances.tolist() == [0.0, 1.5, 9.0]


def _evaluation(session, *, key="k", measure="curve", state=schema.State.DONE, finished=NOW):
    model = session.scalar(select(schema.Model)) or schema.Model(slug="m", digest="d", title="M", card={}, added_at=NOW)
    dataset = session.scalar(select(schema.Dataset)) or schema.Dataset(
        name="digits", digest="d", title="D", size=9, card={}, added_at=NOW
    )
    row = schema.Evaluation(
        key=key,
        model=model,
        dataset=dataset,
        n=6,
        samples=6,
        measure=measure,
        version=1000,
        parameters={"norm": "l2"},
        norm="l2",
        seed=0,
        state=state,
        created_at=NOW,
        finished_at=finished,
    )
    session.add(row)
    return row


def _chunk(start, **arrays):
    n = len(next(iter(arrays.values())))
    return schema.Chunk(
        start=start,
        stop=start + n,
        seconds=1.0,
        forward_passes=1,
        backward_passes=1,
        arrays=[schema.Array(name=name, data=data) for name, data in arrays.items()],
    )
