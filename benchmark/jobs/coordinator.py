"""Jobs whose chunks others measure: claimed, committed and ended by this process, the only one that writes their rows.

So a worker needs no database, and whatever happens to it (killed, cut off, given out for lost while it still works)
leaves no trace but a chunk that is handed out again. This process is one evaluator among others: if it dies, the next
one takes over its jobs as they were committed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from benchmark.board.job import Job
from benchmark.board.record import ChunkResult
from benchmark.jobs.attempt import Attempt
from benchmark.jobs.ended import Ended
from benchmark.jobs.lease import DEADLY, MOST_ATTEMPTS, DeadlyError, Owner, claim, kept_alive
from benchmark.jobs.measuring import Known
from benchmark.jobs.queue import Queue
from benchmark.jobs.setting import Progress, Report, Setting
from benchmark.jobs.workbench import Workbench
from db.errors import DatabaseError
from db.schema import State
from db.session import Database


@dataclass(eq=False)
class Piece:
    """Samples of a job that are measured together.

    Attributes:
        running: The job.
        start: The first sample.
        stop: One past the last.
        known: What is known of their distances, if the measure needs it.
        deaths: Workers that have died over them.
    """

    running: Running
    start: int
    stop: int
    known: Known = field(default_factory=dict)
    deaths: int = 0

    @property
    def job(self) -> Job:
        """The job."""
        return self.running.attempt.job


@dataclass(eq=False)
class Running:
    """A job that this process has claimed.

    Attributes:
        attempt: The attempt at it.
        pieces: What is to be handed out.
    """

    attempt: Attempt
    pieces: deque[Piece] = field(default_factory=deque)


@dataclass(eq=False)
class Hand:
    """A worker as the coordinator sees it.

    Attributes:
        ran_on: Its provenance.
        last: The job of its last piece; that job's model it has loaded.
    """

    ran_on: Mapping[str, Any]
    last: Running | None = None


class Coordinator:
    """Hands out the chunks of jobs, and commits what comes back.

    Args:
        jobs: The jobs with the ids of their evaluations, in the order in which they are to begin.
        setting: Where and how.
        report: Receives what happens.

    Attributes:
        states: Id of each evaluation that has ended -> how, as in `Progress`.
        out: Pieces that are being measured.
    """

    def __init__(self, jobs: Sequence[tuple[Job, int]], setting: Setting, report: Report) -> None:
        self.setting, self.report = setting, report
        self.database, self.bench = Database(setting.database_url), Workbench(setting)
        self.states: dict[int, str] = {}
        self.out: set[Piece] = set()
        self._running: dict[int, Running] = {}
        self._stop = threading.Event()
        self._lost = self._claimed_all = False
        self._queue = Queue(self.database, jobs, setting, self._taken)
        self._cleanup = ExitStack()

    def __enter__(self) -> Coordinator:
        self._owner = self._cleanup.enter_context(Owner(self.setting.locks)).name
        self._cleanup.enter_context(kept_alive(self.database, self._owner))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            for running in list(self._running.values()):
                if error is None:
                    self._end(running, running.attempt.stop())
                else:
                    with suppress(DatabaseError):  # if the database is what failed, the leases run out
                        running.attempt.release(State.QUEUED, patience=0.0)
        finally:
            self._cleanup.__exit__(kind, error, tb)

    def stop(self) -> None:
        """Hand out nothing more; what is being measured is still committed."""
        self._stop.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing is being measured, and nothing is left to hand out."""
        left = not self._claimed_all or any(running.pieces for running in self._running.values())
        return not self.out and (self._stop.is_set() or not left)

    def next(self, hand: Hand) -> Piece | None:
        """What a worker is to measure next; None if there is nothing for it at this moment.

        It stays with its job, so that each worker loads few models; when no job is left to begin, it helps with
        another, one of the model that it has loaded if there is one.
        """
        while not self._stop.is_set():
            running = hand.last if hand.last and hand.last.pieces else self._claimed(hand) or self._to_help(hand)
            if running is None:
                break
            hand.last = running
            with self._attempting(running):
                piece = running.pieces.popleft()
                piece.known = running.attempt.known(piece.start, piece.stop)
                self.out.add(piece)
                return piece
        return None

    def take(self, piece: Piece, answer: Sequence[ChunkResult] | Ended, hand: Hand) -> None:
        """Commit what a worker has found, or note how it has failed."""
        self.out.discard(piece)
        running = piece.running
        if running.attempt.evaluation_id not in self._running:
            return  # another of its pieces has failed, or somebody has taken it over
        with self._attempting(running):
            if isinstance(answer, Ended):
                self._end(running, running.attempt.fail(answer))
                return
            for result in answer:
                self.report(running.attempt.commit(result, hand.ran_on))
            if not running.attempt.left:
                self._end(running, running.attempt.finish())

    def back(self, piece: Piece, *, died: bool) -> None:
        """Hand a piece out again: its worker cannot go on, or has died."""
        self.out.discard(piece)
        piece.deaths += died
        if piece.running.attempt.evaluation_id not in self._running:
            return
        if piece.deaths < MOST_ATTEMPTS:
            piece.running.pieces.appendleft(piece)
        else:
            with self._attempting(piece.running):
                self._end(piece.running, piece.running.attempt.fail(Ended("failed", DEADLY)))

    def _claimed(self, hand: Hand) -> Running | None:
        """The next job that is ours, with something to measure."""
        while not self._stop.is_set() and (one := self._queue.next(lost=self._lost)):
            job, number = one
            try:
                ours = claim(self.database, number, self._owner, self.setting.locks, self.setting.again)
            except DeadlyError as error:
                self._tell(job, number, Ended("failed", str(error)))
                continue
            self._lost = not ours
            if not ours:
                self._taken(job, number)
                continue
            again = self.setting.again.rerun == "all"
            attempt = Attempt(self.database, self.bench, job, number, self._owner, take_over=not again)
            self._running[number] = running = Running(attempt)
            with self._attempting(running):
                running.pieces.extend(Piece(running, *piece) for piece in attempt.begin(hand.ran_on))
                if running.pieces:
                    return running
                self._end(running, attempt.finish())
        self._claimed_all = self._claimed_all or not self._stop.is_set()
        return None

    def _to_help(self, hand: Hand) -> Running | None:
        """A job of which there is something to hand out: of a loaded model, and then with the most left, first."""
        model = hand.last and hand.last.attempt.job.model_digest
        open_ = [running for running in self._running.values() if running.pieces]
        return max(open_, key=lambda one: (one.attempt.job.model_digest == model, len(one.pieces)), default=None)

    @contextmanager
    def _attempting(self, running: Running) -> Iterator[None]:
        """What fails inside ends the job; if it was the database or the store, the run."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            self._end(running, running.attempt.give_up(error))

    def _end(self, running: Running, ended: Ended) -> None:
        del self._running[running.attempt.evaluation_id]
        running.pieces.clear()
        self._tell(running.attempt.job, running.attempt.evaluation_id, ended, running.attempt.seconds)

    def _taken(self, job: Job, number: int) -> None:
        self._tell(job, number, Ended("taken"))

    def _tell(self, job: Job, number: int, ended: Ended, seconds: float = 0.0) -> None:
        self.states[number] = ended.state
        self.report(Progress(job, job.samples if ended.state == "done" else 0, ended.state, ended.text, seconds))
