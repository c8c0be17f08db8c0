"""What is to run: wanted by the protocol, minus what the database has, each with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmark.data import Dataset
from benchmark.jobs.job import Job, make_job
from benchmark.jobs.lease import Rerun
from benchmark.jobs.protocol import Protocol
from db.schema import Cell, Evaluation, Model, State
from db.schema import Dataset as DatasetRow
from db.schema import Protocol as ProtocolRow
from models_zoo import Entry


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        wanted: All jobs that were asked for, in order.
        jobs: Those to run, each with its reason.
        failed: Those that failed before and are left alone, each with why.
    """

    wanted: Sequence[Job]
    jobs: Sequence[Job]
    failed: Sequence[Job]


def wanted_jobs(
    protocol: Protocol,
    entries: Iterable[Entry],
    datasets: Mapping[str, Dataset],
    *,
    limits: Mapping[str, int | None],
    seed: int,
    models: Mapping[str, str],
) -> Iterator[Job]:
    """Every job of the protocol, whether it has run or not.

    Args:
        protocol: What every row must have.
        entries: The models.
        datasets: The datasets by name; a model is evaluated on the one its card names.
        limits: Size of the slice of each dataset; None for all of it.
        seed: The seed of every evaluation.
        models: Digests of all models there are, by slug.
    """
    for entry in entries:
        dataset = datasets[entry.dataset]
        n = min(limits.get(dataset.name) or dataset.size, dataset.size)
        for measure, parameters in protocol.wanted(dataset):
            yield make_job(measure, parameters, entry, dataset, n=n, seed=seed, models=models)


def asked_for(wanted: Sequence[Job], *, attack: str | None = None, measure: str | None = None) -> list[Job]:
    """The jobs of an attack, of a measure, or of both; all if neither is named.

    A measure that runs no attack of another name counts as the attack of its own name.
    """
    return [
        job
        for job in wanted
        if (attack is None or job.parameters.get("attack", job.measure) == attack)
        and (measure is None or job.measure == measure)
    ]


def remembered_slice(session: Session, protocol: str, dataset: Dataset) -> int | None:
    """The slice of the dataset's boards under that protocol, the largest if there are several; None without one."""
    query = (
        select(func.max(Cell.n))
        .join(ProtocolRow, Cell.protocol_id == ProtocolRow.id)
        .join(DatasetRow, Cell.dataset_id == DatasetRow.id)
        .where(ProtocolRow.name == protocol, DatasetRow.name == dataset.name, DatasetRow.digest == dataset.digest)
    )
    return session.scalar(query)


def make_plan(session: Session, wanted: Sequence[Job], *, rerun: Rerun = "missing") -> Plan:
    """Compare what is wanted with what is stored.

    Args:
        session: An open session.
        wanted: All jobs wanted.
        rerun: ``missing`` runs what has no result; ``failed`` also what failed; ``all`` everything again.
    """
    stored = _stored(session, wanted)
    jobs: list[Job] = []
    begun: list[Job] = []
    failed: list[Job] = []
    for job in wanted:
        row = stored.get(job.key)
        if row is not None and row.state == State.FAILED and rerun == "missing":
            failed.append(dataclasses.replace(job, reason=row.reason or "failed"))
        elif reason := _reason(session, job, row, rerun):
            # An evaluator may have died over it, so it comes last: one bad job must not keep the others from being run.
            later = row is not None and row.state == State.RUNNING
            (begun if later else jobs).append(dataclasses.replace(job, reason=reason))
    # What others are compared with goes first.
    jobs.sort(key=lambda job: any(name.startswith("reference:") for name in job.needs))
    return Plan(wanted, jobs + begun, failed)


def _stored(session: Session, wanted: Sequence[Job]) -> dict[str, Evaluation]:
    keys = [job.key for job in wanted]
    found: dict[str, Evaluation] = {}
    for i in range(0, len(keys), 500):
        for row in session.scalars(select(Evaluation).where(Evaluation.key.in_(keys[i : i + 500]))):
            found[row.key] = row
    return found


def _reason(session: Session, job: Job, row: Evaluation | None, rerun: Rerun) -> str:
    """Why the job is to run; empty when it is not."""
    if row is None:
        return _why_new(session, job)
    if rerun == "all":
        return f"asked for again (was {row.state.value})"
    reasons = {
        State.QUEUED: "taken up again" if row.attempts else "queued, never run",
        State.RUNNING: "another evaluator had begun it",
        State.FAILED: f"failed before: {row.reason}",
        State.WITHDRAWN: "" if rerun == "missing" else f"withdrawn: {row.reason}",
    }
    return reasons.get(row.state, "")


def _why_new(session: Session, job: Job) -> str:
    """Why there is no result of this key: which part of the key differs from the nearest evaluation there is."""
    query = (
        select(Evaluation, Model.digest, DatasetRow.digest)
        .join(Model, Evaluation.model_id == Model.id)
        .join(DatasetRow, Evaluation.dataset_id == DatasetRow.id)
        .where(Model.slug == job.model, DatasetRow.name == job.dataset, Evaluation.measure == job.measure)
        .where(Evaluation.state == State.DONE)
        .order_by(Evaluation.id.desc())
    )
    for row, model_digest, dataset_digest in session.execute(query):
        if row.parameters != job.parameters:
            continue
        if model_digest != job.model_digest:
            return "the model has changed"
        if dataset_digest != job.dataset_digest:
            return "the dataset has changed"
        if (row.version, row.attack_version) != (job.version, job.attack_version):
            return f"a new version ({row.version}.{row.attack_version} → {job.version}.{job.attack_version})"
        if reason := _other(row, job):
            return reason
    return "never run"


def _other(row: Evaluation, job: Job) -> str:
    """In what an evaluation of the same versions on the same data differs."""
    if row.seed != job.seed:
        return f"another seed ({job.seed}, had {row.seed})"
    if row.content.get("needs", {}) != job.needs:
        return "what it needs has changed"
    return f"another slice (first {job.n}, had first {row.n})" if (row.n, row.samples) != (job.n, job.samples) else ""
