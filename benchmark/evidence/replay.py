"""Transfer replay: adversarial examples of some models tried on another, with forward passes only."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session
from torch import nn

from benchmark.data import Dataset
from benchmark.evidence.check import Subject
from benchmark.evidence.entering import Accepted, enter, guest_job
from benchmark.evidence.proofs import needs
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs.provenance import provenance
from benchmark.results import Score
from benchmark.threat import distances, norm_names
from benchmark.verification import verify
from db.schema import Change, Chunk, Evaluation, Model, State
from db.schema import Dataset as DatasetRow
from db.session import Database
from models_zoo import Entry

BATCH = 500


@dataclass(frozen=True)
class Source:
    """An evidence file of another model."""

    digest: str
    slug: str


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


@dataclass
class _Search:
    """The nearest examples so far."""

    best: dict[str, NDArray[np.float64]]
    examples: defaultdict[str, dict[int, NDArray[np.float32]]] = field(default_factory=lambda: defaultdict(dict))
    sources: defaultdict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    reached: defaultdict[str, dict[int, dict[str, float]]] = field(default_factory=lambda: defaultdict(dict))
    tried: int = 0
    passed: int = 0


def replay(
    database: Database,
    store: EvidenceStore,
    *,
    entry: Entry,
    model: nn.Module,
    dataset: Dataset,
    device: str = "cpu",
    dry_run: bool = False,
) -> Replayed:
    """Try every stored adversarial example of other models on one model, and enter those that lower a distance.

    Only samples that the board has of this model are tried. One evaluation a norm is entered, so that the nearest
    example in each norm is kept; its array ``source`` names the model that each example was made for.

    Args:
        database: The database.
        store: Its evidence.
        entry: The model the examples are tried on.
        model: The same, loaded, on ``device``.
        dataset: The dataset.
        device: Where to check.
        dry_run: Only try; change nothing.

    Raises:
        EvidenceError: If a file of evidence is missing or damaged.
    """
    begin = time.perf_counter()
    with database.read() as session:
        ids = _ids(session, entry, dataset)
        if ids is None:
            return Replayed(entry.slug, 0, 0, 0, {}, ())
        sources = _sources(session, *ids)
        needed = needs(session, model_id=ids[0], dataset_id=ids[1])
    covered = np.any([found.covered for found in needed.ledgers.values()], axis=0)
    if not sources or not covered.any():
        return Replayed(entry.slug, 0, 0, 0, {}, ())
    search = _Search({norm: found.distances.copy() for norm, found in needed.ledgers.items()})
    images, labels = dataset.load(int(np.flatnonzero(covered)[-1]) + 1)
    subject = Subject(entry.slug, model, images, labels, device)
    for source in sources:
        indices, examples = store.get(source.digest)
        rows = np.flatnonzero(covered[indices])
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            _try(search, subject, indices[part], examples[part], slug=source.slug)
    wins = {norm: dict(Counter(search.sources[norm].values())) for norm in search.best if search.sources[norm]}
    changes: Sequence[Change] = ()
    if not dry_run:
        changes = _enter(
            database,
            store,
            search,
            sources,
            entry=entry,
            dataset=dataset,
            device=device,
            seconds=time.perf_counter() - begin,
        )
    return Replayed(entry.slug, len(sources), search.tried, search.passed, wins, changes)


def _try(
    search: _Search, subject: Subject, indices: NDArray[np.int64], examples: NDArray[np.float32], *, slug: str
) -> None:
    """Try some examples; those too far away to lower anything are not passed through the model."""
    search.tried += len(indices)
    where = torch.from_numpy(indices)
    x, candidates = subject.images[where], torch.from_numpy(examples)
    near = np.zeros(len(indices), dtype=np.bool_)
    for norm in search.best:
        near |= distances(x, candidates, norm).numpy() < search.best[norm][indices]
    if not near.any():
        return
    kept = torch.from_numpy(near)
    search.passed += int(near.sum())
    clean, y = x[kept].to(subject.device), subject.labels[where][kept].to(subject.device)
    checked = verify(subject.model, clean, y, candidates[kept].to(subject.device))
    measured = {norm: found.numpy() for norm, found in checked.distances.items()}
    for row, index in enumerate(indices[near].tolist()):
        if not checked.holds[row]:
            continue
        reached = {norm: float(found[row]) for norm, found in measured.items()}
        for norm in search.best:
            if reached[norm] < search.best[norm][index]:
                search.best[norm][index] = reached[norm]
                search.examples[norm][index] = examples[near][row]
                search.sources[norm][index] = slug
                search.reached[norm][index] = reached


def _enter(
    database: Database,
    store: EvidenceStore,
    search: _Search,
    sources: Sequence[Source],
    *,
    entry: Entry,
    dataset: Dataset,
    device: str,
    seconds: float,
) -> Sequence[Change]:
    """One evaluation for each norm in which something was won; one without examples if nothing was."""
    digests = sorted({source.digest for source in sources})
    fingerprint = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    won: list[str | None] = [norm for norm in search.best if search.examples[norm]]
    won = won or [None]
    accepted = [_accepted(search, norm, store) for norm in won]
    changes = []
    with database.write() as session:
        for position, (norm, found) in enumerate(zip(won, accepted, strict=True)):
            first = position == 0  # the first one carries the cost of all, and the list of what was tried
            job = guest_job(
                entry,
                dataset,
                measure="transfer",
                samples=len(found.indices),
                parameters={"norm": norm, "evidence": fingerprint},
            )
            origins = dict(Counter(search.sources[norm].values())) if norm else {}
            change = enter(
                session,
                job,
                entry=entry,
                dataset=dataset,
                accepted=Accepted(
                    found.indices,
                    found.distances,
                    found.evidence,
                    found.arrays,
                    seconds=seconds if first else 0.0,
                    forward_passes=2 * search.passed if first else 0,
                ),
                scores=[
                    Score("tried", float(search.tried), unit="examples"),
                    Score("won", float(len(found.indices)), unit="samples"),
                ],
                provenance=provenance(device) | {"sources": origins, "tried": digests if first else []},
            )
            if change is not None:
                change.detail = change.detail | {"sources": origins}
                changes.append(change)
    return changes


def _accepted(search: _Search, norm: str | None, store: EvidenceStore) -> Accepted:
    rows = sorted(search.examples[norm]) if norm else []
    indices = np.array(rows, dtype=np.int64)
    if norm is None or not rows:
        return Accepted(indices, {n: np.empty(0) for n in norm_names()}, None)
    return Accepted(
        indices,
        {n: np.array([search.reached[norm][row][n] for row in rows]) for n in norm_names()},
        store.put(indices, np.stack([search.examples[norm][row] for row in rows])),
        {"source": np.array([search.sources[norm][row] for row in rows])},
    )


def _ids(session: Session, entry: Entry, dataset: Dataset) -> tuple[int, int] | None:
    model_id = session.scalar(select(Model.id).where(Model.slug == entry.slug, Model.digest == entry.digest))
    dataset_id = session.scalar(
        select(DatasetRow.id).where(DatasetRow.name == dataset.name, DatasetRow.digest == dataset.digest)
    )
    return None if model_id is None or dataset_id is None else (model_id, dataset_id)


def _sources(session: Session, model_id: int, dataset_id: int) -> list[Source]:
    """The evidence files of other models on the dataset that were not tried on this model yet."""
    mine = select(Evaluation.provenance).where(
        Evaluation.model_id == model_id,
        Evaluation.dataset_id == dataset_id,
        Evaluation.measure == "transfer",
        Evaluation.state == State.DONE,
    )
    tried = {digest for recorded in session.scalars(mine) for digest in recorded.get("tried", ())}
    query = (
        select(Chunk.evidence_digest, Model.slug)
        .join(Evaluation, Chunk.evaluation_id == Evaluation.id)
        .join(Model, Evaluation.model_id == Model.id)
        .where(
            Evaluation.dataset_id == dataset_id,
            Evaluation.model_id != model_id,
            Evaluation.state == State.DONE,
            Chunk.evidence_digest.is_not(None),
        )
        .order_by(Evaluation.id, Chunk.start)
    )
    found: dict[str, Source] = {}
    for digest, slug in session.execute(query):
        if digest not in tried:
            found.setdefault(str(digest), Source(str(digest), slug))
    return list(found.values())
