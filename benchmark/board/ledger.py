"""The ledger: per model, dataset and norm, the smallest verified adversarial distance of each sample."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.schema import Array, Chunk, Evaluation, State


@dataclass(frozen=True)
class Ledger:
    """The smallest verified distances.

    Attributes:
        distances: Shape (n,), float64: 0 where misclassified, ``inf`` where nothing was found.
        source: Id of the evaluation whose example is the nearest, shape (n,), int64; -1 where there is none. Of equal
            distances the earliest evaluation's.
        covered: Samples that some evaluation looked at, shape (n,), bool; the others' ``inf`` says nothing.
    """

    distances: NDArray[np.float64]
    source: NDArray[np.int64]
    covered: NDArray[np.bool_]


def ledger(
    session: Session,
    *,
    model_id: int,
    dataset_id: int,
    norm: str,
    n: int,
    as_of: datetime | None = None,
    without: frozenset[int] = frozenset(),
) -> Ledger:
    """The ledger of the first ``n`` samples.

    Args:
        session: An open session.
        model_id: The model.
        dataset_id: The dataset.
        norm: ``linf``, ``l2`` or ``l1``.
        n: Size of the slice.
        as_of: Only evaluations finished by then.
        without: Ids of evaluations to leave out: what would the ledger be without them?
    """
    result = Ledger(np.full(n, np.inf), np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.bool_))
    query = (
        select(Evaluation.id, Chunk.start, Array.data)
        .join(Chunk, Chunk.evaluation_id == Evaluation.id)
        .join(Array, Array.chunk_id == Chunk.id)
        .where(
            Evaluation.model_id == model_id,
            Evaluation.dataset_id == dataset_id,
            Evaluation.state == State.DONE,
            Array.name == f"distance_{norm}",
            Chunk.start < n,
        )
        .order_by(Evaluation.finished_at, Evaluation.id, Chunk.start)
    )
    if as_of is not None:
        query = query.where(Evaluation.finished_at <= as_of)
    for evaluation_id, start, distances in session.execute(query):
        if evaluation_id not in without:
            _merge(result, evaluation_id, start, distances)
    return result


def _merge(result: Ledger, evaluation_id: int, start: int, distances: NDArray[Any]) -> None:
    part = slice(start, min(start + len(distances), len(result.distances)))
    distances = distances[: part.stop - part.start]
    lower = distances < result.distances[part]
    result.distances[part][lower] = distances[lower]
    result.source[part][lower] = evaluation_id
    result.covered[part] = True
