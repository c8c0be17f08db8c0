"""Examples that no attack found here: challenges, and other models' examples. They run as measures like any other."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board import record
from benchmark.board.job import digest
from benchmark.data import Dataset
from benchmark.errors import InputError
from benchmark.evidence.challenge import Credentials, Examined, examine
from benchmark.evidence.challenge_file import ChallengeFile
from benchmark.evidence.replay import Search, search
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs.executors import Setting, run_jobs
from benchmark.jobs.job import make_job
from benchmark.jobs.lease import Again
from benchmark.measures import get_measure
from db.schema import Change, Evaluation, Model, State
from db.session import Database
from models_zoo import Entry
from models_zoo.loading import load_entry


@dataclass(frozen=True)
class Answer(Examined):
    """The outcome of a challenge.

    Attributes:
        change: What it changed on the board; None for a dry run, or where nothing changed.
        known: Whether this very file had been accepted before.
        merged: How many examples joined the ledger.
    """

    change: Change | None = None
    known: bool = False
    merged: int = 0


def challenge(
    setting: Setting,
    *,
    entry: Entry,
    dataset: Dataset,
    file: ChallengeFile,
    credentials: Credentials,
    dry_run: bool = False,
) -> Answer:
    """Re-check every example of a file, and merge those that lower a distance into the ledger.

    Args:
        setting: The database, the evidence, and the device.
        entry: The challenged model.
        dataset: The dataset.
        file: What the challenger brings.
        credentials: Who they are.
        dry_run: Check and answer; change nothing.

    Raises:
        InputError: If the examples have not the images' shape.
    """
    database = Database(setting.database_url)
    model = load_entry(entry, device=setting.device)
    examined = examine(
        database,
        entry=entry,
        model=model,
        dataset=dataset,
        file=file,
        norm=credentials.norm,
        device=setting.device,
    )
    with database.read() as session:
        known = _is_known(session, entry, file.sha256)
    winners = examined.winners
    if dry_run or known or not len(winners):
        return Answer(examined.verdicts, known=known)
    change = _run(
        setting,
        "challenge",
        dataclasses.asdict(credentials) | {"sha256": file.sha256},
        entry=entry,
        dataset=dataset,
        indices=file.indices[winners],
        examples=file.examples[winners],
        notes={"file": file.name, "sha256": file.sha256, "examples": len(file.indices), "holding": examined.holding},
    )
    return Answer(examined.verdicts, change, merged=len(winners))


@dataclass(frozen=True)
class Replayed:
    """What a replay found on one model.

    Attributes:
        slug: The model.
        files: Evidence files tried; those tried before are not tried again.
        tried: Examples in them, on samples the board has of this model.
        passed: Examples near enough to lower something, and so passed through the model.
        wins: Norm -> source model -> how many distances its examples lowered.
        changes: The changelog's entries.
    """

    slug: str
    files: int
    tried: int
    passed: int
    wins: Mapping[str, Mapping[str, int]]
    changes: Sequence[Change]


def replay(setting: Setting, *, entry: Entry, dataset: Dataset, dry_run: bool = False) -> Replayed:
    """Try every stored adversarial example of other models on one model, and enter those that lower a distance.

    One evaluation a norm is entered, so that the nearest example in each norm is kept; its provenance says which model
    each was made for.

    Args:
        setting: The database, the evidence, and the device.
        entry: The model the examples are tried on.
        dataset: The dataset.
        dry_run: Only try; change nothing.

    Raises:
        EvidenceError: If a file of evidence is missing or damaged.
    """
    model = load_entry(entry, device=setting.device)
    found = search(
        Database(setting.database_url),
        EvidenceStore(setting.artifacts),
        entry=entry,
        model=model,
        dataset=dataset,
        device=setting.device,
    )
    wins = {norm: dict(Counter(found.sources[norm].values())) for norm in found.best if found.sources[norm]}
    changes: Sequence[Change] = ()
    if found.files and not dry_run:
        changes = _enter_found(setting, found, entry=entry, dataset=dataset)
    return Replayed(entry.slug, len(found.files), found.tried, found.passed, wins, changes)


def _enter_found(setting: Setting, found: Search, *, entry: Entry, dataset: Dataset) -> list[Change]:
    """One evaluation for each norm in which something was won; one without examples if nothing was."""
    digests = sorted({source.digest for source in found.files})
    won: list[str | None] = [norm for norm in found.best if found.examples[norm]]
    changes = []
    for position, norm in enumerate(won or [None]):
        rows = sorted(found.examples[norm]) if norm else []
        origins = {str(row): found.sources[norm][row] for row in rows} if norm else {}
        change = _run(
            setting,
            "transfer",
            {"norm": norm, "tried": digest(digests)},
            entry=entry,
            dataset=dataset,
            indices=np.array(rows, dtype=np.int64),
            examples=np.stack([found.examples[norm][row] for row in rows]) if norm else None,
            # The first one has the list of what was tried.
            notes={
                "sources": dict(Counter(origins.values())),
                "origins": origins,
                "tried": digests if position == 0 else [],
                "passed": found.passed,
            },
        )
        changes += [] if change is None else [change]
    return changes


def _run(
    setting: Setting,
    name: str,
    parameters: Mapping[str, Any],
    *,
    entry: Entry,
    dataset: Dataset,
    indices: NDArray[np.int64],
    examples: NDArray[np.float32] | None,
    notes: Mapping[str, Any],
) -> Change | None:
    """Store the examples, and run the measure of that name on them; returns the changelog's entry."""
    evidence = "" if examples is None else EvidenceStore(setting.artifacts).put(indices, examples).digest
    measure = get_measure(name)
    job = make_job(
        measure,
        measure.Parameters(**parameters, evidence=evidence),
        entry,
        dataset,
        n=dataset.size,
        samples=len(indices),
        notes=notes,
    )
    database = Database(setting.database_url)
    with database.write() as session:
        model, data = record.model_row(session, entry), record.dataset_row(session, dataset)
        number = record.evaluation_row(session, job, model_id=model.id, dataset_id=data.id).id
    run_jobs([(job, number)], dataclasses.replace(setting, again=Again("failed")), lambda progress: None)
    with database.read() as session:
        row = session.get_one(Evaluation, number)
        if row.state != State.DONE:
            raise InputError(f"The examples could not be entered ({row.state.value}): {row.reason or 'interrupted'}")
        return session.scalar(select(Change).where(Change.evaluation_id == number))


def _is_known(session: Session, entry: Entry, sha256: str) -> bool:
    """Whether this very file was accepted for the model before."""
    query = (
        select(Evaluation.parameters)
        .join(Model, Evaluation.model_id == Model.id)
        .where(Model.digest == entry.digest, Evaluation.measure == "challenge", Evaluation.state == State.DONE)
    )
    return any(parameters.get("sha256") == sha256 for parameters in session.scalars(query))
