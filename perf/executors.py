"""What the machinery costs beside the work: executors on chunks that sleep for a second."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.session import Database
from perf import Benchmark, Options
from perf.tables import table

MODELS = ("digits-standard", "digits-dropout", "digits-weight-decay", "digits-16-16")

MEASURE = '''
"""Sleeps for a second a chunk."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.measures import Measure, Result
from benchmark.results import Output, Score


class Asleep(Measure):
    name = "asleep"
    version = 1
    title = "A measure that costs a second a chunk"
    chunk = 10

    @dataclass(frozen=True)
    class Parameters:
        pass

    def outputs(self, parameters, dataset):
        return [Output("mean", "scalar", "Mean", unit="")]

    def run(self, task, parameters):
        begin = time.time()
        time.sleep(1)
        with (Path(__file__).parent.parent / f"seen-{os.getpid()}").open("a") as file:
            file.write(f"{begin} {time.time()}\\n")
        return Result(arrays={"zeros": np.zeros(len(task.x))}, adversarials=task.x)

    def summarise(self, inputs, parameters):
        return [Score("mean", float(inputs.arrays["zeros"].mean()))]


MEASURE = Asleep()
'''

PROTOCOL = """
name = "asleep"
version = 1
title = "A protocol for measuring executors"

[[measures]]
measure = "asleep"
"""


@dataclass(frozen=True)
class Row:
    """What was seen of a run.

    Attributes:
        executor: Where it ran.
        workers: How many chunks at a time.
        between: Seconds between the end of a chunk's work and the beginning of the same worker's next, in the mean.
        share: Of the time of all workers from when the last of them had begun until the last chunk, that spent working.
        start: Seconds from the command to the first chunk.
    """

    executor: str
    workers: int
    between: float
    share: float
    start: float


def run(executor: str, workers: int, chunks: int) -> Row:
    """Jobs of so many chunks, with so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.create(Path(folder) / "board")
        upgrade(Database(workspace.database_url))
        (workspace.root / "measures").mkdir()
        (workspace.root / "measures" / "asleep.py").write_text(MEASURE)
        (workspace.protocols / "asleep.toml").write_text(PROTOCOL)
        named = [option for slug in MODELS for option in ("-m", slug)]
        command = ["evaluate", "-w", str(workspace.root), "--protocol", "asleep", "--limit", str(10 * chunks), *named]
        begin = time.time()
        subprocess.run(
            [sys.executable, "-m", "curveboard", *command, "--on", executor, "-j", str(workers)],
            check=True,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        lists = [np.loadtxt(path, ndmin=2) for path in sorted(workspace.root.glob("seen-*"))]
    assert sum(map(len, lists)) == len(MODELS) * chunks
    gaps = np.concatenate([times[1:, 0] - times[:-1, 1] for times in lists])
    first, last = max(times[0, 0] for times in lists), max(times[-1, 1] for times in lists)
    work = sum((times[:, 1] - times[:, 0].clip(first)).clip(0).sum() for times in lists)
    start = min(times[0, 0] for times in lists) - begin
    return Row(executor, workers, float(gaps.mean()), float(work / (last - first) / workers), float(start))


def measure(options: Options, folder: Path) -> dict[str, Any]:
    """Each executor that is installed, with as many workers as there are cores and with one."""
    chunks = 3 if options.quick else 10
    cores = os.cpu_count() or 1
    names = [name for name in ("local", "ray") if name == "local" or find_spec(name)]
    load = os.getloadavg()[0]
    rows = [asdict(run(name, count, chunks)) for name in names for count in sorted({1, min(cores, 4)})]
    return {"jobs": len(MODELS), "chunks": chunks, "load": load, "rows": rows}


def report(result: dict[str, Any]) -> str:
    """One table."""
    rows = [
        [row["executor"], str(row["workers"]), f"{row['between']:.3f} s", f"{row['share']:.1%}", f"{row['start']:.1f}"]
        for row in result["rows"]
    ]
    text = (
        f"{result['jobs']} jobs of {result['chunks']} chunks that sleep for a second each, so that cores do not "
        f"matter; load when it began: {result['load']:.1f}. Between chunks: from the end of one's sleep to the "
        "beginning of the same worker's next (checking, storing, handing over, committing, now and then another "
        "model). Throughput: from when the last worker had begun until the last chunk, as a share of what so many "
        "workers could do, an idle end included."
    )
    return text + "\n\n" + table(["executor", "workers", "between chunks", "throughput", "first chunk after, s"], rows)


BENCHMARK = Benchmark(name="executors", title="What the machinery costs beside the work", run=measure, report=report)
