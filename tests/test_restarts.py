"""A run whose database server is stopped amid it ends with the ledger of an undisturbed one."""

from __future__ import annotations

import itertools
import time

import boards
import pytest
from sqlalchemy import func, select, update

from benchmark.jobs import lease
from benchmark.jobs.lease import MOST_ATTEMPTS, Again, DeadlyError, claim
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Change, Chunk, Evaluation, State
from db.session import Database


def key(row: Chunk) -> tuple:
    return row.evaluation.key, row.start, row.stop, row.evidence_digest


def chunks(workspace: Workspace) -> list[tuple]:
    """Every chunk with its arrays and its evidence, whatever its row's number."""
    with Database(workspace.database_url).read() as session:
        rows = session.scalars(select(Chunk).join(Evaluation).order_by(Evaluation.key, Chunk.start))
        return [(*key(row), *((array.name, array.data.tobytes()) for array in row.arrays)) for row in rows]


def changes(workspace: Workspace) -> int:
    with Database(workspace.database_url).read() as session:
        return session.scalar(select(func.count()).select_from(Change))


@pytest.mark.postgresql
def test_a_run_outlives_restarts_of_the_server_and_ends_in_the_same_bytes(server, made_board, tmp_path, monkeypatch):
    workspace = Workspace.create(tmp_path / "board", database_url=server.create())
    upgrade(Database(workspace.database_url))
    boards.protocol(workspace, "far")
    measured, calls, stops = boards.Line.run, itertools.count(), []

    def run_and_disturb(self, task, parameters):
        if next(calls) in {2, 7}:  # amid an evaluation, then amid another model's
            server.stop("immediate")
            server.start_after(1.5)
            stops.append(time.monotonic())
        return measured(self, task, parameters)

    monkeypatch.setattr(boards.Line, "run", run_and_disturb)
    assert boards.evaluate(workspace) == 0
    assert len(stops) == 2
    assert boards.all_distances(workspace) == boards.all_distances(made_board)
    assert chunks(workspace) == chunks(made_board)
    assert changes(workspace) == changes(made_board)


@pytest.mark.postgresql
def test_commits_whose_answers_are_lost_are_not_done_twice(server, made_board, tmp_path, monkeypatch):
    """The hardest moment: the server has the commit, and dies before it can say so."""
    workspace = Workspace.create(tmp_path / "board", database_url=server.create())
    upgrade(Database(workspace.database_url))
    boards.protocol(workspace, "far")
    transact, calls = Database.transact, itertools.count()

    def twice(self, work, **options):
        next(calls)
        transact(self, work, **options)
        return transact(self, work, **options)

    monkeypatch.setattr(Database, "transact", twice)
    assert boards.evaluate(workspace) == 0
    assert next(calls) > 12
    assert chunks(workspace) == chunks(made_board)
    assert changes(workspace) == changes(made_board)


# Claims ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def queued(workspace: Workspace) -> tuple[Database, int]:
    """A database, and an evaluation that is queued."""
    boards.build(workspace)
    database = Database(workspace.database_url)
    with database.write() as session:
        number = session.scalars(select(Evaluation.id)).first()
        session.execute(update(Evaluation).values(state=State.QUEUED))
    return database, number


def running(database: Database, number: int, owner: str, until: float) -> None:
    with database.write() as session:
        session.execute(
            update(Evaluation)
            .where(Evaluation.id == number)
            .values(state=State.RUNNING, owner=owner, lease_until=until, attempts=1)
        )


def test_leases_run_by_the_servers_clock(queued, tmp_path, monkeypatch):
    database, number = queued
    with database.read() as session:
        now = lease.server_time(session)
    monkeypatch.setattr(lease.time, "time", lambda: now + 3600)  # this machine's clock is an hour ahead
    if database.engine.dialect.name == "sqlite":
        pytest.skip("a SQLite file has no server")
    running(database, number, "elsewhere", now + 30)
    assert not claim(database, number, "me", tmp_path, Again())
    running(database, number, "elsewhere", now - 1)
    assert claim(database, number, "me", tmp_path, Again())


def test_a_claim_does_not_wait_for_one_who_is_changing_the_row(queued, tmp_path):
    database, number = queued
    if database.engine.dialect.name == "sqlite":
        pytest.skip("on SQLite a writer is alone")
    with database.write() as session:
        session.get_one(Evaluation, number, with_for_update=True)
        begin = time.monotonic()
        assert not claim(Database(database.url), number, "me", tmp_path, Again())
        assert time.monotonic() - begin < 2
    assert claim(database, number, "me", tmp_path, Again())


def test_a_claim_made_twice_is_one(queued, tmp_path):
    database, number = queued
    assert claim(database, number, "me", tmp_path, Again())
    assert claim(database, number, "me", tmp_path, Again())
    assert not claim(database, number, "you", tmp_path, Again())  # my lease has not run out
    with database.read() as session:
        assert session.get_one(Evaluation, number).attempts == 1


def expire(database: Database, number: int) -> None:
    with database.write() as session:
        session.get_one(Evaluation, number).lease_until = 0.0


def test_too_many_deaths_are_told_to_each_who_asks(queued, tmp_path):
    database, number = queued
    for k in range(MOST_ATTEMPTS):
        assert claim(database, number, f"dead{k}", tmp_path, Again())
        expire(database, number)
    for _ in range(2):
        with pytest.raises(DeadlyError):
            claim(database, number, "me", tmp_path, Again())
