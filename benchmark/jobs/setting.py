"""Where and how jobs run, and what is told of them meanwhile: plain values that reach every worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmark.board.job import Job
from benchmark.jobs.lease import Again


@dataclass(frozen=True)
class Setting:
    """Where and how jobs run; recorded, never part of a key.

    Attributes:
        database_url: The database.
        artifacts: Folder of the evidence, or the URL of a store.
        models: Folder of submitted models.
        locks: Folder of the evaluators' lock files.
        device: As torch names it; ``cuda`` stands for all GPUs of the machine, ``cuda:1`` for one.
        threads: CPU threads a job may use; None leaves torch's choice.
        again: What may be run although it has ended before.
        workers: Jobs that may run at a time; None leaves it to the executor.
        jobs_per_gpu: Jobs that share a GPU.
        address: Where the executor's cluster is, for instance ``ray://host:10001``; empty for its default.
    """

    database_url: str
    artifacts: Path | str
    models: Path
    locks: Path
    device: str = "cpu"
    threads: int | None = None
    again: Again = field(default_factory=Again)
    workers: int | None = None
    jobs_per_gpu: int = 1
    address: str = ""


@dataclass(frozen=True)
class Progress:
    """Something happened.

    Attributes:
        job: To which job.
        done: Samples finished.
        state: ``running``, or how the job ended: ``done``, ``failed``, ``unsupported``, ``taken`` (another
            evaluator has it), ``waiting`` (for what a reference model lacks), ``stopped`` (interrupted after a chunk).
        text: The reason it failed, or the robust accuracy so far.
        seconds: Wall time of the job so far.
    """

    job: Job
    done: int
    state: str
    text: str = ""
    seconds: float = 0.0


class Report(Protocol):
    """Receives what happens."""

    def __call__(self, progress: Progress) -> None:
        """Take note."""
