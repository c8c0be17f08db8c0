"""Running one job: claim it, compute and commit its chunks, finish it."""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark.board.history import record_change
from benchmark.board.ledger import ledger
from benchmark.counting import CountingModel
from benchmark.data import get_dataset
from benchmark.errors import BenchmarkError, EvidenceError, InputError, UnsupportedModelError, WorkspaceError
from benchmark.evidence.store import EvidenceStore, StoredEvidence
from benchmark.jobs import checks, record
from benchmark.jobs.job import Job, seed_of
from benchmark.jobs.lease import DeadlyError, LostLeaseError, claim, kept_alive, owned, release
from benchmark.jobs.plan import Rerun
from benchmark.jobs.provenance import provenance
from benchmark.measures import Arrays, Inputs, Measure, Method, Result, Task, get_measure
from benchmark.modes import full_precision
from benchmark.results import Output
from benchmark.threat import norm_names
from benchmark.threat.budget import within
from benchmark.verification import verify
from db.errors import DatabaseError
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
        rerun: What may be run although it has ended before; see `benchmark.jobs.plan.make_plan`.
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
class _SurroundingsError(Exception):
    """Not the job's fault: the database or the disk failed, and the run must end."""

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
        self.model = functools.lru_cache(maxsize=1)(self._load_model)
        self.data = functools.lru_cache(maxsize=1)(self._load_data)
        if setting.threads:
            torch.set_num_threads(setting.threads)

    def run(self, job: Job, evaluation_id: int, owner: str) -> str:
        """Run one job to its end; returns its state as in `Progress`.

        Raises:
            BenchmarkError | DatabaseError | OSError: If the database or the artifacts cannot be read or written: the
                job is put back.
        """
        begin = time.perf_counter()
        state, text = "elsewhere", ""
        try:
            if claim(self.database, evaluation_id, owner, self.setting.locks, rerun=self.setting.rerun):
                with kept_alive(self.database, evaluation_id, owner):
                    state, text = self._attempt(_Attempt(self, job, evaluation_id, owner))
        except DeadlyError as error:
            state, text = "failed", str(error)
        done = job.samples if state == "done" else 0
        self.report(Progress(job, done, state, text, time.perf_counter() - begin))
        return state

    def _attempt(self, attempt: _Attempt) -> tuple[str, str]:
        """Run a job that is ours, and give it up in the state it ended in; returns state and reason."""
        try:
            finished = attempt.run()
        except _SurroundingsError as failure:
            with contextlib.suppress(DatabaseError):  # if the database is what failed, the lease runs out
                attempt.release(State.QUEUED)
            raise failure.reason from None
        except LostLeaseError as error:
            return "elsewhere", str(error)
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

    def _load_data(self, name: str, digest: str, n: int) -> tuple[Tensor, Tensor]:
        dataset = get_dataset(name)
        if dataset.digest != digest:
            raise InputError(f"The dataset {name!r} has changed since the plan was made; run the command again.")
        x, y = dataset.load(n)
        return x.to(self.setting.device), y.to(self.setting.device)


class _Attempt:
    """One attempt at one job that this process has claimed.

    Attributes:
        text: How it goes, for the user.
    """

    def __init__(self, runner: Runner, job: Job, evaluation_id: int, owner: str) -> None:
        self.runner, self.job, self.evaluation_id, self.owner = runner, job, evaluation_id, owner
        self.database, self.device = runner.database, runner.setting.device
        self.text = ""
        self.outputs: tuple[Output, ...] = ()
        self._robust: list[NDArray[np.bool_]] = []

    def run(self) -> bool:
        """Compute and commit the missing chunks; False if it was told to stop before the last."""
        begin = time.perf_counter()
        measure = get_measure(self.job.measure)
        parameters = measure.Parameters(**self.job.parameters)
        dataset = get_dataset(self.job.dataset)
        self.outputs = tuple(measure.outputs(parameters, dataset))
        checks.check_declaration(measure.name, self.outputs)
        done = self._begin(measure.method(parameters))
        starts = [start for start in range(0, self.job.samples, measure.chunk) if start not in done]
        for start in starts:
            result = self._chunk(measure, parameters, start)
            with _surroundings(), self.database.write() as session:
                record.add_chunk(session, owned(session, self.evaluation_id, self.owner), result)
            done.add(start)
            self._note_robust(result)
            samples = min(self.job.samples, len(done) * measure.chunk)
            self.runner.report(Progress(self.job, samples, "running", self.text, time.perf_counter() - begin))
            if self.runner.stopping() and start != starts[-1]:
                return False
        self._finish(measure, parameters)
        return True

    def release(self, state: State, reason: str | None = None) -> None:
        """Give the job up, if it is still ours."""
        with self.database.write() as session:
            row = session.get_one(Evaluation, self.evaluation_id, with_for_update=True)
            if row.owner == self.owner:
                release(row, state, reason)
                if state == State.UNSUPPORTED:
                    record_change(session, row)

    def _begin(self, method: Method) -> set[int]:
        """Note what is run and on what; returns the starts of the chunks that are there already."""
        with _surroundings(), self.database.write() as session:
            row = owned(session, self.evaluation_id, self.owner)
            if row.key != self.job.key:
                raise WorkspaceError("The database is not the one the plan was made for; run the command again.")
            row.provenance = provenance(self.device) | {"method": asdict(method)}
            row.outputs = [output.to_json() for output in self.outputs]
            row.started_at = row.started_at or datetime.now(UTC)
            return {chunk.start for chunk in row.chunks}

    def _chunk(self, measure: Measure[Any], parameters: Any, start: int) -> record.ChunkResult:
        """Measure and re-check one chunk."""
        job = self.job
        stop = min(start + measure.chunk, job.samples)
        module = self.runner.model(job.model, job.model_digest)
        images, labels = self.runner.data(job.dataset, job.dataset_digest, job.n)
        x, y = images[start:stop], labels[start:stop]
        _require_logits(module, x[:1], job)
        counted = CountingModel(module).eval()
        seed, distances = seed_of(job, start), self._ledger(start, stop)
        task = Task(model=counted, module=module, x=x, y=y, first=start, seed=seed, pool=images, distances=distances)
        devices = [torch.device(self.device)] if self.device.startswith("cuda") else []
        with full_precision(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            begin = time.perf_counter()
            result = measure.run(task, parameters)
            seconds = time.perf_counter() - begin
        arrays, evidence = self._check(result, task)
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

    def _check(self, result: Result, task: Task) -> tuple[dict[str, NDArray[Any]], StoredEvidence | None]:
        """Re-check what was found; store the adversarial examples that hold."""
        arrays = {name: np.asarray(array) for name, array in result.arrays.items()}
        if result.adversarials is None:
            checks.check_arrays(self.job.measure, arrays, self.outputs, len(task.x))
            return arrays, None
        checked = verify(task.module, task.x, task.y, result.adversarials.to(task.x))
        arrays |= {f"distance_{norm}": checked.distances[norm].numpy() for norm in norm_names()}
        checks.check_arrays(self.job.measure, arrays, self.outputs, len(task.x))
        rows = checked.holds.nonzero().squeeze(1)
        if not len(rows):
            return arrays, None
        examples = result.adversarials.detach().cpu()[rows].numpy()
        with _surroundings():
            return arrays, self.runner.store.put(rows.numpy() + task.first, examples)

    def _ledger(self, start: int, stop: int) -> dict[str, NDArray[np.float64]]:
        """What is known of these samples' distances so far."""
        with _surroundings(), self.database.read() as session:
            row = session.get_one(Evaluation, self.evaluation_id)
            find = functools.partial(ledger, session, model_id=row.model_id, dataset_id=row.dataset_id, n=stop)
            return {norm: find(norm=norm).distances[start:] for norm in norm_names()}

    def _finish(self, measure: Measure[Any], parameters: Any) -> None:
        """Scores and flags of all chunks, and what they change on the boards, in one transaction."""
        with _surroundings(), self.database.read() as session:
            chunks = list(session.get_one(Evaluation, self.evaluation_id).chunks)
            arrays = record.joined_arrays(chunks)
            flags = record.joined_flags(chunks)
        dataset = get_dataset(self.job.dataset)
        labels = dataset.batch(0, self.job.samples)[1].numpy()
        inputs = Inputs(arrays, labels, self._references(measure, parameters), dataset)
        summary = checks.check_summary(measure.name, measure.summarise(inputs, parameters), self.outputs)
        with _surroundings(), self.database.write() as session:
            row = owned(session, self.evaluation_id, self.owner)
            record.finish(row, summary, flags)
            record_change(session, row)

    def _references(self, measure: Measure[Any], parameters: Any) -> dict[str, Arrays]:
        """The arrays of the same measure on the reference models that it declares."""
        found: dict[str, Arrays] = {}
        for slug in measure.needs(parameters).references:
            with _surroundings(), self.database.read() as session:
                own = session.get_one(Evaluation, self.evaluation_id)
                row = record.same_of(session, own, slug)
                if row is None:
                    raise InputError(
                        f"It needs the same of its reference model {slug!r}, which is not evaluated: curveboard "
                        f"evaluate -m {slug}, then --rerun failed."
                    )
                found[slug] = record.joined_arrays(row.chunks)
        return found

    def _note_robust(self, result: record.ChunkResult) -> None:
        """Keep `text` at the share of samples so far that are robust at the job's eps, or the dataset's reference."""
        distances = result.arrays.get(f"distance_{self.job.norm}")
        published = get_dataset(self.job.dataset).eps
        eps = self.job.parameters.get("eps") or next(iter(published.get(self.job.norm or "", ())), None)
        if eps is not None and distances is not None:
            self._robust.append(~within(distances, eps))
            self.text = f"robust at {eps:g}: {np.concatenate(self._robust).mean():.1%}"


@contextmanager
def _surroundings() -> Iterator[None]:
    """What fails inside is the fault of the database or the disk, not of the job."""
    try:
        yield
    except LostLeaseError:
        raise
    except (DatabaseError, EvidenceError, WorkspaceError, OSError) as error:
        raise _SurroundingsError(error) from error


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


def describe(error: BaseException) -> str:
    """Why a job failed, in a line or two: the user's errors as they are, others with where they arose."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"Out of memory: {error}. Use a machine with more memory, or a smaller --limit."
    if isinstance(error, BenchmarkError) or type(error).__module__.startswith(("models_zoo.", "db.")):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
