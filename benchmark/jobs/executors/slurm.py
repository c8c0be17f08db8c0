"""Slurm: an array of evaluators against one database, by submitit. Needs ``pip install 'curveboard[slurm]'``.

Each task of the array is an evaluator like any other: it goes through the jobs, and leases keep it off those of the
others. A preempted one loses its chunk; another takes its job over when its lease has run out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmark import plugins
from benchmark.errors import WorkspaceError
from benchmark.jobs.executors import Jobs
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
        try:
            import submitit
        except ImportError as error:
            raise WorkspaceError(f"submitit is not installed ({error}): pip install 'curveboard[slurm]'.") from None
        logs = setting.locks.parent / LOGS
        executor = submitit.AutoExecutor(folder=logs / "%j")
        gpus = 1 if setting.device.startswith("cuda") else 0
        executor.update_parameters(
            name="curveboard",
            timeout_min=24 * 60,
            cpus_per_task=setting.threads or 1,
            gpus_per_node=gpus,
            slurm_array_parallelism=setting.workers or MOST,
        )
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
            for one in submitted:
                with contextlib.suppress(Exception):
                    one.cancel()
            return {number: "stopped" for _, number in jobs}


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
    waiting = list(submitted)
    while waiting:
        ended = [one for one in waiting if one.done()]
        waiting = [one for one in waiting if one not in ended]
        for one in ended:
            if (error := one.exception()) is not None:
                last = str(error).strip().splitlines()[-1]
                raise WorkspaceError(
                    f"The evaluator {one.job_id} failed: {last} What was committed is kept; its log is in "
                    f"{logs / str(one.job_id)}."
                )
            found, ends = one.result()
            for progress in ends:
                if progress.state != "taken":
                    report(progress)
            states |= {number: state for number, state in found.items() if state != "taken" or number not in states}
        time.sleep(LOOK if waiting else 0)
    return {number: states.get(number, "taken") for _, number in jobs}


EXECUTOR = Slurm()
