"""Whatever is killed or stopped amid a run, by chance, the next runs end in the bytes of one undisturbed process.

Two rounds by default; ``make chaos`` runs twenty. Each draws an executor and a disturbance, both named on failure.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import PrivateServer
from sqlalchemy import select, text
from test_ray import command, ended, expected, pid_of, prepared, results  # noqa: F401 - a fixture

from benchmark.workspace import Workspace
from db.errors import DatabaseError
from db.migrate import upgrade
from db.schema import Evaluation, State
from db.session import Database

ROUNDS = int(os.environ.get("CURVEBOARD_CHAOS", "2"))
EXECUTORS = (["-j", "2"], ["--on", "ray"])
DISTURBANCES = ("worker", "node", "driver", "interrupt", "database")


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    programs = PrivateServer.programs_here()
    if programs is None:
        pytest.skip("there is no PostgreSQL server (Debian's package postgresql)")
    with tempfile.TemporaryDirectory(prefix="curveboard-pg-") as folder:
        made = PrivateServer(programs, Path(folder), durable=True)
        made.start()
        yield made
        made.stop()


def waited_for(database: Database, chunks: int, process: subprocess.Popen[str]) -> None:
    """Until so many chunks are there, or the process has ended."""
    while process.poll() is None:
        with contextlib.suppress(DatabaseError), database.read() as session:
            if session.scalar(text("SELECT count(*) FROM chunks")) >= chunks:
                return
        time.sleep(0.05)


def disturb(what: str, process: subprocess.Popen[str], database: Database, server: PrivateServer) -> None:
    """Kill, stop or restart something of the run."""
    if what == "worker":
        with database.read() as session:
            owners = session.scalars(select(Evaluation.owner).where(Evaluation.state == State.RUNNING)).all()
        for pid in [pid_of(owner) for owner in owners][:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    elif what == "node":
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid), "-x", "raylet"], check=False)
    elif what == "driver":
        process.kill()
    elif what == "interrupt":
        process.send_signal(signal.SIGINT)
    else:
        server.stop("immediate")
        time.sleep(1)
        server.start()


@pytest.mark.ray
@pytest.mark.postgresql
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_run_that_is_disturbed_by_chance_ends_in_the_same_bytes(seed, server, expected, tmp_path):  # noqa: F811
    pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
    rng = random.Random(seed)
    workspace = prepared(Workspace.create(tmp_path / "board", database_url=server.create()))
    database = Database(workspace.database_url)
    upgrade(database)
    story = []
    for chunks in sorted(rng.sample(range(1, 22), 2)):
        on, what = rng.choice(EXECUTORS), rng.choice(DISTURBANCES)
        story.append((chunks, on, what))
        process = command(workspace, *on, RAY_DISABLE_IMPORT_WARNING="1")
        waited_for(database, chunks, process)
        if process.poll() is None:
            disturb(what, process, database, server)
        code, said = ended(process)
        assert code in {0, 1, 3, 130, -signal.SIGKILL}, (story, said)
        assert "Traceback" not in said, (story, said)
    for _ in range(5):
        code, said = ended(command(workspace))
        if code == 0 and all(row[1] is State.DONE for row in results(workspace)):
            break
        time.sleep(3)
    assert results(workspace) == expected, story
