"""Running one job to its end: claim it, attempt it, and say how it ended."""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from benchmark.board.job import Job
from benchmark.data import Dataset, get_dataset
from benchmark.errors import BenchmarkError, InputError, UnsupportedModelError
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs.attempt import Attempt
from benchmark.jobs.lease import Again, DeadlyError, LostLeaseError, claim, kept_alive
from benchmark.jobs.workbench import InfrastructureError, WaitingError
from benchmark.memory import out_of_memory
from benchmark.rejection import rejects
from db.errors import DatabaseError
from db.schema import State
from db.session import Database
from models_zoo import get_entry, load_model


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


class Runner:
    """Runs jobs in this process, keeping the last model and pool loaded.

    Args:
        setting: Where and how.
        report: Receives what happens.
        stopping: Asked after each chunk whether to stop.
    """

    def __init__(self, setting: Setting, report: Report, stopping: Callable[[], bool] = lambda: False) -> None:
        self.setting, self.report, self.stopping = setting, report, stopping
        self.database = Database(setting.database_url)
        self.store = EvidenceStore(setting.artifacts)
        self.model = functools.lru_cache(maxsize=1)(self._load_model)
        self.dataset = functools.lru_cache(maxsize=1)(self._load_dataset)
        self.pool = functools.lru_cache(maxsize=1)(self._load_pool)
        if setting.threads:
            torch.set_num_threads(setting.threads)

    def run(self, job: Job, evaluation_id: int, owner: str) -> str:
        """Run one job to its end; returns its state as in `Progress`.

        Raises:
            BenchmarkError | DatabaseError | OSError: If the database or the artifacts cannot be read or written: the
                job is put back.
        """
        begin = time.perf_counter()
        state, text = "taken", ""
        try:
            if claim(self.database, evaluation_id, owner, self.setting.locks, self.setting.again):
                with kept_alive(self.database, evaluation_id, owner):
                    again = self.setting.again.rerun == "all"
                    device = self.setting.device
                    attempt = Attempt(self, job, evaluation_id, owner, device=device, take_over=not again)
                    state, text = self._attempt(attempt)
        except DeadlyError as error:
            state, text = "failed", str(error)
        done = job.samples if state == "done" else 0
        self.report(Progress(job, done, state, text, time.perf_counter() - begin))
        return state

    def source(self, slug: str, digest: str, dataset: Dataset) -> nn.Module:
        """Another model by slug and digest.

        Raises:
            ZooError: If there is none of that name.
            InputError: If it has changed, or classifies other images.
        """
        named = get_dataset(get_entry(slug, [self.setting.models]).dataset)
        if named.labels_of != dataset.labels_of or named.shape != dataset.shape:
            raise InputError(
                f"The source model {slug!r} is for {named.labels_of} in images of shape {named.shape}, "
                f"{dataset.name} has {dataset.labels_of} in {dataset.shape}; they must be equal."
            )
        module = self.model(slug, digest)
        if rejects(module):
            raise InputError(f"The source model {slug!r} may reject images; choose sources that always give a class.")
        return module

    def progress(self, job: Job, done: int, text: str, seconds: float) -> None:
        """Report that so many samples of a job are done."""
        self.report(Progress(job, done, "running", text, seconds))

    def _attempt(self, attempt: Attempt) -> tuple[str, str]:
        """Run a job that is ours, and give it up in the state it ended in; returns state and reason."""
        try:
            finished = attempt.run()
        except InfrastructureError as failure:
            with contextlib.suppress(DatabaseError):  # if the database is what failed, the lease runs out
                attempt.release(State.QUEUED, patience=0.0)
            raise failure.reason from None
        except LostLeaseError as error:
            return "taken", str(error)
        except WaitingError as error:
            attempt.release(State.QUEUED)
            return "waiting", str(error)
        except UnsupportedModelError as error:
            attempt.release(State.UNSUPPORTED, str(error))
            return "unsupported", str(error)
        except KeyboardInterrupt:
            attempt.release(State.QUEUED)
            raise
        except Exception as error:
            attempt.release(State.FAILED, describe(error))
            return "failed", describe(error)
        if not finished:
            attempt.release(State.QUEUED)
            return "stopped", ""
        return "done", attempt.text

    def _load_model(self, slug: str, digest: str) -> nn.Module:
        entry = get_entry(slug, [self.setting.models])
        if entry.digest != digest:
            raise InputError(f"The model {slug!r} has changed since the plan was made; run the command again.")
        return load_model(slug, folders=[self.setting.models], device=self.setting.device)

    def initial(self, slug: str) -> nn.Module | None:
        """The model as its training began, rebuilt; None if its card states no training run."""
        from models_zoo.training.finish import initial_model

        return initial_model(get_entry(slug, [self.setting.models]))

    def _load_dataset(self, name: str, digest: str) -> Dataset:
        dataset = get_dataset(name)
        if dataset.digest != digest:
            raise InputError(f"The dataset {name!r} has changed since the plan was made; run the command again.")
        return dataset

    def _load_pool(self, name: str, digest: str) -> Tensor:
        dataset = self.dataset(name, digest)
        return dataset.pool(dataset.size).to(self.setting.device)


def describe(error: BaseException) -> str:
    """Why a job failed, in a line or two: the user's errors as they are, others with where they arose."""
    if out_of_memory(error):
        return f"Out of memory: {error}. Use a machine with more memory, or a smaller --limit."
    if isinstance(error, BenchmarkError) or type(error).__module__.startswith(("models_zoo.", "db.")):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
