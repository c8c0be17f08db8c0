"""Which stored example proves which distance of the ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.ledger import Ledger, ledger
from benchmark.board.norms import ledger_norms
from db.schema import Chunk, Dataset, Evaluation, State


@dataclass(frozen=True)
class ProvingChunk:
    """A chunk of a finished evaluation.

    Attributes:
        evaluation_id: Of which evaluation.
        chunk_id: Its row.
        start: First sample.
        stop: One past the last sample.
        digest: Its evidence file, if there is one.
    """

    evaluation_id: int
    chunk_id: int
    start: int
    stop: int
    digest: str | None


@dataclass(frozen=True)
class Proofs:
    """The ledgers of a model on a dataset, and what they rest on.

    Attributes:
        ledgers: Norm -> the ledger of the whole dataset, of each of the `ledger_norms`.
        samples: Evaluation -> the samples whose example it must have, in any norm, shape (size,), bool.
        chunks: The chunks of all finished evaluations, in order.
    """

    ledgers: Mapping[str, Ledger]
    samples: Mapping[int, NDArray[np.bool_]]
    chunks: Sequence[ProvingChunk]


def proofs_of(session: Session, *, model_id: int, dataset_id: int) -> Proofs:
    """What the ledgers of a model rest on."""
    size = session.get_one(Dataset, dataset_id).size
    ledgers = {
        norm: ledger(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=size)
        for norm in ledger_norms(session, dataset_id=dataset_id, model_id=model_id)
    }
    samples: dict[int, NDArray[np.bool_]] = defaultdict(lambda: np.zeros(size, dtype=np.bool_))
    for found in ledgers.values():
        proven = np.isfinite(found.distances) & (found.distances > 0)  # a misclassified image needs no example
        for evaluation_id in np.unique(found.source[proven]).tolist():
            samples[evaluation_id] |= proven & (found.source == evaluation_id)
    query = (
        select(Chunk.evaluation_id, Chunk.id, Chunk.start, Chunk.stop, Chunk.evidence_digest)
        .join(Evaluation, Chunk.evaluation_id == Evaluation.id)
        .where(Evaluation.model_id == model_id, Evaluation.dataset_id == dataset_id, Evaluation.state == State.DONE)
        .order_by(Chunk.evaluation_id, Chunk.start)
    )
    return Proofs(ledgers, dict(samples), [ProvingChunk(*row) for row in session.execute(query)])


def rows_with_evidence(session: Session) -> list[tuple[int, int]]:
    """All (model, dataset) pairs that have finished evaluations, by id."""
    query = select(Evaluation.model_id, Evaluation.dataset_id).where(Evaluation.state == State.DONE).distinct()
    return sorted((model_id, dataset_id) for model_id, dataset_id in session.execute(query))
