"""How running jobs are shown: live bars on a terminal, one line a job elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from benchmark.cli.plain import plain

if TYPE_CHECKING:
    from benchmark.board.job import Job
    from benchmark.jobs.executors import Progress, Report


@contextmanager
def progress_display(total: int) -> Iterator[Report]:
    """Show the progress of ``total`` jobs; yields what is to be told of it."""
    if sys.stderr.isatty():
        with _bars() as bars:
            yield _Live(bars, total)
    else:
        yield _Lines(total)


def _bars() -> Bars:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Bars(
        *columns, TextColumn("{task.fields[text]}"), console=Console(file=getattr(sys.stderr, "stream", sys.stderr))
    )


class _Lines:
    """One line a job, when it ends."""

    def __init__(self, total: int) -> None:
        self.total, self.ended, self.text = total, 0, dict[str, str]()

    def __call__(self, progress: Progress) -> None:
        if progress.state == "running":
            self.text[progress.job.key] = progress.text
            return
        self.ended += 1
        click.echo(f"[{self.ended}/{self.total}] {_line(progress, self.text.pop(progress.job.key, ''))}", err=True)


class _Live:
    """A bar for all jobs and one for each that runs; a line above them for each that has ended."""

    def __init__(self, bars: Bars, total: int) -> None:
        self.bars, self.running, self.text = bars, dict[str, TaskID](), dict[str, str]()
        self.all = bars.add_task("all jobs", total=total, text="")

    def __call__(self, progress: Progress) -> None:
        key = progress.job.key
        if key not in self.running:
            self.running[key] = self.bars.add_task(_short(progress.job), total=progress.job.samples, text="")
        if progress.state == "running":
            self.text[key] = progress.text
            self.bars.update(self.running[key], completed=progress.done, text=plain(progress.text))
            return
        self.bars.remove_task(self.running.pop(key))
        self.bars.console.print(plain(_line(progress, self.text.pop(key, ""))), markup=False, highlight=False)
        self.bars.advance(self.all)


def _short(job: Job) -> str:
    return f"{job.model} {job.measure} {job.norm or ''}".rstrip()


def _line(progress: Progress, so_far: str) -> str:
    facts = [f"{progress.job}", progress.state, progress.text or so_far, f"{progress.seconds:.1f} s"]
    return " — ".join(fact for fact in facts if fact)
