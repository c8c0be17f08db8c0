"""Faults at random moments: whatever happens to an evaluator, the board ends byte for byte as if nothing had.

Each round disturbs an evaluator in a process of its own, at a random one of all the function calls it makes, up to
three times on one board; then an undisturbed run finishes it. ``CURVEBOARD_FAULTS`` sets the number of rounds.
"""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

import boards
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.engine import Engine

from benchmark.cli import run
from benchmark.evidence import files as evidence
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs import lease
from benchmark.workspace import Workspace
from db import urls as database_urls
from db.errors import UnavailableError
from db.migrate import upgrade
from db.schema import Change, Chunk, Evaluation, State
from db.session import Database

if not hasattr(os, "fork"):
    pytest.skip("the rounds fork the process that has everything imported", allow_module_level=True)

ROUNDS = int(os.environ.get("CURVEBOARD_FAULTS", "100"))
SHARES = {
    "kill": 44,
    "signal": 14,
    "timed": 10,
    "memory": 12,
    "evidence": 8,
    "database": 6,
    "read-only": 3,
    "locked": 3,
}
"""Of each hundred rounds, how many are of each kind."""

FORK = multiprocessing.get_context("fork")
PROTOCOL = """
name = "lines"
version = 1
title = "Two jobs of three chunks"

[[measures]]
measure = "line"
norm = ["linf", "l2"]
"""
CHUNKS = 6
N = 20


def evaluate(workspace: Workspace, *options: str, hook: Any = None) -> tuple[int, str]:
    """``curveboard evaluate``: the exit code and what was printed. The profiling hook sees the command alone."""
    base = ["evaluate", "-w", str(workspace.root), "-m", boards.MODELS[0], "--limit", str(N)]
    printed = io.StringIO()
    with boards.line_registered(), redirect_stdout(printed), redirect_stderr(printed):
        sys.setprofile(hook)
        try:
            code = run([*base, "--protocol", "lines", *options])
        finally:
            sys.setprofile(None)
    return code, printed.getvalue()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Workspace:
    """A workspace with a migrated database and the protocol."""
    workspace = Workspace.create(tmp_path_factory.mktemp("fresh") / "board")
    upgrade(Database(workspace.database_url))
    (workspace.protocols / "lines.toml").write_text(PROTOCOL)
    return workspace


@pytest.fixture(scope="module")
def undisturbed(fresh, tmp_path_factory) -> tuple[Any, int]:
    """The board as it should be, and how many calls it takes to get there."""
    warm = boards.copied(fresh, tmp_path_factory.mktemp("warm") / "board")
    assert evaluate(warm)[0] == 0  # the first run imports everything; its calls do not count
    workspace = boards.copied(fresh, tmp_path_factory.mktemp("undisturbed") / "board")
    calls = Injector(None, 0)
    assert evaluate(workspace, hook=calls)[0] == 0
    return contents(workspace), calls.count


def contents(workspace: Workspace) -> dict[str, Any]:
    """All that the board says, without times and names of evaluators."""
    with Database(workspace.database_url).read() as session:
        found: dict[str, Any] = {
            row.key: (
                row.state,
                row.reason,
                row.owner,
                [(s.name, s.value) for s in row.scores],
                [
                    (
                        c.start,
                        c.stop,
                        c.evidence_digest,
                        c.forward_passes,
                        [(a.name, a.data.tobytes()) for a in c.arrays],
                    )
                    for c in row.chunks
                ],
            )
            for row in session.scalars(select(Evaluation))
        }
        found["changes"] = [(c.kind, c.detail) for c in session.scalars(select(Change))]
    found["ledgers"] = {
        norm: boards.board_ledger(workspace, norm=norm, n=N).distances.tobytes() for norm in boards.NORMS
    }
    store = EvidenceStore(workspace.artifacts)
    found["evidence"] = {digest: store.get(digest)[1].tobytes() for digest in store.digests()}
    return found


def chunks(workspace: Workspace) -> int:
    with Database(workspace.database_url).read() as session:
        return session.scalar(select(func.count()).select_from(Chunk)) or 0


class Injector:
    """A profiling hook that does something at one moment: at the call of this number, in Python or in C."""

    def __init__(self, act, moment: int) -> None:
        self.act, self.moment, self.count = act, moment, 0

    def __call__(self, frame, kind, argument):
        self.count += 1
        if self.count == self.moment:
            self.act()


# The faults --------------------------------------------------------------------------------------------------------


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def be_killed_soon(rng: random.Random) -> None:
    """The system ends the process a little later, wherever it is then: also in the middle of a system call."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 0.01))


def run_out_of_memory() -> None:
    raise MemoryError("no memory left, says the test")


def fill_the_disk_of_the_evidence(rng: random.Random) -> None:
    _fail_from_now_and_then(rng, errno.ENOSPC)


def make_the_evidence_read_only(rng: random.Random) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    evidence.tempfile.mkstemp = refuse


def _fail_from_now_and_then(rng: random.Random, number: int) -> None:
    """The writes of evidence fail from a random one on."""
    left = [rng.randrange(4)]  # a file is flushed, and then its folder; both norms' examples are equal here
    real = os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    evidence.os = type("os", (), {**{name: getattr(os, name) for name in dir(os)}, "fsync": staticmethod(fsync)})


def fill_the_disk_of_the_database(rng: random.Random) -> None:
    """SQLite itself says that the disk is full, when the file has grown by so many pages."""
    pages = rng.randrange(2)

    @event.listens_for(Engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        if not hasattr(limit, "first"):
            cursor.execute("VACUUM")  # free pages would take up what is to fail
        (now,) = cursor.execute("PRAGMA page_count").fetchone()
        limit.first = getattr(limit, "first", now)
        cursor.execute(f"PRAGMA max_page_count = {limit.first + pages}")
        cursor.close()


def lock_the_database(workspace: Workspace, rng: random.Random) -> None:
    """Somebody else holds the database locked, longer than anybody waits."""
    database_urls.BUSY_SECONDS = 0.05
    moment = rng.randrange(CHUNKS + 4)
    real, count = Database.write, [0]

    def write(self):
        count[0] += 1
        if count[0] == moment + 1:
            blocker = sqlite3.connect(workspace.root / "curveboard.db", isolation_level=None)
            blocker.execute("BEGIN EXCLUSIVE")
            lock_the_database.blocker = blocker  # held until the process ends
        return real(self)

    Database.write = write


def _disturbed(workspace: Workspace, kind: str, seed: int, calls: int, begun: Any) -> None:
    """An evaluator to which something happens; runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(seed)
    moment = rng.randrange(1, calls)
    measured = boards.Line.run

    def counted(self, task, parameters):
        begun.value += 1
        return measured(self, task, parameters)

    boards.Line.run = counted
    hook = None
    acts = {"kill": kill, "timed": partial(be_killed_soon, rng), "signal": interrupt, "memory": run_out_of_memory}
    if kind == "evidence":
        fill_the_disk_of_the_evidence(rng)
    elif kind == "read-only":
        make_the_evidence_read_only(rng)
    elif kind == "database":
        fill_the_disk_of_the_database(rng)
    elif kind == "locked":
        lock_the_database(workspace, rng)
    elif kind in acts:
        hook = Injector(acts[kind], moment)
    code, printed = 1, ""
    try:
        code, printed = evaluate(workspace, "--rerun", "failed", hook=hook)
    except MemoryError:
        printed = "Error: MemoryError"
    (workspace.root / "printed.txt").write_text(printed)
    os._exit(code)


EXPECTED = {
    "kill": {-signal.SIGKILL, 0},
    "timed": {-signal.SIGALRM, 0},
    "signal": {130, 0},
    "memory": {0, 1, 3},
    "evidence": {0, 1},
    "read-only": {0, 1},
    "database": {0, 1},
    "locked": {0, 1},
}
"""Exit codes; 0 where the fault came too late."""

SAID = {
    "signal": ("Interrupted", "run the command again"),
    "evidence": ("No space left on device",),
    "read-only": ("Read-only file system",),
    "database": ("full",),
    "locked": ("locked",),
}
"""What the user is told when it did not come too late."""


def disturb(workspace: Workspace, kind: str, seed: int, calls: int) -> int:
    """One evaluator with one fault; returns the exit code, having checked what must hold after any."""
    before = chunks(workspace)
    begun = FORK.Value("i", 0)
    (workspace.root / "printed.txt").unlink(missing_ok=True)
    process = FORK.Process(target=_disturbed, args=(workspace, kind, seed, calls, begun))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        process.start()
    process.join(120)
    code = process.exitcode
    printed = workspace.root / "printed.txt"
    text = printed.read_text() if printed.exists() else ""
    assert code in EXPECTED[kind], text
    if code != 0 and kind in SAID:
        assert any(words in text for words in SAID[kind]), text
        assert "Traceback" not in text
    # At most the chunk it was working on is lost; a clean interruption loses none.
    assert chunks(workspace) - before >= begun.value - 1, (kind, seed)
    return code


@pytest.mark.parametrize("kind", SHARES)
def test_a_fault_at_a_random_moment_changes_nothing_in_the_end(fresh, undisturbed, tmp_path, kind):
    expected, calls = undisturbed
    rounds = max(1, round(SHARES[kind] * ROUNDS / sum(SHARES.values())))
    seeds = iter(range(rounds))
    hits = 0
    for first in seeds:
        workspace = boards.copied(fresh, tmp_path / str(first))
        for seed in [first, *(s for s, _ in zip(seeds, range(2), strict=False))]:
            hits += disturb(workspace, kind, seed, calls) != 0
        code, printed = evaluate(workspace, "--rerun", "failed")
        assert code == 0, printed
        assert contents(workspace) == expected, f"{kind}, seeds from {first}"
        assert leftovers(workspace) <= 3
    few = 6 if kind == "memory" else 3  # memory that runs out is tried once more, mostly with success
    assert hits >= rounds // few, "most faults came too late to disturb anything"


def leftovers(workspace: Workspace) -> int:
    return sum(file.digest is None for file in EvidenceStore(workspace.artifacts).list())


# Two evaluators ----------------------------------------------------------------------------------------------------


def _evaluator(workspace: Workspace, pause: float, begun: Any, running: Any) -> None:
    measured = boards.Line.run

    def counted(self, task, parameters):
        with begun.get_lock():
            begun.value += 1
        running.set()
        time.sleep(pause)
        return measured(self, task, parameters)

    boards.Line.run = counted
    code, printed = evaluate(workspace)
    (workspace.root / f"printed-{os.getpid()}.txt").write_text(printed)
    os._exit(code)


def start(workspace: Workspace, begun: Any, *, pause: float = 0.0) -> tuple[Any, Any]:
    """An evaluator in the background, and an event that says that it measures."""
    running = FORK.Event()
    process = FORK.Process(target=_evaluator, args=(workspace, pause, begun, running))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    return process, running


def said(workspace: Workspace) -> str:
    return "\n".join(path.read_text() for path in sorted(workspace.root.glob("printed-*.txt")))


def prepared(workspace: Workspace) -> Workspace:
    (workspace.protocols / "lines.toml").write_text(PROTOCOL)
    return workspace


def test_two_evaluators_share_the_work_and_do_nothing_twice(workspace, undisturbed):
    begun = FORK.Value("i", 0)
    pair = [start(prepared(workspace), begun, pause=0.02)[0] for _ in range(2)]
    for process in pair:
        process.join(120)
    assert [process.exitcode for process in pair] == [0, 0], said(workspace)
    assert begun.value == CHUNKS
    assert contents(workspace) == undisturbed[0]


@pytest.mark.parametrize("seed", range(2))
def test_the_job_of_a_killed_evaluator_is_taken_over_at_once(workspace, undisturbed, seed):
    begun = FORK.Value("i", 0)
    victim, running = start(prepared(workspace), begun, pause=0.3)
    assert running.wait(60)
    time.sleep(random.Random(seed).uniform(0, 0.3))
    victim.kill()
    victim.join()
    began = time.monotonic()
    code, printed = evaluate(workspace)
    assert code == 0, printed
    assert time.monotonic() - began < lease.LEASE / 2  # it did not wait for the lease to run out
    assert contents(workspace) == undisturbed[0]


def holds_a_lock(workspace: Workspace) -> bool:
    """Whether somebody is amid a writing transaction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_urls, "BUSY_SECONDS", 0)
        database = Database(workspace.database_url)
    try:
        with database.write() as session:
            session.scalars(select(Evaluation).with_for_update(nowait=True)).all()
    except UnavailableError:
        return True
    return False


def test_the_job_of_a_living_evaluator_is_never_taken(workspace, undisturbed, monkeypatch):
    # It is stopped for longer than its lease lasts, as by a debugger or a sleeping laptop; then it goes on.
    monkeypatch.setattr(lease, "LEASE", 0.3)
    begun = FORK.Value("i", 0)
    sleeper, running = start(prepared(workspace), begun, pause=0.05)
    assert running.wait(60)
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        while holds_a_lock(workspace):  # stopped amid a transaction, it would keep everybody waiting
            os.kill(sleeper.pid, signal.SIGCONT)
            time.sleep(0.02)
            os.kill(sleeper.pid, signal.SIGSTOP)
        time.sleep(0.5)
        with Database(workspace.database_url).read() as session:
            row = session.scalars(select(Evaluation).where(Evaluation.state == State.RUNNING)).one()
            assert row.lease_until < time.time()
        with suppress(AssertionError):
            evaluate(workspace)
        with Database(workspace.database_url).read() as session:
            assert session.get_one(Evaluation, row.id).owner == row.owner
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.join(120)
    assert sleeper.exitcode == 0
    assert begun.value <= CHUNKS
    assert evaluate(workspace)[0] == 0
    assert contents(workspace) == undisturbed[0]


# The real thing ----------------------------------------------------------------------------------------------------

REAL = """
name = "real"
version = 1
title = "The engine itself"

[[measures]]
measure = "curve"
norm = ["linf", "l2"]
attack = "engine"
effort = "quick"
"""


def real_command(workspace: Workspace) -> list[str]:
    options = ["--protocol", "real", "-m", boards.MODELS[1], "--limit", "8"]
    return ["evaluate", "-w", str(workspace.root), *options]


def real_workspace(folder: Path) -> Workspace:
    workspace = Workspace.create(folder)
    upgrade(Database(workspace.database_url))
    (workspace.protocols / "real.toml").write_text(REAL)
    return workspace


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Any:
    """What the engine finds undisturbed."""
    workspace = real_workspace(tmp_path_factory.mktemp("calm") / "board")
    assert run(real_command(workspace)) == 0
    return contents_of_real(workspace)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_the_command_itself_disturbed_with_the_real_engine(calm, tmp_path, number, code):
    workspace = real_workspace(tmp_path / "board")
    program = str(Path(sys.executable).parent / "curveboard")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [program, *real_command(workspace)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    while process.poll() is None and not _has_begun(workspace):
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == code
    assert run(real_command(workspace)) == 0
    assert contents_of_real(workspace) == calm


def _has_begun(workspace: Workspace) -> bool:
    with Database(workspace.database_url).read() as session:
        return session.scalar(select(func.count()).where(Evaluation.state == State.RUNNING)) == 1


def contents_of_real(workspace: Workspace) -> Any:
    with Database(workspace.database_url).read() as session:
        return [
            (
                row.key,
                row.state,
                [(c.start, c.evidence_digest, [(a.name, a.data.tobytes()) for a in c.arrays]) for c in row.chunks],
            )
            for row in session.scalars(select(Evaluation).order_by(Evaluation.key))
        ]
