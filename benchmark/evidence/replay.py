"""Transfer replay: adversarial examples of some models tried on another, with forward passes only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session
from torch import nn

from benchmark.data import Dataset
from benchmark.evidence.check import Subject
from benchmark.evidence.proofs import proofs_of
from benchmark.evidence.store import EvidenceStore
from benchmark.threat import distances
from benchmark.verification import verify
from db.schema import Chunk, Evaluation, Model, State
from db.schema import Dataset as DatasetRow
from db.session import Database
from models_zoo import Entry

BATCH = 500


@dataclass(frozen=True)
class Source:
    """An evidence file of another model."""

    digest: str
    slug: str


@dataclass
class Search:
    """The nearest examples so far.

    Attributes:
        best: Norm -> the smallest distance of each sample of the dataset.
        examples: Norm -> sample -> the example that came nearer than the ledger.
        sources: Norm -> sample -> the model it was made for.
        files: The evidence files tried; those tried before are not tried again.
        tried: Examples in them, on samples the board has of this model.
        passed: Examples near enough to lower something, and so passed through the model.
    """

    best: dict[str, NDArray[np.float64]]
    examples: defaultdict[str, dict[int, NDArray[np.float32]]] = field(default_factory=lambda: defaultdict(dict))
    sources: defaultdict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    files: Sequence[Source] = ()
    tried: int = 0
    passed: int = 0


def search(
    database: Database,
    store: EvidenceStore,
    *,
    entry: Entry,
    model: nn.Module,
    dataset: Dataset,
    device: str = "cpu",
) -> Search:
    """Try every stored adversarial example of other models on one model; nothing is changed.

    Only samples that the board has of this model are tried.

    Args:
        database: The database.
        store: Its evidence.
        entry: The model the examples are tried on.
        model: The same, loaded, on ``device``.
        dataset: The dataset.
        device: Where to check.

    Raises:
        EvidenceError: If a file of evidence is missing or damaged.
    """
    with database.read() as session:
        ids = _ids(session, entry, dataset)
        if ids is None:
            return Search({})
        sources = _sources(session, *ids)
        proofs = proofs_of(session, model_id=ids[0], dataset_id=ids[1])
    covered = np.any([found.covered for found in proofs.ledgers.values()], axis=0)
    if not sources or not covered.any():
        return Search({})
    found = Search({norm: known.distances.copy() for norm, known in proofs.ledgers.items()}, files=sources)
    images, labels = dataset.load(int(np.flatnonzero(covered)[-1]) + 1)
    subject = Subject(entry.slug, model, images, labels, device)
    for source in sources:
        indices, examples = store.get(source.digest)
        rows = np.flatnonzero(covered[indices])
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            _try(found, subject, indices[part], examples[part], slug=source.slug)
    return found


def _try(
    found: Search, subject: Subject, indices: NDArray[np.int64], examples: NDArray[np.float32], *, slug: str
) -> None:
    """Try some examples; those too far away to lower anything are not passed through the model."""
    found.tried += len(indices)
    where = torch.from_numpy(indices)
    x, candidates = subject.images[where], torch.from_numpy(examples)
    near = np.zeros(len(indices), dtype=np.bool_)
    for norm in found.best:
        near |= distances(x, candidates, norm).numpy() < found.best[norm][indices]
    if not near.any():
        return
    kept = torch.from_numpy(near)
    found.passed += int(near.sum())
    clean, y = x[kept].to(subject.device), subject.labels[where][kept].to(subject.device)
    checked = verify(subject.model, clean, y, candidates[kept].to(subject.device))
    measured = {norm: found.numpy() for norm, found in checked.distances.items()}
    for row, index in enumerate(indices[near].tolist()):
        if not checked.holds[row]:
            continue
        reached = {norm: float(values[row]) for norm, values in measured.items()}
        for norm in found.best:
            if reached[norm] < found.best[norm][index]:
                found.best[norm][index] = reached[norm]
                found.examples[norm][index] = examples[near][row]
                found.sources[norm][index] = slug


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
