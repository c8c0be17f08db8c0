"""Slurm: an array of evaluators against one database, by submitit. Needs ``pip install 'curveboard[slurm]'``.

Each task of the array is an evaluator like any other: it goes through the jobs, and leases keep it off those of the
others. A preempted one loses its chunk; another takes its job over when its lease has run out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch

from benchmark import plugins
from benchmark.errors import WorkspaceError
from benchmark.jobs.executors import Crew, Jobs, Work
from benchmark.jobs.executors.local import EXECUTOR as LOCAL
from benchmark.jobs.setting import Progress, Report, Setting

MOST: Final = 16
"""Evaluators unless ``-j`` says otherwise."""

LOOK: Final = 1.0
"""Seconds between two looks at which evaluators have ended."""

LOGS: Final = "slurm"


class Slurm:
    """Evaluators submitted to Slurm; on a machine without it, processes of this machine."""

    name = "slurm"
    title = f"Slurm: an array of -j evaluators (default {MOST}); processes here where there is no Slurm"

    def run(self, jobs: Jobs, setting: Setting, report: Report) -> Mapping[int, str]:
        """Submit evaluators, and wait until all have ended.

        Raises:
            WorkspaceError: If submitit is not installed, or an evaluator failed; what was committed is kept.
        """
        logs = setting.locks.parent / LOGS
        executor = _executor(logs, threads=setting.threads or 1, gpu=setting.device.startswith("cuda"))
        executor.update_parameters(slurm_array_parallelism=setting.workers or MOST)
        own = dataclasses.replace(setting, workers=1, threads=setting.threads or 1)
        workers = min(setting.workers or MOST, len(jobs))
        with executor.batch():
            submitted = [
                executor.submit(evaluate, [*jobs[first:], *jobs[:first]], own, plugins.workspace_folder())
                for first in (len(jobs) * k // workers for k in range(workers))
            ]
        try:
            return _collected(submitted, jobs, report, logs)
        except KeyboardInterrupt:
            _cancel(submitted)
            return {number: "stopped" for _, number in jobs}

    def each(self, work: Work, items: Sequence[Any], crew: Crew, report: Callable[[Any], None]) -> None:
        """Submit a task for each item, so many at a time, and wait until all have ended."""
        logs, left = crew.folder / LOGS, list(reversed(items))
        executor = _executor(logs, threads=1, gpu=crew.gpu)
        running: list[Any] = []
        try:
            while left or running:
                while left and len(running) < (crew.workers or MOST):
                    running.append(executor.submit(do, work, left.pop(), plugins.workspace_folder()))
                one = next(_ended(running, logs))
                running.remove(one)
                report(one.result())
        except KeyboardInterrupt:
            _cancel(running)


def do(work: Work, item: Any, plugged: Path | None) -> Any:
    """One item; nobody asks it to end early: Slurm kills what is cancelled."""
    plugins.use(plugged)
    torch.set_num_threads(1)
    return work(item, lambda: False)


def _executor(logs: Path, *, threads: int, gpu: bool) -> Any:
    """What submits tasks; raises `WorkspaceError` without submitit."""
    try:
        import submitit
    except ImportError as error:
        raise WorkspaceError(f"submitit is not installed ({error}): pip install 'curveboard[slurm]'.") from None
    executor = submitit.AutoExecutor(folder=logs / "%j")
    executor.update_parameters(
        name="curveboard",
        timeout_min=24 * 60,
        cpus_per_task=threads,
        gpus_per_node=int(gpu),
    )
    return executor


def _reason(error: Exception) -> str:
    """The last error of the traceback that submitit tells, else its last line."""
    lines = str(error).strip().splitlines()
    return next((line for line in reversed(lines) if re.match(r"[\w.]+: ", line)), lines[-1] if lines else "")


def _cancel(submitted: list[Any]) -> None:
    for one in submitted:
        with contextlib.suppress(Exception):
            one.cancel()


def _ended(submitted: list[Any], logs: Path) -> Iterator[Any]:
    """The tasks as they end; raises `WorkspaceError` if one failed."""
    waiting = list(submitted)
    while waiting:
        ended = [one for one in waiting if one.done()]
        waiting = [one for one in waiting if one not in ended]
        for one in ended:
            if (error := one.exception()) is not None:
                raise WorkspaceError(
                    f"The task {one.job_id} failed: {_reason(error)} What it had finished is kept; its log is in "
                    f"{logs / str(one.job_id)}."
                )
            yield one
        time.sleep(LOOK if waiting else 0)


def evaluate(jobs: Jobs, setting: Setting, plugged: Path | None) -> tuple[dict[int, str], list[Progress]]:
    """One evaluator: how the jobs ended as it saw them, and what it would have reported of these ends."""
    plugins.use(plugged)
    ends: list[Progress] = []

    def note(progress: Progress) -> None:
        if progress.state != "running":
            ends.append(progress)

    return dict(LOCAL.run(jobs, setting, note)), ends


def _collected(submitted: list[Any], jobs: Jobs, report: Report, logs: Path) -> dict[int, str]:
    """The state of each job: that of the evaluator that had it, not of those to whom it was taken."""
    states: dict[int, str] = {}
    for one in _ended(submitted, logs):
        found, ends = one.result()
        for progress in ends:
            if progress.state != "taken":
                report(progress)
        states |= {number: state for number, state in found.items() if state != "taken" or number not in states}
    return {number: states.get(number, "taken") for _, number in jobs}


EXECUTOR = Slurm()
