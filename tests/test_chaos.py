"""Whatever is killed or stopped amid a run, by chance, the next runs end in the bytes of one undisturbed process.

One round by default; ``make chaos`` runs twenty. Each draws an executor and a disturbance, both named on failure.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from postgres import PrivateServer
from test_ray import begun, chunks, command, ended, expected, prepared, results, waited_for  # noqa: F401 - a fixture

from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.session import Database

pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")

ROUNDS = int(os.environ.get("CURVEBOARD_CHAOS", "1"))
EXECUTORS = (["-j", "2"], ["--on", "ray"])
DISTURBANCES = ("worker", "node", "driver", "interrupt", "database")


def children(pid: int, name: str) -> list[int]:
    """The ids of a process's children of that name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            before, _, after = stat.read_text().rpartition(")")
            if before.partition("(")[2] == name and int(after.split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def disturb(what: str, process: subprocess.Popen[str], workspace: Workspace, server: PrivateServer) -> None:
    """Kill, stop or restart something of the run."""
    if what == "worker":
        kill([begun(workspace)[-1].pid])
    elif what == "node":
        kill(children(process.pid, "raylet"))
    elif what == "driver":
        process.kill()
    elif what == "interrupt":
        process.send_signal(signal.SIGINT)
    else:
        server.stop("immediate")
        time.sleep(1)
        server.start()


def reached(database: Database, wanted: int, process: subprocess.Popen[str]) -> bool:
    """Whether so many chunks are there and the program runs: until then a signal meets the interpreter, not us."""
    with contextlib.suppress(OSError):
        return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text() and chunks(database) >= wanted
    return False


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.postgresql
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)  # against hanging alone; the waiting is for events
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_run_that_is_disturbed_by_chance_ends_in_the_same_bytes(seed, server, expected, tmp_path):  # noqa: F811
    rng = random.Random(seed)
    workspace = prepared(Workspace.create(tmp_path / "board", database_url=server.create()))
    database = Database(workspace.database_url)
    upgrade(database)
    story = []
    for wanted in sorted(rng.sample(range(1, 22), 2)):
        on, what = rng.choice(EXECUTORS), rng.choice(DISTURBANCES)
        story.append((wanted, on, what))
        process = command(workspace, *on, RAY_DISABLE_IMPORT_WARNING="1")
        if waited_for(process, functools.partial(reached, database, wanted, process)):
            disturb(what, process, workspace, server)
        code, said = ended(process)
        assert code in {0, 1, 3, 130, -signal.SIGKILL}, (story, said)
        assert "Traceback" not in said, (story, said)
    code, said = ended(command(workspace))
    assert code == 0, (story, said)
    assert results(workspace) == expected, story
