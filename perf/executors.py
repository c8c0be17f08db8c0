"""What the machinery costs beside the work: executors on chunks that sleep for a second."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import select

from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Evaluation
from db.session import Database
from perf import Benchmark, Options
from perf.tables import table

MODELS = ("digits-standard", "digits-dropout", "digits-weight-decay", "digits-16-16")

MEASURE = '''
"""Sleeps for a second a chunk."""

import time
from dataclasses import dataclass

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
        time.sleep(1)
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


def run(executor: str, workers: int, chunks: int) -> tuple[float, float, float]:
    """Seconds of a job a chunk, throughput as a share of linear, and seconds from the command to the first chunk."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.create(Path(folder) / "board")
        database = Database(workspace.database_url)
        upgrade(database)
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
        with database.read() as session:
            rows = session.execute(select(Evaluation.started_at, Evaluation.finished_at)).all()
    spans = [(started.timestamp(), finished.timestamp()) for started, finished in rows]
    first, last = min(started for started, _ in spans), max(finished for _, finished in spans)
    each = sum(finished - started for started, finished in spans) / (len(spans) * chunks)
    return each, len(spans) * chunks / (last - first) / workers, first - begin


def measure(options: Options, folder: Path) -> dict[str, Any]:
    """Each executor that is installed, with each number of workers."""
    chunks, workers = (3, (2,)) if options.quick else (10, (1, 2, 4))
    names = [name for name in ("local", "ray") if name == "local" or find_spec(name)]
    rows = []
    for name in names:
        for count in workers:
            each, share, start = run(name, count, chunks)
            rows.append({"executor": name, "workers": count, "each": each, "share": share, "start": start})
    return {"jobs": len(MODELS), "chunks": chunks, "rows": rows}


def report(result: dict[str, Any]) -> str:
    """One table."""
    rows = [
        [row["executor"], str(row["workers"]), f"{row['each'] - 1:.1%}", f"{row['share']:.0%}", f"{row['start']:.1f} s"]
        for row in result["rows"]
    ]
    text = (
        f"{result['jobs']} jobs of {result['chunks']} chunks that sleep for a second each, so that cores do not "
        "matter. Beside the work: what a job takes beyond its chunks' seconds (loading, checking, committing). "
        "Throughput: from the first job's start to the last one's end, as a share of what so many workers could do."
    )
    return text + "\n\n" + table(["executor", "workers", "beside the work", "throughput", "first job after"], rows)


BENCHMARK = Benchmark(name="executors", title="What the machinery costs beside the work", run=measure, report=report)
