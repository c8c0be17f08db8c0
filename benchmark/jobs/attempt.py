"""One attempt at a job that this process has claimed: what is missing, what is committed, and how it ends.

Who measures the chunks, and where, is not known here: this process (`benchmark.jobs.runner`), or others
(`benchmark.jobs.coordinator`). Only the one that has claimed the job writes to its rows.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from benchmark.board import checks, record
from benchmark.board.history import record_change
from benchmark.board.job import Job
from benchmark.board.ledger import ledger
from benchmark.errors import BenchmarkError, InputError, WorkspaceError
from benchmark.jobs.ended import Ended, verdict
from benchmark.jobs.lease import LostLeaseError, owned
from benchmark.jobs.measuring import Known, Subject
from benchmark.jobs.setting import Progress
from benchmark.jobs.workbench import InfrastructureError, Workbench, infrastructure
from benchmark.measures import Arrays, Inputs
from benchmark.results import Flag
from benchmark.threat import norm_names
from benchmark.threat.budget import within
from db.errors import DatabaseError
from db.schema import Evaluation, State
from db.session import Database


class WaitingError(BenchmarkError):
    """A reference model lacks what the measure compares with; it may come."""


class Attempt:
    """One attempt at one job that this process has claimed.

    Args:
        database: The database.
        bench: Where the data and the evidence come from; models are not asked for.
        job: The job.
        evaluation_id: Its evaluation.
        owner: Who has claimed it.
        take_over: Whether chunks of evaluations with the same contents may be taken over.

    Attributes:
        subject: What the job names, once it has begun.
        left: Samples that are still missing.
    """

    subject: Subject

    def __init__(
        self,
        database: Database,
        bench: Workbench,
        job: Job,
        evaluation_id: int,
        owner: str,
        *,
        take_over: bool = True,
    ) -> None:
        self.database, self.bench, self.job, self.evaluation_id = database, bench, job, evaluation_id
        self.owner, self.take_over = owner, take_over
        self.left = job.samples
        self._began = time.perf_counter()
        self._text = ""
        self._robust: list[NDArray[np.bool_]] = []

    @property
    def seconds(self) -> float:
        """Wall time since it was claimed."""
        return time.perf_counter() - self._began

    def begin(self, ran_on: Mapping[str, Any]) -> list[tuple[int, int]]:
        """Note what is run and on what.

        Args:
            ran_on: The provenance of the process that measures.

        Returns:
            The samples that are missing, as ranges that are to be measured together.
        """
        self.subject = Subject.of(self.job, self.bench)
        if self.subject.needs.examples:
            missing = np.zeros(max(self.subject.examples, default=-1) + 1, dtype=np.bool_)
            missing[list(self.subject.examples)] = True
        else:
            missing = np.ones(self.job.samples, dtype=np.bool_)
        with infrastructure():
            present = self.database.transact(functools.partial(self._note_begin, ran_on))
        for start, stop in present:
            missing[start:stop] = False
        self.left = int(missing.sum())
        return list(cut(missing, self.subject.measure.chunk))

    def known(self, start: int, stop: int) -> Known:
        """What is known of these samples' distances so far, if the measure needs it."""
        if not self.subject.needs.ledger:
            return {}

        def find(session: Session) -> dict[str, NDArray[np.float64]]:
            row = session.get_one(Evaluation, self.evaluation_id)
            of_norm = functools.partial(ledger, session, model_id=row.model_id, dataset_id=row.dataset_id, n=stop)
            return {norm: of_norm(norm=norm).distances[start:] for norm in norm_names()}

        with infrastructure():
            return self.database.consult(find)

    def commit(self, result: record.ChunkResult, ran_on: Mapping[str, Any] | None = None) -> Progress:
        """Commit what was measured.

        Args:
            result: Samples that were missing.
            ran_on: The provenance of the process that measured it, if it may be another than that of the beginning.

        Returns:
            How far the job is.
        """
        with infrastructure():
            self.database.transact(functools.partial(self._commit, result, ran_on or {}))
        self.left -= result.stop - result.start
        self._note_robust(result)
        return Progress(self.job, self.job.samples - self.left, "running", self._text, self.seconds)

    def finish(self) -> Ended:
        """What all chunks say together, and what it changes on the boards, in one transaction."""

        def joined(session: Session) -> tuple[Arrays, list[Flag], list[tuple[int, int]]]:
            chunks = list(session.get_one(Evaluation, self.evaluation_id).chunks)
            ranges = [(chunk.start, chunk.stop) for chunk in chunks]
            return record.joined_arrays(chunks), record.joined_flags(chunks), ranges

        with infrastructure():
            arrays, noticed, ranges = self.database.consult(joined)
        pieces = [self.subject.dataset.labels(start, stop) for start, stop in ranges]
        labels = np.concatenate([np.empty(0, dtype=np.int64), *pieces])
        inputs = Inputs(arrays, labels, self._references(), self.subject.dataset)
        summary = checks.check_summary(
            self.subject.measure.name,
            self.subject.measure.summarise(inputs, self.subject.parameters),
            self.subject.outputs,
        )
        tries = itertools.count()

        def enter(session: Session) -> None:
            row = session.get_one(Evaluation, self.evaluation_id)
            if next(tries) and row.state == State.DONE:
                return  # the commit arrived, only its answer did not
            row = owned(session, self.evaluation_id, self.owner)
            record.finish(row, summary, noticed)
            record_change(session, row)

        with infrastructure():
            self.database.transact(enter)
        return Ended("done", self._text)

    def stop(self) -> Ended:
        """Leave what is missing to another run."""
        self.release(State.QUEUED)
        return Ended("stopped")

    def fail(self, ended: Ended) -> Ended:
        """Give the job up as failed, or as unsupported."""
        self.release(State(ended.state), ended.text)
        return ended

    def give_up(self, error: BaseException) -> Ended:
        """Give the job up after an error.

        Returns:
            How it has ended by that.

        Raises:
            BenchmarkError | DatabaseError | OSError: If the database or the artifacts have failed, not the job.
            KeyboardInterrupt: If that was the error.
        """
        if isinstance(error, InfrastructureError):
            with suppress(DatabaseError):  # if the database is what failed, the lease runs out
                self.release(State.QUEUED, patience=0.0)
            raise error.reason from None
        if isinstance(error, LostLeaseError):
            return Ended("taken", str(error))
        if isinstance(error, WaitingError):
            self.release(State.QUEUED)
            return Ended("waiting", str(error))
        if isinstance(error, KeyboardInterrupt):
            self.release(State.QUEUED)
            raise error
        return self.fail(verdict(error))

    def release(self, state: State, reason: str | None = None, *, patience: float | None = None) -> None:
        """Give the job up, if it is still ours; a database that is away is waited for."""

        def work(session: Session) -> None:
            row = session.get_one(Evaluation, self.evaluation_id, with_for_update={"key_share": True})
            if row.owner == self.owner:
                record.release(row, state, reason)
                if state == State.UNSUPPORTED:
                    record_change(session, row)

        self.database.transact(work, patience=patience)

    def _note_begin(self, ran_on: Mapping[str, Any], session: Session) -> list[tuple[int, int]]:
        """Enter what is run and on what; returns the chunks that are there."""
        row = owned(session, self.evaluation_id, self.owner)
        if row.key != self.job.key:
            raise WorkspaceError("The database is not the one the plan was made for; run the command again.")
        method = self.subject.measure.method(self.subject.parameters)
        run = {"run": row.provenance.get("run", "")}
        row.provenance = dict(ran_on) | {"method": asdict(method)} | dict(self.job.notes) | run
        row.outputs = [output.to_json() for output in self.subject.outputs]
        row.started_at = row.started_at or datetime.now(UTC)
        if self.subject.measure.per_sample and not self.subject.needs.examples and self.take_over:
            record.take_over_chunks(session, row)
        return [(chunk.start, chunk.stop) for chunk in row.chunks]

    def _commit(self, result: record.ChunkResult, ran_on: Mapping[str, Any], session: Session) -> None:
        row = owned(session, self.evaluation_id, self.owner)
        if any(chunk.start == result.start for chunk in row.chunks):
            return  # the commit arrived, only its answer did not
        record.add_chunk(session, row, result)
        other = {name: value for name, value in ran_on.items() if row.provenance.get(name) != value}
        if other and other not in (also := row.provenance.get("also", [])):
            row.provenance = row.provenance | {"also": [*also, other]}

    def _references(self) -> Mapping[str, Arrays]:
        """The arrays of the same measure on the reference models that it declares."""
        with infrastructure():
            return {
                slug: self.database.consult(functools.partial(self._reference, slug))
                for slug in self.subject.needs.references
            }

    def _reference(self, slug: str, session: Session) -> Arrays:
        own = session.get_one(Evaluation, self.evaluation_id)
        row = record.same_of(session, own, slug)
        if row is None:
            raise InputError(
                f"It is compared with the model {slug!r}, which has no such evaluation: curveboard evaluate "
                f"-m {slug}, then --rerun failed."
            )
        if row.state in {State.QUEUED, State.RUNNING} and row.id != own.id:
            raise WaitingError(f"It waits for the same evaluation of {slug!r}, with which it is compared.")
        if row.state != State.DONE and row.id != own.id:
            raise InputError(f"It is compared with the model {slug!r}, whose evaluation is {row.state.value}.")
        return record.joined_arrays(row.chunks)

    def _note_robust(self, result: record.ChunkResult) -> None:
        """Keep the text at the share of samples so far that are robust at the job's eps, or the dataset's reference."""
        norm = self.job.norm or ""
        threat = next((output.threat for output in self.subject.outputs if output.kind == "upper"), norm)
        distances = result.arrays.get(f"distance_{threat}")
        eps = self.job.parameters.get("eps") or next(iter(self.subject.dataset.eps.get(norm, ())), None)
        judged = (result.arrays.get(output.array) for output in self.subject.outputs if output.kind == "verdict")
        robust = next((array for array in judged if array is not None and array.dtype == bool), None)
        if robust is None and eps is not None and distances is not None:
            robust = ~within(distances, eps)  # a verdict also knows what others have broken; distances are its own
        if robust is not None and eps is not None:
            self._robust.append(robust)
            self._text = f"robust at {eps:g}: {np.concatenate(self._robust).mean():.1%}"


def cut(missing: NDArray[np.bool_], chunk: int) -> Iterator[tuple[int, int]]:
    """The missing samples as ranges of at most ``chunk``, cut at multiples of it, as in a run without a gap."""
    for start, stop in record.runs(missing):
        edges = [start, *range((start // chunk + 1) * chunk, stop, chunk), stop]
        yield from itertools.pairwise(edges)
