"""Jobs whose chunks others measure: driven by hand, so that each answer comes, or fails to come, when the test says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from test_evaluate import Fake, contents, evaluate, fake, rows  # noqa: F401 - a fixture

from benchmark.errors import EvidenceError
from benchmark.jobs import executors
from benchmark.jobs.coordinator import Coordinator, Hand, Piece
from benchmark.jobs.ended import verdict
from benchmark.jobs.lease import MOST_ATTEMPTS, Again, Owner, claim
from benchmark.jobs.measuring import Measuring, Subject
from benchmark.jobs.provenance import provenance
from benchmark.measures import Needs
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Evaluation, State
from db.session import Database

CLEAN = 1
"""Chunks of the job that is not the fake's: eight samples, measured at once."""


class ByHand:
    """An executor whose course of events is a function of its coordinator."""

    name = "by-hand"
    title = "For tests"

    def __init__(self) -> None:
        self.course: Callable[[Coordinator], None] = to_the_end
        self.setting: executors.Setting

    def run(self, jobs, setting, report):
        self.setting = setting
        with Coordinator(jobs, setting, report) as coordinator:
            self.course(coordinator)
        return {number: coordinator.states.get(number, "stopped") for _, number in jobs}


def hand(**ran_on: str) -> Hand:
    return Hand(provenance("cpu") | ran_on)


def measured(coordinator: Coordinator, piece: Piece):
    """What a worker answers."""
    try:
        measuring = Measuring(piece.job, Subject.of(piece.job, coordinator.bench), coordinator.bench)
        return list(measuring.measured(piece.start, piece.stop, piece.known))
    except Exception as error:
        return verdict(error)


def to_the_end(coordinator: Coordinator, hands: int = 2) -> None:
    """So many workers, whose answers come in the order opposite to that in which they were asked."""
    workers = [hand() for _ in range(hands)]
    while True:
        asked = [(worker, piece) for worker in workers if (piece := coordinator.next(worker))]
        if not asked:
            break
        for worker, piece in reversed(asked):
            coordinator.take(piece, measured(coordinator, piece), worker)
    assert coordinator.is_over


def pieces(coordinator: Coordinator, worker: Hand) -> Iterator[Piece]:
    while piece := coordinator.next(worker):
        yield piece


@pytest.fixture
def expected(fake, workspace, tmp_path):  # noqa: F811
    """What one process finds, on a board of its own."""
    alone = Workspace.create(tmp_path / "alone")
    upgrade(Database(alone.database_url))
    shutil.copytree(workspace.protocols, alone.protocols, dirs_exist_ok=True)
    assert evaluate(alone) == 0
    Fake.calls.clear()
    return contents(alone)


@pytest.fixture
def by_hand(monkeypatch) -> ByHand:
    made = ByHand()
    monkeypatch.setattr(executors, "executors", lambda: {"by-hand": made})
    return made


@pytest.mark.parametrize("hands", [1, 2, 3, 7])
def test_any_number_of_workers_ends_in_the_bytes_of_one_process(expected, by_hand, workspace, hands):
    by_hand.course = lambda coordinator: to_the_end(coordinator, hands)
    assert evaluate(workspace, "--on", "by-hand") == 0
    assert contents(workspace) == expected
    assert sorted(Fake.calls) == sorted([0, 3, 6] * 2)  # each chunk of the two jobs once


def test_a_worker_without_a_job_of_its_own_helps_with_the_one_that_has_most_left(fake, by_hand, workspace):  # noqa: F811
    seen = []

    def course(coordinator):
        one, two = hand(), hand()
        begun = [next(pieces(coordinator, worker)) for worker in (one, one, two)]
        assert begun[0].job.measure == "clean"
        helped = list(pieces(coordinator, two))  # its own job first, then what the other has left
        seen.extend((piece.job, piece.start) for piece in helped)
        assert helped[0].running is helped[1].running is begun[2].running
        assert {piece.running for piece in helped[2:]} == {begun[1].running}
        assert coordinator.next(one) is None
        for piece in (*begun, *helped):
            coordinator.take(piece, measured(coordinator, piece), two)

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 0
    assert len(seen) == 4


def test_a_chunk_whose_worker_died_is_measured_again_and_no_other(expected, by_hand, workspace):
    def course(coordinator):
        worker = hand()
        clean, lost = coordinator.next(worker), coordinator.next(worker)
        coordinator.take(clean, measured(coordinator, clean), worker)
        measured(coordinator, lost)  # its worker dies before it can answer
        coordinator.back(lost, died=True)
        to_the_end(coordinator)

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 0
    assert contents(workspace) == expected
    assert sorted(Fake.calls) == sorted([0, *[0, 3, 6] * 2])


def test_a_chunk_over_which_workers_keep_dying_fails_its_job_and_the_others_end(fake, by_hand, workspace):  # noqa: F811
    def course(coordinator):
        worker = hand()
        while piece := coordinator.next(worker):
            if piece.job.parameters.get("norm") == "linf" and piece.start == 3:
                coordinator.back(piece, died=True)
                worker, kept = hand(), piece
            else:
                coordinator.take(piece, measured(coordinator, piece), worker)
        assert kept.deaths == MOST_ATTEMPTS
        assert coordinator.is_over

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 3
    clean, failed, other = rows(workspace)
    assert (clean.state, failed.state, other.state) == (State.DONE, State.FAILED, State.DONE)
    assert f"{MOST_ATTEMPTS} evaluators in a row died over it" in failed.reason
    by_hand.course = to_the_end
    assert evaluate(workspace, "--on", "by-hand", "--rerun", "failed") == 0
    assert Fake.calls.count(0) == 2  # what the failed job had committed was kept


def test_a_machine_that_cannot_work_does_not_count_as_a_death(expected, by_hand, workspace):
    def course(coordinator):
        for _ in range(2 * MOST_ATTEMPTS):
            coordinator.back(coordinator.next(hand()), died=False)
        to_the_end(coordinator)

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 0
    assert contents(workspace) == expected


def test_interrupted_it_commits_what_comes_back_and_leaves_the_rest_to_the_next_run(expected, by_hand, workspace):
    def course(coordinator):
        one, two = hand(), hand()
        asked = [(worker, coordinator.next(worker)) for worker in (one, two, hand())]
        coordinator.stop()
        assert coordinator.next(one) is None
        assert not coordinator.is_over  # three are at work
        for worker, piece in asked:
            coordinator.take(piece, measured(coordinator, piece), worker)
        assert coordinator.is_over

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 130
    assert [(row.state, len(row.chunks), row.owner) for row in rows(workspace)] == [
        (State.DONE, CLEAN, None),
        (State.QUEUED, 1, None),
        (State.QUEUED, 1, None),
    ]
    by_hand.course = to_the_end
    assert evaluate(workspace, "--on", "by-hand") == 0
    assert contents(workspace) == expected
    assert sorted(Fake.calls) == sorted([0, 3, 6] * 2)


def test_a_job_that_fails_takes_no_more_answers_and_the_others_go_on(fake, by_hand, workspace, monkeypatch):  # noqa: F811
    def fail(task):
        if task.first == 3:
            raise ValueError("says the test")

    def course(coordinator):
        one, two = hand(), hand()
        first, second, third = (coordinator.next(one) for _ in range(3))
        coordinator.take(first, measured(coordinator, first), one)
        late = measured(coordinator, second)
        coordinator.take(third, measured(coordinator, third), one)  # fails
        coordinator.take(second, late, one)
        assert second.running is third.running
        to_the_end(coordinator)
        assert coordinator.next(two) is None

    monkeypatch.setattr(Fake, "behave", staticmethod(fail))
    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 3
    clean, *others = rows(workspace)
    assert clean.state == State.DONE
    assert {row.state for row in others} == {State.FAILED}
    assert all("ValueError: says the test (test_coordinator.py" in row.reason for row in others)
    assert not others[0].chunks


def test_a_job_that_somebody_has_taken_over_is_left_to_them(fake, by_hand, workspace):  # noqa: F811
    def course(coordinator):
        worker = hand()
        clean, piece = coordinator.next(worker), coordinator.next(worker)
        coordinator.take(clean, measured(coordinator, clean), worker)
        with coordinator.database.write() as session:
            session.get_one(Evaluation, piece.running.attempt.evaluation_id).owner = "somebody"
        coordinator.take(piece, measured(coordinator, piece), worker)
        assert not piece.running.pieces
        to_the_end(coordinator)

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 0
    _, taken, other = rows(workspace)
    assert (taken.state, taken.owner, taken.chunks) == (State.RUNNING, "somebody", [])
    assert other.state == State.DONE


def test_two_coordinators_share_the_jobs_and_do_nothing_twice(expected, by_hand, workspace):
    def course(coordinator):
        worker = hand()
        piece = coordinator.next(worker)
        assert piece.job.measure == "clean"
        by_hand.course = to_the_end
        assert evaluate(workspace, "--on", "by-hand") == 0  # another one, amid this one
        coordinator.take(piece, measured(coordinator, piece), worker)
        assert coordinator.next(worker) is None
        assert sorted(coordinator.states.values()) == ["done", "taken", "taken"]

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 0
    assert contents(workspace) == expected
    assert sorted(Fake.calls) == sorted([0, 3, 6] * 2)


def test_what_it_had_claimed_is_free_at_once_when_it_ends_with_an_error(fake, by_hand, workspace, capsys):  # noqa: F811
    def course(coordinator):
        assert coordinator.next(hand())
        assert coordinator.next(hand())
        raise EvidenceError("says the test")

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 1
    assert "says the test" in capsys.readouterr().err
    database = Database(workspace.database_url)
    with Owner(workspace.locks) as other:
        assert all(claim(database, row.id, other.name, workspace.locks, Again()) for row in rows(workspace))


def test_what_other_hardware_has_measured_is_told(fake, by_hand, workspace):  # noqa: F811
    def course(coordinator):
        one, two = hand(), hand(processor="Another")
        for worker in (one, two, two, one):
            piece = coordinator.next(Hand(worker.ran_on, one.last))
            one.last = piece.running
            coordinator.take(piece, measured(coordinator, piece), worker)
        to_the_end(coordinator)

    by_hand.course = course
    assert evaluate(workspace, "--on", "by-hand") == 0
    clean, mixed, pure = rows(workspace)
    assert "also" not in clean.provenance | pure.provenance
    assert mixed.provenance["also"] == [{"processor": provenance("cpu")["processor"]}]
    assert mixed.provenance["processor"] == "Another"


def test_what_is_known_of_a_chunk_is_handed_out_with_it_however_memory_cuts_it(fake, by_hand, workspace, monkeypatch):  # noqa: F811
    seen = {}

    def look(task):
        if task.distances:
            if len(task.x) > 2:
                raise MemoryError
            seen[task.first] = task.distances["linf"].tolist()

    monkeypatch.setattr(Fake, "needs", lambda self, parameters: Needs(ledger=parameters.norm == "l2"))
    monkeypatch.setattr(Fake, "behave", staticmethod(look))
    by_hand.course = lambda coordinator: to_the_end(coordinator, hands=1)
    assert evaluate(workspace, "--on", "by-hand") == 0
    _, first, second = rows(workspace)
    known = [value for chunk in first.chunks for a in chunk.arrays if a.name == "distance_linf" for value in a.data]
    assert sorted(seen) == [chunk.start for chunk in second.chunks] == [0, 1, 3, 4, 6]
    assert [value for start in sorted(seen) for value in seen[start]] == known
