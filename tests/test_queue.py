"""What an evaluator takes next: the first job that is free, without asking for those that others have."""

from __future__ import annotations

import threading

import boards
import pytest
from sqlalchemy import select, update

from benchmark.board.record import release
from benchmark.jobs.lease import Again, Owner, claim, owned
from benchmark.jobs.queue import LOOK, Queue
from benchmark.jobs.setting import Setting
from benchmark.workspace import Workspace
from db.schema import Evaluation, State
from db.session import Database
from perf.leases import JOB, fill


@pytest.fixture
def database(workspace: Workspace) -> Database:
    return Database(workspace.database_url)


@pytest.fixture
def setting(workspace: Workspace) -> Setting:
    return Setting(workspace.database_url, workspace.artifacts, workspace.models, workspace.locks)


def finish(database: Database, number: int, owner: str) -> None:
    with database.write() as session:
        release(owned(session, number, owner), State.DONE)


def drained(database: Database, ids: list[int], setting: Setting, owner: str) -> tuple[list[int], int]:
    """What one evaluator does with a run's jobs: those that it did, and how many claims it asked."""
    queue, did, asked, ours = Queue(database, [(JOB, number) for number in ids], setting), [], 0, True
    while one := queue.next(lost=not ours):
        asked += 1
        ours = claim(database, one[1], owner, setting.locks, setting.again)
        if ours:
            did.append(one[1])
            finish(database, one[1], owner)
    return did, asked


def test_free_jobs_come_in_order_and_others_are_told_of(database, setting, tmp_path):
    ids = fill(database, LOOK + 50, 10)
    with database.write() as session:
        session.execute(update(Evaluation).where(Evaluation.id.in_(ids[3 : LOOK + 20])).values(state=State.DONE))
    taken = []
    queue = Queue(database, [(JOB, i) for i in ids], setting, lambda job, number: taken.append(number))
    found = [one[1] for one in iter(queue.next, None)]
    assert found == ids[:3] + ids[LOOK + 20 :]
    assert taken == ids[3 : LOOK + 20]


def test_a_living_evaluators_job_is_passed_over_and_a_dead_ones_is_not(database, setting):
    ids = fill(database, 3, 10)
    with Owner(setting.locks) as living:
        with pytest.raises(KeyError), Owner(setting.locks) as dead:
            assert claim(database, ids[0], living.name, setting.locks, Again())
            assert claim(database, ids[1], dead.name, setting.locks, Again())
            raise KeyError
        assert drained(database, ids, setting, "me")[0] == ids[1:]


def test_many_evaluators_ask_for_hardly_more_jobs_than_there_are(database, setting):
    """Before there was a queue each asked for each: 12 × 60 claims."""
    ids = fill(database, 60, 10)
    results = []

    def evaluate(name: str) -> None:
        results.append(drained(Database(database.url), ids, setting, name))

    threads = [threading.Thread(target=evaluate, args=(f"evaluator-{k}",)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for did, _ in results for number in did) == ids  # each once
    assert sum(asked for _, asked in results) <= 4 * len(ids)


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.UNSUPPORTED])
def test_what_an_evaluator_of_the_same_run_has_ended_is_not_run_again(database, setting, state):
    """An array of evaluators is asked to run everything again: each job once, not once an evaluator."""
    ids = fill(database, 2, 10)
    with database.write() as session:
        session.execute(update(Evaluation).values(state=state))
    for run, expected in (("first", ids), ("second", ids)):
        again = Again("all", run)
        for owner in ("one", "two"):
            own = [number for number in ids if claim(database, number, owner, setting.locks, again)]
            assert own == (expected if owner == "one" else [])
            for number in own:
                with database.write() as session:
                    release(owned(session, number, owner), state)


def test_evaluate_again_runs_each_job_once_with_two_workers(workspace):
    boards.build(workspace)
    database = Database(workspace.database_url)
    with database.read() as session:
        before = dict(session.execute(select(Evaluation.id, Evaluation.provenance)).all())
    with boards.line_registered():
        boards.run(["evaluate", "-w", str(workspace.root), "--protocol", "lines", "--limit", "20", "--rerun", "all",
                    *[option for slug in boards.MODELS for option in ("-m", slug)]])  # fmt: skip
    with database.read() as session:
        after = dict(session.execute(select(Evaluation.id, Evaluation.provenance)).all())
    assert len({provenance["run"] for provenance in after.values()}) == 1
    assert all(after[number]["run"] != before[number]["run"] for number in before)
