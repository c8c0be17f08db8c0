"""Jobs on a cluster of Ray's: the same bytes as one process's, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text

from benchmark.errors import WorkspaceError
from benchmark.jobs.executors import get_executor
from benchmark.jobs.executors.local import EXECUTOR as LOCAL
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Chunk, Evaluation, State
from db.session import Database

MEASURE = '''
"""Steps along each image's own sign pattern, slowly."""

import os
import time
from dataclasses import dataclass

import numpy as np
import torch

from benchmark.measures import Measure, Result
from benchmark.results import Output, Score


class Slow(Measure):
    name = "slow"
    version = 1
    title = "A measure for tests"
    chunk = 5

    @dataclass(frozen=True)
    class Parameters:
        step: float = 0.5

    def outputs(self, parameters, dataset):
        return [Output("mean", "scalar", "Mean", unit="")]

    def run(self, task, parameters):
        time.sleep(0.3)
        moved = (task.x + parameters.step * torch.randn(task.x.shape)).clamp(0, 1)
        return Result(arrays={"first": np.full(len(task.x), float(moved.sum()))}, adversarials=moved)

    def summarise(self, inputs, parameters):
        return [Score("mean", float(inputs.arrays["first"].mean()))]


MEASURE = Slow()
'''

PROTOCOL = """
name = "slow"
version = 1
title = "A protocol for tests"

[[measures]]
measure = "slow"
step = [0.3, 0.5, 0.7]
"""

EVALUATE = ["evaluate", "--protocol", "slow", "--limit", "20", "-m", "digits-standard", "-m", "digits-16-16"]
HERE = Path(__file__).resolve().parent.parent


def command(workspace: Workspace, *options: str, **environment: str) -> subprocess.Popen[str]:
    """``curveboard evaluate`` in a process of its own."""
    paths = os.pathsep.join([str(HERE), str(HERE / "site")])
    return subprocess.Popen(
        [sys.executable, "-m", "curveboard", *EVALUATE, "-w", str(workspace.root), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


@pytest.fixture
def slow(workspace: Workspace) -> Workspace:
    return prepared(workspace)


def prepared(workspace: Workspace) -> Workspace:
    (workspace.root / "measures").mkdir()
    (workspace.root / "measures" / "slow.py").write_text(MEASURE)
    (workspace.protocols / "slow.toml").write_text(PROTOCOL)
    return workspace


def arrays(chunk: Chunk) -> list[tuple[str, bytes]]:
    return [(array.name, array.data.tobytes()) for array in chunk.arrays]


def results(workspace: Workspace) -> list[tuple]:
    """Every evaluation with its chunks, arrays and scores, byte for byte."""
    with Database(workspace.database_url).read() as session:
        return [
            (
                row.key,
                row.state,
                [(score.name, score.value) for score in row.scores],
                [
                    (c.start, c.stop, c.evidence_digest, [(a.name, a.data.tobytes()) for a in c.arrays])
                    for c in row.chunks
                ],
            )
            for row in session.scalars(select(Evaluation).order_by(Evaluation.key))
        ]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[tuple]:
    """What one process finds."""
    workspace = prepared(Workspace.create(tmp_path_factory.mktemp("one") / "board"))
    upgrade(Database(workspace.database_url))
    code, said = ended(command(workspace))
    assert code == 0, said
    found = results(workspace)
    assert len(found) == 6
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes on this machine."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed (the extra `ray`)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE / "site")]))
        made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            made.add_node(num_cpus=1)
            yield made.address
        finally:
            made.shutdown()


def pid_of(owner: str) -> int:
    return int(owner.split("-")[-2])


def killed(database: Database, driver: int) -> list[int]:
    """Kill the worker of a job that has committed a chunk and is not finished; returns its process id."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with database.read() as session:
            query = select(Evaluation.owner).join(Chunk).where(Evaluation.state == State.RUNNING).limit(1)
            owner = session.scalar(query)
        if owner is not None and pid_of(owner) != driver:
            os.kill(pid_of(owner), signal.SIGKILL)
            return [pid_of(owner)]
        time.sleep(0.05)
    return []


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_loses_nothing_and_the_bytes_are_those_of_one_process(slow, cluster, expected):
    process = command(slow, "--on", "ray", RAY_ADDRESS=cluster)
    assert killed(Database(slow.database_url), process.pid)
    code, said = ended(process)
    assert code == 0, said
    assert "6 done" in said
    assert "died; what it had committed is kept" in said
    assert results(slow) == expected


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_killed_driver_loses_nothing(slow, cluster, expected):
    process = command(slow, "--on", "ray", RAY_ADDRESS=cluster)
    database, deadline = Database(slow.database_url), time.monotonic() + 120
    while time.monotonic() < deadline:
        with database.read() as session:
            if session.scalar(text("SELECT count(*) FROM chunks")) >= 3:
                break
        time.sleep(0.05)
    process.kill()
    process.communicate()
    code, said = ended(command(slow, "--on", "ray", RAY_ADDRESS=cluster))
    while code == 0 and any(row[1] is not State.DONE for row in results(slow)):  # an actor was still ending its chunk
        code, said = ended(command(slow, "--on", "ray", RAY_ADDRESS=cluster))
    assert code == 0, said
    assert results(slow) == expected


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_run_finishes_its_chunks_and_is_taken_up(slow, cluster, expected):
    process = command(slow, "--on", "ray", RAY_ADDRESS=cluster)
    database, deadline = Database(slow.database_url), time.monotonic() + 120
    while time.monotonic() < deadline:
        with database.read() as session:
            if session.scalar(text("SELECT count(*) FROM chunks")) >= 2:
                break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, said = ended(process)
    assert code == 130, said
    assert {row[1] for row in results(slow)} <= {State.QUEUED, State.DONE}  # none is left to run out
    code, said = ended(command(slow, "--on", "ray", RAY_ADDRESS=cluster))
    assert code == 0, said
    assert results(slow) == expected


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_does_not_answer_is_said(slow):
    pytest.importorskip("ray", reason="Ray is not installed (the extra `ray`)")
    code, said = ended(command(slow, "--on", "ray://127.0.0.1:9", RAY_RAISE_ON_TIMEOUT="1"))
    assert code == 1
    assert "Ray does not answer at ray://127.0.0.1:9" in said
    assert "Traceback" not in said


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkspaceError, match=r"pip install 'curveboard\[ray\]'"):
        get_executor("ray").run([], None, None)


def test_an_address_names_its_executor():
    assert get_executor("ray://head:10001").name == "ray"
    assert get_executor("local") is LOCAL
