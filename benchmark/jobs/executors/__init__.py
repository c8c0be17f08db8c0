"""Where jobs run, one executor a file, and their registry.

To add an executor, add a file here (or an entry point of the group ``curveboard.executors``) that holds a constant
``EXECUTOR``: an object with a name, a title, `Executor.run` and `Executor.each`. Jobs and settings are plain picklable
values. `benchmark.jobs.runner.Runner` runs a job anywhere that reaches the same database and evidence;
`benchmark.jobs.coordinator.Coordinator` here and a `benchmark.jobs.worker.Worker` anywhere that reaches the evidence
share its chunks. `Executor.each` is for work that needs no database: training a grid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from benchmark.board.job import Job
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs.setting import Progress, Report, Setting
from benchmark.plugins import discover, look_up

__all__ = [
    "Crew",
    "Executor",
    "Outcome",
    "Progress",
    "Report",
    "Setting",
    "Work",
    "executors",
    "get_executor",
    "run_jobs",
    "work_through",
]

Jobs = Sequence[tuple[Job, int]]
"""Jobs with the ids of their evaluations."""

Stopping = Callable[[], bool]
"""Whether the work has been asked to end early."""

Work = Callable[[Any, Stopping], Any]
"""A function of a module that does one item; it keeps what it has, and goes on from there when it is asked again."""


@dataclass(frozen=True)
class Crew:
    """Who does the items of `Executor.each`.

    Attributes:
        folder: What they write lies in it; it must be one place for all machines.
        workers: How many at a time; None for as many as there is room for.
        gpu: Whether each needs a GPU.
        address: Of a cluster, where the executor has one.
    """

    folder: Path
    workers: int | None = None
    gpu: bool = False
    address: str | None = None


@dataclass
class Outcome:
    """How a run ended: how many jobs in each state, as in `Progress`."""

    done: int = 0
    failed: int = 0
    unsupported: int = 0
    taken: int = 0
    waiting: int = 0
    stopped: int = 0

    def count(self, state: str) -> None:
        """Count one more job."""
        setattr(self, state, getattr(self, state) + 1)


class Executor(Protocol):
    """Runs jobs somewhere."""

    @property
    def name(self) -> str:
        """The name after ``--on``."""

    @property
    def title(self) -> str:
        """What it is, in one line."""

    def run(self, jobs: Jobs, setting: Setting, report: Report) -> Mapping[int, str]:
        """Run jobs, each to its end or until the run is interrupted.

        Args:
            jobs: Jobs with the ids of their evaluations, in the order in which they are to begin.
            setting: Where and how; `Setting.workers` says how many at a time.
            report: Receives what happens, in this process.

        Returns:
            Id of the evaluation -> the state in which its job ended, as in `Progress`.
        """

    def each(self, work: Work, items: Sequence[Any], crew: Crew, report: Callable[[Any], None]) -> None:
        """Do items, one thread each, in any order, until all are done or the run is interrupted.

        Args:
            work: What to do with an item. A SIGINT here asks it to end early.
            items: Picklable.
            crew: Who does them.
            report: Receives what the work returned, in this process; nothing for an item that was interrupted.

        Raises:
            WorkspaceError: If a worker died.
        """


def run_jobs(jobs: Jobs, setting: Setting, report: Report, *, on: str = "local") -> Outcome:
    """Run jobs with an executor; those that waited for others run again when these have ended.

    Args:
        jobs: Jobs with the ids of their evaluations.
        setting: Where and how.
        report: Receives what happens, in this process.
        on: Name of the executor, or an address that begins with it, such as ``ray://host:10001``.

    Returns:
        How many jobs ended in each state.

    Raises:
        EvidenceError: If the evidence could not be stored; nothing was computed.
    """
    executor = get_executor(on)
    if "://" in on:
        setting = dataclasses.replace(setting, address=on)
    if jobs:
        EvidenceStore(setting.artifacts).require()
    states: dict[int, str] = {}
    left = list(jobs)
    while left:
        ended = executor.run(left, setting, report)
        states.update(ended)
        waiting = [(job, number) for job, number in left if ended.get(number) == "waiting"]
        if len(waiting) == len(left) or "stopped" in ended.values():
            break
        left = waiting
    outcome = Outcome()
    for state in states.values():
        outcome.count(state)
    return outcome


def work_through(
    work: Work, items: Sequence[Any], crew: Crew, report: Callable[[Any], None], *, on: str = "local"
) -> None:
    """Do items with an executor; see `Executor.each`.

    Args:
        work: What to do with an item.
        items: Picklable.
        crew: Who does them.
        report: Receives what the work returned, in this process.
        on: As for `run_jobs`.
    """
    executor = get_executor(on)
    if "://" in on:
        crew = dataclasses.replace(crew, address=on)
    if items:
        executor.each(work, items, crew, report)


def executors() -> Mapping[str, Executor]:
    """All registered executors by name."""
    return cast("Mapping[str, Executor]", discover(__name__, "EXECUTOR"))


def get_executor(name: str) -> Executor:
    """The executor called ``name``, or of an address ``name://…``; raises `UnknownNameError` with the nearest names."""
    return cast("Executor", look_up("executor", name.partition("://")[0], executors()))
