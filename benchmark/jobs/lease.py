"""Who works on what: an evaluator holds a lease on each evaluation it runs, and shows that it lives.

Liveness has two signs. A lock file in the workspace, held as long as the process lives, tells of an evaluator on the
same file system at once whether it is dead, even after ``kill -9``, or lives, even if it was stopped for an hour. A
lease in the database, renewed by a thread, runs out `LEASE` seconds after an evaluator on another machine has died, by
the clock of the database's server: the evaluators' clocks need not agree.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import filelock
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from benchmark.board.record import release
from benchmark.errors import BenchmarkError, WorkspaceError
from db.errors import DatabaseError
from db.schema import Chunk, Evaluation, State
from db.session import Database, server_time

LEASE: Final = 120.0
"""Seconds after which an evaluator that gives no sign is taken for dead."""

MOST_ATTEMPTS: Final = 3
"""Evaluators (or workers, over one chunk) that may die over an evaluation in a row before it counts as failed."""

DEADLY: Final = (
    f"{MOST_ATTEMPTS} evaluators in a row died over it (killed, or out of memory?). Give it more memory or fewer "
    "workers (-j), then ask for it with --rerun failed."
)

OLD: Final = 86400.0
"""Seconds for which the lock file of a dead evaluator is kept."""


Rerun = Literal["missing", "failed", "all"]


@dataclass(frozen=True)
class Again:
    """What may be run although it has ended before.

    Attributes:
        rerun: ``failed`` also what failed or was withdrawn, ``all`` anything.
        run: Name of the run that asks, the same for all its evaluators: what one has ended, no other does again.
    """

    rerun: Rerun = "missing"
    run: str = ""


class LostLeaseError(BenchmarkError):
    """Somebody else has taken over the evaluation."""


class DeadlyError(BenchmarkError):
    """Too many evaluators have died over the evaluation."""


class Owner:
    """This process as an evaluator, alive as long as its lock file is locked."""

    def __init__(self, locks: Path) -> None:
        self.name = f"{socket.gethostname()[:60]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._path = locks / f"{self.name}.lock"
        self._lock = filelock.FileLock(self._path)

    def __enter__(self) -> Owner:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(self._path.parent)
            self._lock.acquire(timeout=0)
        except (OSError, filelock.Timeout) as error:
            raise WorkspaceError(
                f"No lock file can be made in {self._path.parent}: {error}. The workspace must be writable."
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()
        if kind is None:  # after an error a job may still be ours: the file, held by nobody, says that we are dead
            self._path.unlink(missing_ok=True)


def _sweep(locks: Path) -> None:
    """Remove the lock files that dead evaluators left long ago; their leases have run out."""
    for path in locks.glob("*.lock"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > OLD and is_dead(path.stem, locks):
                path.unlink()


def is_dead(owner: str, locks: Path) -> bool | None:
    """Whether the evaluator of that name is dead: its lock file is here, and nobody holds it; None without the file."""
    path = locks / f"{owner}.lock"
    if not path.exists():
        return None
    probe = filelock.FileLock(path)
    try:
        probe.acquire(timeout=0)
    except filelock.Timeout:
        return False
    probe.release()
    return True


@contextmanager
def kept_alive(database: Database, owner: str) -> Iterator[None]:
    """Renew the leases on all that an evaluator has claimed, in the background while the block runs."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(LEASE / 6):
            try:
                with database.write() as session:
                    session.execute(
                        update(Evaluation)
                        .where(Evaluation.state == State.RUNNING, Evaluation.owner == owner)
                        .values(lease_until=server_time(session) + LEASE)
                    )
            except DatabaseError:
                continue  # the next round tries again; the chunk's commit will tell the user

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_open(row: Evaluation, locks: Path, now: float, again: Again) -> bool:
    """Whether the evaluation can be claimed, or is to be reported as one over which too many evaluators have died."""
    if row.state == State.RUNNING:
        return _is_abandoned(row, locks, now)
    if row.state == State.FAILED and row.reason == DEADLY and again.rerun == "missing":
        return True
    return row.state in _free(row, again)


def _free(row: Evaluation, again: Again) -> set[State]:
    """The states out of which it may be taken, unless somebody runs it."""
    free = {State.QUEUED}
    if again.run and row.provenance.get("run") == again.run:
        return free  # another evaluator of the same run has ended it
    if again.rerun != "missing":
        free |= {State.FAILED, State.WITHDRAWN}
    if again.rerun == "all":
        free |= {State.UNSUPPORTED, State.DONE}
    return free


def claim(database: Database, evaluation_id: int, owner: str, locks: Path, again: Again) -> bool:
    """Take an evaluation, unless a living evaluator has it, it is finished, or too many have died over it.

    Nobody waits for another's claim: a row that somebody is changing at this moment is theirs. A restart of the
    database's server is waited for.

    Args:
        database: The database.
        evaluation_id: Which.
        owner: Name of the one who takes it.
        locks: Folder of the lock files.
        again: Whether it may be taken although it has ended; what ``all`` takes loses its results.

    Returns:
        Whether it is ours now.

    Raises:
        DeadlyError: If too many evaluators in a row have died over it; it counts as failed from now on.
    """

    def work(session: Session) -> bool | None:
        """Whether it is ours; None if too many have died over it. Done twice, it finds what it did."""
        query = select(Evaluation).where(Evaluation.id == evaluation_id)
        row = session.scalar(query.with_for_update(skip_locked=True, key_share=True))
        if row is None:
            return False
        if row.state == State.RUNNING and row.owner == owner:
            return True
        now = server_time(session)
        if not is_open(row, locks, now, again):
            return False
        abandoned = row.state == State.RUNNING
        if again.rerun == "missing":
            if row.state == State.FAILED:
                return None
            if abandoned and row.attempts >= MOST_ATTEMPTS:
                release(row, State.FAILED, DEADLY)
                return None
        if (again.rerun == "all" and not abandoned) or row.state == State.WITHDRAWN:
            _throw_away(session, row)
        row.state, row.owner, row.lease_until = State.RUNNING, owner, now + LEASE
        row.attempts = row.attempts + 1 if abandoned else 1
        row.reason = None
        row.provenance = row.provenance | {"run": again.run}
        return True

    ours = database.transact(work)
    if ours is None:
        raise DeadlyError(DEADLY)
    return ours


def _is_abandoned(row: Evaluation, locks: Path, now: float) -> bool:
    """Whether its evaluator is dead: by its lock file if that can be seen from here, else by the lease."""
    dead = None if row.owner is None else is_dead(row.owner, locks)
    return (row.lease_until or 0) < now if dead is None else dead


def _throw_away(session: Session, row: Evaluation) -> None:
    """Forget what was computed."""
    session.execute(delete(Chunk).where(Chunk.evaluation_id == row.id))
    row.scores, row.tables, row.flags = [], [], []
    row.started_at = row.finished_at = None


def owned(session: Session, evaluation_id: int, owner: str) -> Evaluation:
    """The evaluation, if it is still ours; raises `LostLeaseError` if somebody has taken it over."""
    row = session.get_one(Evaluation, evaluation_id, with_for_update={"key_share": True})
    if row.owner != owner or row.state != State.RUNNING:
        raise LostLeaseError(f"Evaluation {evaluation_id} was taken over by {row.owner}; this run leaves it to them.")
    return row
