"""A database on a server: copied whole, read by the server's clock, and outliving a restart of the server."""

from __future__ import annotations

import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import synthetic
from sqlalchemy import func, make_url, select
from sqlalchemy.exc import OperationalError

from benchmark.board.ledger import ledger
from benchmark.cli import run
from db import schema
from db.copy import copy_database
from db.errors import DatabaseError, GoneError, UnavailableError
from db.migrate import upgrade
from db.schema import Base
from db.session import Database, server_time, translated

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def filled(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'filled.db'}")
    upgrade(database)
    synthetic.populate(database, models=2, n=20, exact=4)
    return database


def everything(database: Database) -> dict[str, list[tuple]]:
    found = {}
    with database.read() as session:
        for table in Base.metadata.sorted_tables:
            rows = session.execute(select(table).order_by(*table.primary_key.columns)).all()
            found[table.name] = [tuple(_plain(value) for value in row) for row in rows]
    return found


def _plain(value):
    return (value.dtype.str, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def test_a_database_is_copied_whole_to_the_other_kind_and_back(filled, database, tmp_path):
    counts = copy_database(filled, database)
    assert counts["arrays"] > 0
    assert everything(database) == everything(filled)
    back = Database(f"sqlite:///{tmp_path / 'back.db'}")
    upgrade(back)
    copy_database(database, back)
    assert everything(back) == everything(filled)


def test_new_rows_are_numbered_after_the_copied_ones(filled, database):
    copy_database(filled, database)
    with database.write() as session:
        before = session.scalar(select(func.max(schema.Model.id)))
        session.add(schema.Model(slug="new", digest="0" * 64, title="New", card={}, added_at=NOW))
        session.flush()
        assert session.scalar(select(func.max(schema.Model.id))) == before + 1


def test_a_ledger_is_the_same_in_the_copy(filled, database):
    copy_database(filled, database)
    ledgers = []
    for one in (filled, database):
        with one.read() as session:
            ledgers.append(ledger(session, model_id=1, dataset_id=1, norm="l2", n=20))
    np.testing.assert_array_equal(ledgers[0].distances, ledgers[1].distances)


def test_a_target_with_rows_is_left_alone(filled, tmp_path):
    target = Database(f"sqlite:///{tmp_path / 'target.db'}")
    upgrade(target)
    synthetic.populate(target, models=1, n=10, exact=0)
    before = everything(target)
    with pytest.raises(DatabaseError, match="holds rows already"):
        copy_database(filled, target)
    assert everything(target) == before


def test_a_copy_that_fails_half_way_leaves_nothing(filled, database):
    class StopError(Exception):
        pass

    def stop(name, _rows):
        if name == "chunks":
            raise StopError

    with pytest.raises(StopError):
        copy_database(filled, database, report=stop)
    assert all(rows == [] for rows in everything(database).values())


def test_evaluators_at_work_are_not_copied_away_from(filled, database):
    with filled.write() as session:
        evaluation = session.scalars(select(schema.Evaluation)).first()
        evaluation.state = schema.State.RUNNING
    with pytest.raises(DatabaseError, match="1 evaluations are running"):
        copy_database(filled, database)


def test_a_database_is_not_copied_onto_itself(filled):
    with pytest.raises(DatabaseError, match="onto itself"):
        copy_database(filled, Database(filled.url))


def test_the_command_copies_the_workspace(workspace, tmp_path, capsys):
    database = Database(workspace.database_url)
    synthetic.populate(database, models=1, n=10, exact=0)
    target = f"sqlite:///{tmp_path / 'copy.db'}"
    assert run(["db", "copy", target, "--workspace", str(workspace.root)]) == 0
    assert "rows are now in" in capsys.readouterr().out
    assert everything(Database(target)) == everything(database)
    assert run(["db", "copy", target, "--workspace", str(workspace.root)]) == 1
    error = capsys.readouterr().err
    assert "holds rows already" in error
    assert "Traceback" not in error


def test_the_servers_clock_is_asked(database):
    with database.read() as session:
        assert abs(server_time(session) - time.time()) < 5


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_a_transaction_outlives_a_restart_of_the_server(server, mode):
    database = Database(server.create())
    upgrade(database)
    calls = []

    def work(session):
        calls.append(len(calls))
        session.add(schema.Model(slug="new", digest="0" * 64, title="New", card={}, added_at=NOW))
        session.flush()
        if len(calls) == 1:
            server.stop(mode)
            server.start_after(1.0)
        session.scalar(select(func.count()).select_from(schema.Model))
        return "done"

    assert database.transact(work, patience=60) == "done"
    assert len(calls) >= 2
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(schema.Model)) == 1


@pytest.mark.postgresql
def test_a_server_that_stays_away_is_said(server):
    database = Database(server.create())
    server.stop()
    try:
        with pytest.raises(GoneError, match="cannot be used"):
            database.transact(lambda session: session.scalar(select(1)), patience=0.5)
    finally:
        server.start()


@pytest.mark.postgresql
def test_everything_that_a_server_says_on_its_way_is_waited_for(server):
    words = re.findall(rb"the database system is [a-z ]+", (server.programs / "postgres").read_bytes())
    assert len(set(words)) >= 4
    for said in sorted(set(words)):
        assert refused(f"connection to server failed: FATAL:  {said.decode()}") is GoneError, said


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("connection to server at 10.0.0.1 failed: Connection refused", GoneError),
        ("connection failed: FATAL:  sorry, too many clients already", GoneError),
        ("connection timeout expired", GoneError),
        ('FATAL:  password authentication failed for user "ann"', UnavailableError),
        ('FATAL:  database "board" does not exist', UnavailableError),
    ],
)
def test_only_what_may_pass_is_waited_for(said, kind):
    assert refused(said) is kind


def refused(said: str) -> type[Exception]:
    """What becomes of a driver's refusal to connect."""
    with pytest.raises(UnavailableError) as caught, translated(make_url("postgresql+psycopg://ann@here/board")):
        raise OperationalError("connect", {}, Exception(said))
    return caught.type


@pytest.mark.postgresql
def test_of_two_that_wait_for_each_other_both_end(server):
    database = Database(server.create())
    upgrade(database)
    with database.write() as session:
        session.add_all(schema.Model(slug=s, digest=s * 64, title=s, card={}, added_at=NOW) for s in "ab")
    both_hold_one = threading.Barrier(2, timeout=30)
    tries: list[str] = []

    def rename(first: str, second: str) -> None:
        def work(session):
            for k, slug in enumerate((first, second)):
                row = session.scalars(select(schema.Model).where(schema.Model.slug == slug).with_for_update()).one()
                row.title += first
                session.flush()
                if k == 0 and tries.count(first) == 0:
                    tries.append(first)
                    both_hold_one.wait()

        database.transact(work)

    threads = [threading.Thread(target=rename, args=pair) for pair in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        assert {model.slug: sorted(model.title[1:]) for model in session.scalars(select(schema.Model))} == {
            "a": ["a", "b"],
            "b": ["a", "b"],
        }


def test_what_waiting_cannot_mend_is_not_waited_for(tmp_path):
    begin = time.monotonic()
    with pytest.raises(UnavailableError):
        Database(f"sqlite:///{tmp_path / 'no' / 'x.db'}").transact(lambda session: session.scalar(select(1)))
    assert time.monotonic() - begin < 5
