"""Running jobs: here, one after the other, or in worker processes.

A job is a plain value and `Runner.run` a function of it and a `Setting`, so that another engine can run the same jobs
on other machines against the same database.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmark.errors import WorkspaceError
from benchmark.jobs.job import Job
from benchmark.jobs.lease import Owner
from benchmark.jobs.runner import Progress, Report, Runner, Setting

__all__ = ["Outcome", "Progress", "Report", "Setting", "run_jobs"]


@dataclass
class Outcome:
    """How a run ended: how many jobs in each state."""

    done: int = 0
    failed: int = 0
    unsupported: int = 0
    elsewhere: int = 0
    stopped: int = 0

    def count(self, state: str) -> None:
        """Count one more job."""
        setattr(self, state, getattr(self, state) + 1)


def run_jobs(jobs: Sequence[tuple[Job, int]], setting: Setting, report: Report, *, workers: int = 1) -> Outcome:
    """Run jobs with their evaluation ids, here or in worker processes.

    SIGINT lets every running job finish its chunk, then ends the run; a second one ends it at once.

    Args:
        jobs: Jobs and evaluation ids.
        setting: Where and how.
        report: Receives what happens, in this process.
        workers: Worker processes; 1 runs everything here.

    Returns:
        How many jobs ended in each state.
    """
    outcome = Outcome()
    if workers > 1 and len(jobs) > 1:
        _run_in_workers(jobs, setting, report, outcome, min(workers, len(jobs)))
        return outcome
    stop = threading.Event()
    with _interruptible(stop.set), Owner(setting.locks) as owner:
        runner = Runner(setting, report, stop.is_set)
        for i, (job, evaluation_id) in enumerate(jobs):
            if stop.is_set():
                outcome.stopped += len(jobs) - i
                break
            outcome.count(runner.run(job, evaluation_id, owner.name))
    return outcome


@contextmanager
def _interruptible(stop: Callable[[], object]) -> Iterator[None]:
    """The first SIGINT calls ``stop``, the second interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_worker: tuple[Runner, Owner] | None = None
"""What a worker process works with."""


def _start_worker(setting: Setting, events: Any, stop: Any) -> None:
    global _worker  # noqa: PLW0603 - a process pool hands state to its tasks in no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent asks through ``stop``
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = (Runner(setting, events.put, stop.is_set), Owner(setting.locks).__enter__())


def _end_with_parent() -> None:
    """End this worker when its parent is killed: nobody would hear of its jobs, and another run may begin at once."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # as a kill at any moment: at most the current chunk is lost


def _work(job: Job, evaluation_id: int) -> str:
    assert _worker is not None
    runner, owner = _worker
    if runner.stopping():
        return "stopped"
    return runner.run(job, evaluation_id, owner.name)


def _run_in_workers(
    jobs: Sequence[tuple[Job, int]], setting: Setting, report: Report, outcome: Outcome, workers: int
) -> None:
    context = multiprocessing.get_context("spawn")
    setting = dataclasses.replace(setting, threads=setting.threads or max(1, torch.get_num_threads() // workers))
    events = context.Queue()
    stop = context.Event()
    listener = threading.Thread(target=_listen, args=(events, report), daemon=True)
    listener.start()
    with (
        _interruptible(stop.set),
        ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(setting, events, stop)) as pool,
    ):
        futures: dict[Future[str], Job] = {pool.submit(_work, job, number): job for job, number in jobs}
        for future in as_completed(futures):
            try:
                outcome.count(future.result())
            except BrokenProcessPool:
                raise WorkspaceError(
                    "A worker process died (killed, or out of memory?). What it had committed is kept; "
                    "run the command again, perhaps with a smaller -j."
                ) from None
    events.put(None)
    listener.join()


def _listen(events: Any, report: Report) -> None:
    while (progress := events.get()) is not None:
        report(progress)
