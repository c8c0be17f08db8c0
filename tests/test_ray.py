"""Jobs on a cluster of Ray's: the same bytes as one process's, whatever is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from benchmark.errors import WorkspaceError
from benchmark.jobs.executors import get_executor
from benchmark.jobs.executors.local import EXECUTOR as LOCAL
from benchmark.workspace import Workspace
from db.errors import DatabaseError
from db.migrate import upgrade
from db.schema import Chunk, Evaluation, State
from db.session import Database

MEASURE = '''
"""Steps along each image's own sign pattern, slowly."""

import os
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmark.measures import Measure, Result
from benchmark.results import Output, Score


def die_if_told(home, seed):
    """Once, whoever is the first; or whoever measures the chunk that was the first."""
    try:
        (home / "once").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    except FileNotFoundError:
        pass
    try:
        with open(home / "deadly-seed", "x") as file:
            file.write(seed)
    except FileExistsError:
        pass
    if (home / "deadly").exists() and (home / "deadly-seed").read_text() == seed:
        os.kill(os.getpid(), signal.SIGKILL)


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
        home = Path(__file__).parent.parent
        (home / "seen").mkdir(exist_ok=True)
        (home / "seen" / f"{task.seed}-{task.first}-{os.getpid()}-{uuid.uuid4().hex}").touch()
        if task.first == 10:
            die_if_told(home, str(task.seed))
        while (home / "together").exists() and len({p.name.split("-")[2] for p in (home / "seen").iterdir()}) < 2:
            time.sleep(0.05)
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
ONE_JOB = [*EVALUATE[:2], "one-job", "--limit", "20", "-m", "digits-standard"]
HERE = Path(__file__).resolve().parent.parent


def command(
    workspace: Workspace, *options: str, asked: Sequence[str] = EVALUATE, **environment: str
) -> subprocess.Popen[str]:
    """``curveboard evaluate`` in a process of its own."""
    paths = os.pathsep.join([str(HERE), str(HERE / "site")])
    return subprocess.Popen(
        [sys.executable, "-m", "curveboard", *asked, "-w", str(workspace.root), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=1200)
    return process.returncode, said


@pytest.fixture
def backend() -> str:
    """One is enough here: `test_chaos.py` runs on PostgreSQL."""
    return "sqlite"


@pytest.fixture
def slow(workspace: Workspace) -> Workspace:
    return prepared(workspace)


def prepared(workspace: Workspace) -> Workspace:
    (workspace.root / "measures").mkdir()
    (workspace.root / "measures" / "slow.py").write_text(MEASURE)
    (workspace.protocols / "slow.toml").write_text(PROTOCOL)
    one = PROTOCOL.replace('name = "slow"', 'name = "one-job"').replace("[0.3, 0.5, 0.7]", "0.5")
    (workspace.protocols / "one-job.toml").write_text(one)
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
        patch.setenv("RAY_worker_niceness", "0")  # as on a cluster that the executor starts
        made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            made.add_node(num_cpus=1)
            yield made.address
        finally:
            made.shutdown()


@dataclass(frozen=True)
class Begun:
    """A chunk that a process began to measure."""

    seed: int
    first: int
    pid: int


def begun(workspace: Workspace) -> list[Begun]:
    """The chunks that were begun so far, by whom, in order."""
    files = sorted((workspace.root / "seen").glob("*"), key=lambda path: path.stat().st_mtime_ns)
    return [Begun(*map(int, path.name.split("-")[:3])) for path in files]


def chunks(database: Database) -> int:
    """How many chunks are committed; none while the server is away."""
    with suppress(DatabaseError), database.read() as session:
        return session.scalar(select(func.count()).select_from(Chunk)) or 0
    return 0


def waited_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> bool:
    """Until it happens; False if the process has ended before."""
    while not happened():
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_one_job_of_many_chunks_keeps_every_worker_busy(slow, cluster, expected):
    """Told by who measured what, not by the clock: the chunks of one job were measured by two processes."""
    (slow.root / "together").touch()  # no chunk ends before a second process has begun one
    code, said = ended(command(slow, "--on", "ray", asked=ONE_JOB, RAY_ADDRESS=cluster))
    assert code == 0, said
    assert len({one.pid for one in begun(slow)}) == 2
    assert sorted(one.first for one in begun(slow)) == [0, 5, 10, 15]
    (found,) = results(slow)
    assert found in expected


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_loses_its_chunk_alone_and_the_bytes_are_those_of_one_process(slow, cluster, expected):
    (slow.root / "once").touch()
    code, said = ended(command(slow, "--on", "ray", RAY_ADDRESS=cluster))
    assert code == 0, said
    assert "6 done" in said
    assert "died; what was committed is kept" in said
    assert results(slow) == expected
    often = Counter((one.seed, one.first) for one in begun(slow))
    assert sorted(often.values()) == [1] * 23 + [2]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_chunk_that_kills_every_worker_fails_its_job_and_no_other(slow, cluster, expected):
    (slow.root / "deadly").touch()
    code, said = ended(command(slow, "--on", "ray", RAY_ADDRESS=cluster))
    assert code == 3, said
    assert "evaluators in a row died over it" in said
    failed = [row for row in results(slow) if row[1] is State.FAILED]
    assert [start for row in failed for start, *_ in row[3] if start < 10] == [0, 5]  # what was committed is kept
    assert len([row for row in results(slow) if row in expected]) == 5
    (slow.root / "deadly").unlink()
    code, said = ended(command(slow, "--on", "ray", "--rerun", "failed", RAY_ADDRESS=cluster))
    assert code == 0, said
    assert results(slow) == expected


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_a_killed_driver_loses_nothing(slow, cluster, expected):
    process = command(slow, "--on", "ray", RAY_ADDRESS=cluster)
    database = Database(slow.database_url)
    assert waited_for(process, lambda: chunks(database) >= 3)
    process.kill()
    process.communicate()
    code, said = ended(command(slow, "--on", "ray", RAY_ADDRESS=cluster))
    assert code == 0, said
    assert results(slow) == expected


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_two_drivers_do_nothing_twice(slow, cluster, expected):
    both = [command(slow, "--on", "ray", "-j", "1", RAY_ADDRESS=cluster) for _ in range(2)]
    for process in both:
        code, said = ended(process)
        assert code == 0, said
    assert results(slow) == expected
    assert set(Counter((one.seed, one.first) for one in begun(slow)).values()) == {1}


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_run_finishes_its_chunks_and_is_taken_up(slow, cluster, expected):
    process = command(slow, "--on", "ray", RAY_ADDRESS=cluster)
    database = Database(slow.database_url)
    assert waited_for(process, lambda: chunks(database) >= 2)
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
