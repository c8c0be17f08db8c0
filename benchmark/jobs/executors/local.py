"""This machine: jobs one after the other, or in worker processes."""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final

import torch

from benchmark import plugins
from benchmark.board.job import Job
from benchmark.errors import WorkspaceError
from benchmark.jobs.executors import Crew, Jobs, Work
from benchmark.jobs.lease import Owner
from benchmark.jobs.queue import Queue
from benchmark.jobs.runner import Runner
from benchmark.jobs.setting import Progress, Report, Setting
from benchmark.processes import end_with_parent, interruptible
from db.session import Database

DIED: Final = (
    "A worker process died (killed, or out of memory?). What it had finished is kept; run the command again, perhaps "
    "with a smaller -j."
)


class Local:
    """This machine: in this process, or in worker processes."""

    name = "local"
    title = "This machine, one job after the other or in -j worker processes"

    def run(self, jobs: Jobs, setting: Setting, report: Report) -> Mapping[int, str]:
        """Run jobs here or in worker processes.

        SIGINT lets every running job finish its chunk, then ends the run; a second one ends it at once.
        """
        places = devices(setting, torch.cuda.device_count() if setting.device == "cuda" else 0)
        workers = min(len(places), len(jobs))
        if workers > 1:
            return _run_in_workers(jobs, setting, report, places[:workers])
        return _run_here(jobs, setting, report)

    def each(self, work: Work, items: Sequence[Any], crew: Crew, report: Callable[[Any], None]) -> None:
        """Do items in worker processes."""
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        workers = min(crew.workers or 1, len(items))
        given = (work, stop, plugins.workspace_folder())
        with (
            interruptible(stop.set),
            ProcessPoolExecutor(workers, context, initializer=_join_crew, initargs=given) as pool,
        ):
            for future in as_completed([pool.submit(_do, item) for item in items]):
                try:
                    report(future.result())
                except BrokenProcessPool:
                    raise WorkspaceError(DIED) from None


def devices(setting: Setting, gpus: int) -> list[str]:
    """The device of each worker: ``cuda`` stands for all of this machine's GPUs in turn, anything else for itself.

    Args:
        setting: The device asked for; workers and jobs a GPU, if they were given.
        gpus: How many GPUs this machine has.
    """
    if setting.device != "cuda" or not gpus:
        shared = setting.jobs_per_gpu if setting.device.startswith("cuda") else 1
        return [setting.device] * (setting.workers or shared)
    return [f"cuda:{k % gpus}" for k in range(setting.workers or gpus * setting.jobs_per_gpu)]


def _run_here(jobs: Jobs, setting: Setting, report: Report) -> dict[int, str]:
    states: dict[int, str] = {}
    stop = threading.Event()
    with interruptible(stop.set), Owner(setting.locks) as owner:
        runner = Runner(setting, report, stop.is_set)
        queue = _queue(jobs, setting, report, states)
        state = ""
        while not stop.is_set() and (one := queue.next(lost=state == "taken")):
            job, number = one
            state = states[number] = runner.run(job, number, owner.name)
    return {number: states.get(number, "stopped") for _, number in jobs}


def _queue(jobs: Jobs, setting: Setting, report: Report, states: dict[int, str]) -> Queue:
    """The jobs; those that others have are noted and reported as taken."""

    def note(job: Job, number: int) -> None:
        states[number] = "taken"
        report(Progress(job, 0, "taken"))

    return Queue(Database(setting.database_url), jobs, setting, note)


_worker: tuple[Runner, Owner] | None = None
"""What a worker process works with."""


def _start_worker(setting: Setting, events: Any, stop: Any, places: Any) -> None:
    global _worker  # noqa: PLW0603 - a process pool hands state to its tasks in no other way
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent asks through ``stop``
    threading.Thread(target=end_with_parent, daemon=True).start()
    setting = dataclasses.replace(setting, device=places.get())
    _worker = (Runner(setting, events.put, stop.is_set), Owner(setting.locks).__enter__())


def _work(job: Job, evaluation_id: int) -> str:
    assert _worker is not None
    runner, owner = _worker
    if runner.stopping():
        return "stopped"
    return runner.run(job, evaluation_id, owner.name)


def _run_in_workers(jobs: Jobs, setting: Setting, report: Report, places: list[str]) -> dict[int, str]:
    context = multiprocessing.get_context("spawn")
    workers = len(places)
    free = context.Queue()  # each worker takes its device
    for place in places:
        free.put(place)
    setting = dataclasses.replace(setting, threads=setting.threads or max(1, torch.get_num_threads() // workers))
    events = context.Queue()
    stop = context.Event()
    listener = threading.Thread(target=_listen, args=(events, report), daemon=True)
    listener.start()
    states: dict[int, str] = {}
    queue = _queue(jobs, setting, report, states)
    with (
        interruptible(stop.set),
        ProcessPoolExecutor(
            workers, context, initializer=_start_worker, initargs=(setting, events, stop, free)
        ) as pool,
    ):
        try:
            _hand_out(queue, pool, workers, stop, states)
        except BrokenProcessPool:
            raise WorkspaceError(DIED) from None
    events.put(None)
    listener.join()
    return {number: states.get(number, "stopped") for _, number in jobs}


def _hand_out(queue: Queue, pool: ProcessPoolExecutor, workers: int, stop: Any, states: dict[int, str]) -> None:
    """Give each worker its next job when it has ended one, so that this machine takes no job before it can run it."""
    running: dict[Future[str], int] = {}
    lost = False
    while True:
        while len(running) < workers and not stop.is_set() and (one := queue.next(lost=lost)):
            running[pool.submit(_work, *one)] = one[1]
        if not running:
            return
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            states[running.pop(future)] = state = future.result()
            lost = state == "taken"


_crew: tuple[Work, Any] | None = None
"""What a worker process of `Local.each` does, and the event that asks it to stop."""


def _join_crew(work: Work, stop: Any, plugged: Path | None) -> None:
    global _crew  # noqa: PLW0603 - as above
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent asks through ``stop``
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    plugins.use(plugged)
    _crew = work, stop


def _do(item: Any) -> Any:
    assert _crew is not None
    work, stop = _crew
    return work(item, stop.is_set)


def _listen(events: Any, report: Report) -> None:
    while (progress := events.get()) is not None:
        report(progress)


EXECUTOR = Local()
