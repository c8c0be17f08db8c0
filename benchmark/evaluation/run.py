"""Running jobs: one at a time (`run_job`), or many in worker processes (`run_jobs`).

A job is a plain value and `run_job` a function of it and a `Setting`, so that another engine can run the same jobs on
other machines against the same database.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.counting import CountingModel
from benchmark.datasets import get_dataset
from benchmark.errors import BenchmarkError, EvidenceError, InputError, UnsupportedModelError, WorkspaceError
from benchmark.evaluation import record
from benchmark.evaluation.history import record_change
from benchmark.evaluation.jobs import Job, seed_of
from benchmark.evaluation.lease import LostLeaseError, Owner, claim, kept_alive, owned, release
from benchmark.evaluation.plan import Rerun
from benchmark.evaluation.provenance import provenance
from benchmark.evidence import EvidenceStore, StoredEvidence
from benchmark.measures import Measure, Result, Task, get_measure
from benchmark.threat import NORMS
from benchmark.verification import verify
from db.errors import DatabaseError
from db.ledger import ledger
from db.schema import Evaluation, State
from db.session import Database
from models_zoo import get_entry, load_model


@dataclass(frozen=True)
class Setting:
    """Where and how jobs run; recorded, never part of a key.

    Attributes:
        database_url: The database.
        artifacts: Folder of the evidence.
        models: Folder of submitted models.
        locks: Folder of the evaluators' lock files.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads a job may use; None leaves torch's choice.
        rerun: What may be run although it has ended before; see `benchmark.evaluation.plan.make_plan`.
    """

    database_url: str
    artifacts: Path
    models: Path
    locks: Path
    device: str = "cpu"
    threads: int | None = None
    rerun: Rerun = "missing"


@dataclass(frozen=True)
class Progress:
    """Something happened.

    Attributes:
        job: To which job.
        done: Samples finished.
        state: ``running``, or how the job ended: ``done``, ``failed``, ``unsupported``, ``elsewhere`` (another
            evaluator has it), ``stopped`` (interrupted after a chunk).
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


@dataclass(frozen=True)
class _Abort(Exception):  # noqa: N818 - not an error of the job: the surroundings failed, and the run must end
    reason: BaseException


class Runner:
    """Runs jobs in this process, keeping the last model and dataset loaded.

    Args:
        setting: Where and how.
        report: Receives what happens.
        stopping: Asked after each chunk whether to stop.
    """

    def __init__(self, setting: Setting, report: Report, stopping: Callable[[], bool] = lambda: False) -> None:
        self.setting, self.report, self.stopping = setting, report, stopping
        self.database = Database(setting.database_url)
        self.store = EvidenceStore(setting.artifacts)
        self._model = functools.lru_cache(maxsize=1)(self._load_model)
        self._data = functools.lru_cache(maxsize=1)(self._load_data)
        if setting.threads:
            torch.set_num_threads(setting.threads)

    def run(self, job: Job, evaluation_id: int, owner: str) -> str:
        """Run one job to its end; returns its state as in `Progress`.

        Raises:
            BenchmarkError | DatabaseError: If the database or the artifacts cannot be written: the job is put back.
        """
        begin = time.perf_counter()
        if not claim(self.database, evaluation_id, owner, self.setting.locks, rerun=self.setting.rerun):
            return self._end(job, "elsewhere", begin)
        try:
            with kept_alive(self.database, evaluation_id, owner):
                finished = self._chunks(job, evaluation_id, owner, begin)
        except _Abort as abort:
            self._release(evaluation_id, owner, State.QUEUED, None)
            raise abort.reason from None
        except LostLeaseError as error:
            return self._end(job, "elsewhere", begin, str(error))
        except UnsupportedModelError as error:
            self._release(evaluation_id, owner, State.UNSUPPORTED, str(error))
            return self._end(job, "unsupported", begin, str(error))
        except KeyboardInterrupt:
            self._release(evaluation_id, owner, State.QUEUED, None)
            raise
        except Exception as error:
            reason = describe(error)
            self._release(evaluation_id, owner, State.FAILED, reason)
            return self._end(job, "failed", begin, reason)
        if not finished:
            self._release(evaluation_id, owner, State.QUEUED, None)
            return self._end(job, "stopped", begin)
        return self._end(job, "done", begin)

    def _end(self, job: Job, state: str, begin: float, text: str = "") -> str:
        self.report(Progress(job, job.samples if state == "done" else 0, state, text, time.perf_counter() - begin))
        return state

    def _release(self, evaluation_id: int, owner: str, state: State, reason: str | None) -> None:
        with self.database.write() as session:
            row = session.get_one(Evaluation, evaluation_id, with_for_update=True)
            if row.owner == owner:
                release(row, state, reason)
                if state == State.UNSUPPORTED:
                    record_change(session, row)

    def _chunks(self, job: Job, evaluation_id: int, owner: str, begin: float) -> bool:
        """Compute and commit the missing chunks; False if it was told to stop before the last."""
        measure = get_measure(job.measure)
        parameters = measure.Parameters(**job.parameters)
        done = self._begin(job, evaluation_id, owner)
        starts = [s for s in range(0, job.samples, measure.chunk) if s not in done]
        robust: list[NDArray[np.bool_]] = []
        for start in starts:
            result = self._chunk(job, evaluation_id, measure, parameters, start)
            self._commit(evaluation_id, owner, result)
            done.add(start)
            text = _robust_so_far(job, result, robust)
            finished = min(job.samples, len(done) * measure.chunk)
            self.report(Progress(job, finished, "running", text, time.perf_counter() - begin))
            if self.stopping() and start != starts[-1]:
                return False
        self._finish(job, evaluation_id, owner, measure, parameters)
        return True

    def _begin(self, job: Job, evaluation_id: int, owner: str) -> set[int]:
        """Note the provenance; returns the starts of the chunks that are there already."""
        with _surroundings(), self.database.write() as session:
            row = owned(session, evaluation_id, owner)
            row.provenance = provenance(self.setting.device)
            row.started_at = row.started_at or datetime.now(UTC)
            return {chunk.start for chunk in row.chunks}

    def _chunk(
        self, job: Job, evaluation_id: int, measure: Measure[Any], parameters: Any, start: int
    ) -> record.ChunkResult:
        stop = min(start + measure.chunk, job.samples)
        module = self._model(job.model, job.model_digest)
        images, labels = self._data(job.dataset, job.dataset_digest, job.n)
        x, y = images[start:stop], labels[start:stop]
        _require_logits(module, x[:1], job)
        counted = CountingModel(module).eval()
        seed = seed_of(job, start)
        task = Task(
            model=counted,
            module=module,
            x=x,
            y=y,
            first=start,
            seed=seed,
            pool=images,
            distances=self._ledger(evaluation_id, start, stop),
        )
        with torch.random.fork_rng(devices=_cuda_devices(self.setting.device)):
            torch.manual_seed(seed)
            begin = time.perf_counter()
            result = measure.run(task, parameters)
            seconds = time.perf_counter() - begin
        arrays, evidence = self._check(result, module, x, y, start)
        return record.ChunkResult(
            start=start,
            stop=stop,
            arrays=arrays,
            evidence=evidence,
            flags=result.flags,
            seconds=seconds,
            forward_passes=counted.forward_passes,
            backward_passes=counted.backward_passes,
        )

    def _check(
        self, result: Result, module: nn.Module, x: Tensor, y: Tensor, start: int
    ) -> tuple[dict[str, NDArray[Any]], StoredEvidence | None]:
        """Re-check what was found; store the adversarial examples that hold."""
        arrays = {name: np.asarray(array) for name, array in result.arrays.items()}
        for name, array in arrays.items():
            if array.shape[:1] != (len(x),):
                raise InputError(
                    f"The measure's array {name!r} has shape {array.shape}; its first axis must be {len(x)}."
                )
        if result.adversarials is None:
            return arrays, None
        checked = verify(module, x, y, result.adversarials.to(x))
        arrays |= {f"distance_{norm}": checked.distances[norm].numpy() for norm in NORMS}
        rows = checked.holds.nonzero().squeeze(1)
        if not len(rows):
            return arrays, None
        examples = result.adversarials.detach().cpu()[rows].numpy()
        with _surroundings():
            return arrays, self.store.put(rows.numpy() + start, examples)

    def _ledger(self, evaluation_id: int, start: int, stop: int) -> dict[str, NDArray[np.float64]]:
        with _surroundings(), self.database.read() as session:
            row = session.get_one(Evaluation, evaluation_id)
            return {
                norm: ledger(
                    session, model_id=row.model_id, dataset_id=row.dataset_id, norm=norm, n=stop
                ).distances[start:]
                for norm in NORMS
            }  # fmt: skip

    def _commit(self, evaluation_id: int, owner: str, result: record.ChunkResult) -> None:
        with _surroundings(), self.database.write() as session:
            record.add_chunk(session, owned(session, evaluation_id, owner), result)

    def _finish(self, job: Job, evaluation_id: int, owner: str, measure: Measure[Any], parameters: Any) -> None:
        with _surroundings(), self.database.read() as session:
            chunks = list(session.get_one(Evaluation, evaluation_id).chunks)
            arrays = record.joined_arrays(chunks)
            flags = record.joined_flags(chunks)
        scores = measure.summarise(arrays, parameters)
        with _surroundings(), self.database.write() as session:
            row = owned(session, evaluation_id, owner)
            record.finish(row, scores, flags)
            session.flush()
            record_change(session, row)

    def _load_model(self, slug: str, digest: str) -> nn.Module:
        entry = get_entry(slug, [self.setting.models])
        if entry.digest != digest:
            raise InputError(f"The model {slug!r} has changed since the plan was made; run the command again.")
        return load_model(slug, folders=[self.setting.models], device=self.setting.device)

    def _load_data(self, name: str, digest: str, n: int) -> tuple[Tensor, Tensor]:
        dataset = get_dataset(name)
        if dataset.digest != digest:
            raise InputError(f"The dataset {name!r} has changed since the plan was made; run the command again.")
        x, y = dataset.load(n)
        return x.to(self.setting.device), y.to(self.setting.device)


@contextmanager
def _surroundings() -> Iterator[None]:
    """What fails inside is the fault of the database or the disk, not of the job."""
    try:
        yield
    except LostLeaseError:
        raise
    except (DatabaseError, EvidenceError, WorkspaceError, OSError) as error:
        raise _Abort(error) from error


def _require_logits(module: nn.Module, x: Tensor, job: Job) -> None:
    """Refuse a model that is none for this dataset, before a measure says something harder to understand."""
    classes = get_dataset(job.dataset).n_classes
    with torch.no_grad():
        logits = module(x)
    if not isinstance(logits, Tensor) or logits.shape != (len(x), classes):
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"The model {job.model!r} returns {seen} for {len(x)} image of shape {tuple(x.shape[1:])}; expected logits "
            f"of shape ({len(x)}, {classes}): one for each class of {job.dataset!r}."
        )


def _cuda_devices(device: str) -> list[torch.device]:
    return [torch.device(device)] if device.startswith("cuda") else []


def _robust_so_far(job: Job, result: record.ChunkResult, so_far: list[NDArray[np.bool_]]) -> str:
    """The share of samples so far that are robust at the dataset's reference eps."""
    eps = job.parameters.get("eps") or next(iter(get_dataset(job.dataset).eps.get(job.norm or "", ())), None)  # type: ignore[call-overload]
    distances = result.arrays.get(f"distance_{job.norm}")
    if eps is None or distances is None:
        return ""
    so_far.append(distances > eps)
    return f"robust at {eps:g}: {np.concatenate(so_far).mean():.1%}"


def describe(error: BaseException) -> str:
    """Why a job failed, in a line or two: the user's errors as they are, others with where they arose."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"Out of memory: {error}. Use a machine with more memory, or a smaller --limit."
    if isinstance(error, BenchmarkError) or type(error).__module__.startswith(("models_zoo.", "db.")):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


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
    _worker = (Runner(setting, events.put, stop.is_set), Owner(setting.locks).__enter__())


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
