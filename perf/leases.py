"""Many evaluators against one PostgreSQL: real server, real leases and commits, invented job times, no models.

    python -m perf.leases postgresql+psycopg://user@host/empty --evaluators 200 --jobs 2000 --seconds 5

The database must be empty. Evaluators are threads of a few processes; each takes the next free job, sleeps for the time
of a chunk, commits it with an array and finishes. Printed are claims a second, how long a look for a job, a claim and a
commit take, and how many claims were lost to another evaluator. ``--disturb COMMAND`` restarts the server meanwhile.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import random
import shlex
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmark.board.job import Job
from benchmark.board.record import release
from benchmark.jobs.lease import Again, claim, owned
from benchmark.jobs.queue import Queue
from benchmark.jobs.setting import Setting
from db import schema
from db.migrate import upgrade
from db.session import Database

NOWHERE = Path("no-locks-here")
"""Evaluators on machines of their own see no lock files of each other."""

JOB = Job(
    model="invented",
    model_digest="",
    dataset="invented",
    dataset_digest="",
    n=0,
    samples=0,
    measure="invented",
    version=1,
    parameters={},
    changed={},
    seed=0,
)


def fill(database: Database, jobs: int, samples: int) -> list[int]:
    """Enter one model, one dataset and so many queued evaluations; returns their ids."""
    now = datetime.now(UTC)
    with database.write() as session:
        model = schema.Model(slug="invented", digest="0" * 64, title="Invented", card={}, added_at=now)
        data = schema.Dataset(name="invented", digest="0" * 64, title="Invented", size=samples, card={}, added_at=now)
        session.add_all([model, data])
        session.flush()
        rows = [
            schema.Evaluation(
                key=f"{k:064x}",
                content_key=f"{k:064x}",
                content={},
                model_id=model.id,
                dataset_id=data.id,
                n=samples,
                samples=samples,
                measure="invented",
                version=1,
                attack_version=0,
                parameters={},
                norm=None,
                seed=0,
                state=schema.State.QUEUED,
                created_at=now,
            )
            for k in range(jobs)
        ]
        session.add_all(rows)
        session.flush()
        return [row.id for row in rows]


def evaluate(database: Database, ids: list[int], name: str, options: argparse.Namespace, seen: dict[str, Any]) -> None:
    """One evaluator: what the runner does, with sleep for work."""
    setting = Setting(options.url, "", NOWHERE, NOWHERE)
    queue, ours = Queue(database, [(JOB, number) for number in ids], setting), True
    while True:
        begin = time.perf_counter()
        one = queue.next(lost=not ours)
        looked = time.perf_counter()
        seen["look"].append(looked - begin)
        if one is None:
            return
        ours = claim(database, one[1], name, NOWHERE, Again())
        seen["claim"].append((time.perf_counter() - looked, ours))
        if ours:
            _measure(database, one[1], name, options, seen)


def _measure(database: Database, number: int, name: str, options: argparse.Namespace, seen: dict[str, Any]) -> None:
    """Sleep for each chunk of an evaluation that is ours, commit it, and finish."""
    draw = random.Random(number)  # noqa: S311 - no secret
    for start in range(0, options.samples, options.chunk):
        time.sleep(draw.expovariate(1 / options.seconds))
        begin = time.perf_counter()
        stop = min(start + options.chunk, options.samples)
        database.transact(functools.partial(_commit, number, name, start, stop))
        seen["commit"].append(time.perf_counter() - begin)
    database.transact(functools.partial(_finish, number, name))


def _finish(number: int, name: str, session: Session) -> None:
    row = session.get_one(schema.Evaluation, number)
    if row.state != schema.State.DONE:  # else it was entered, and only the answer was lost
        release(owned(session, number, name), schema.State.DONE)


def _commit(number: int, name: str, start: int, stop: int, session: Session) -> None:
    if any(chunk.start == start for chunk in owned(session, number, name).chunks):
        return
    arrays = [schema.Array(name=f"distance_{norm}", data=np.zeros(stop - start)) for norm in ("linf", "l2", "l1", "l0")]
    session.add(
        schema.Chunk(
            evaluation_id=number,
            start=start,
            stop=stop,
            seconds=1.0,
            forward_passes=1,
            backward_passes=1,
            notes=[],
            arrays=arrays,
        )
    )


def process(url: str, ids: list[int], part: int, options: argparse.Namespace, results: Any) -> None:
    """Some of the evaluators, as threads that share one pool of connections."""
    database = Database(url)
    seen: dict[str, Any] = {"look": [], "claim": [], "commit": []}
    threads = [
        threading.Thread(target=evaluate, args=(database, ids, f"evaluator-{part}-{k}", options, seen))
        for k in range(options.evaluators // options.processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(seen)


def main() -> None:
    """Run the simulation, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--evaluators", type=int, default=200)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--chunk", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="mean time of a chunk")
    parser.add_argument("--disturb", metavar="COMMAND", help="a command that restarts the server, run amid the work")
    parser.add_argument("--after", type=float, default=10.0, help="seconds after which it is run")
    options = parser.parse_args()
    database = Database(options.url)
    upgrade(database)
    ids = fill(database, options.jobs, options.samples)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    begin = time.perf_counter()
    workers = [
        context.Process(target=process, args=(options.url, ids, part, options, results))
        for part in range(options.processes)
    ]
    for worker in workers:
        worker.start()
    if options.disturb:
        threading.Timer(options.after, subprocess.run, (shlex.split(options.disturb),), {"check": True}).start()
    seen = [results.get() for _ in workers]
    wall = time.perf_counter() - begin
    for worker in workers:
        worker.join()
    _say(database, options, seen, wall)


def _say(database: Database, options: argparse.Namespace, seen: list[dict[str, Any]], wall: float) -> None:
    claims = [one for part in seen for one in part["claim"]]
    commits, looks = (np.array([one for part in seen for one in part[what]]) for what in ("commit", "look"))
    took = np.array([seconds for seconds, _ in claims])
    with database.read() as session:
        done = session.scalar(
            select(func.count()).select_from(schema.Evaluation).where(schema.Evaluation.state == schema.State.DONE)
        )
        chunks = session.scalar(select(func.count()).select_from(schema.Chunk))
    ours = sum(mine for _, mine in claims)
    ideal = options.jobs * options.samples / options.chunk * options.seconds / options.evaluators
    print(f"{options.evaluators} evaluators, {done} of {options.jobs} jobs done once, {chunks} chunks, {wall:.1f} s")
    print(f"ideal {ideal:.1f} s; {ours} claims won of {len(claims)} asked, {len(claims) / wall:.0f} a second")
    for name, times in (("look for a free job", looks), ("claim", took), ("commit of a chunk", commits)):
        median, late, most = np.percentile(times, [50, 99, 100]) * 1000
        print(f"{name}: median {median:.1f} ms, 99 % within {late:.0f} ms, at most {most:.0f} ms")


if __name__ == "__main__":
    main()
