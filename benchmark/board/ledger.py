"""The ledger: per model, dataset and threat, the smallest verified adversarial distance of each sample. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

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


@dataclass(frozen=True)
class Contribution:
    """Verified distances of some samples, from one evaluation.

    Attributes:
        evaluation_id: Which.
        samples: Their indices, shape (k,), int64.
        distances: Shape (k,), float64.
    """

    evaluation_id: int
    samples: NDArray[np.int64]
    distances: NDArray[np.float64]


def merged(contributions: Iterable[Contribution], n: int) -> Ledger:
    """The ledger of the first ``n`` samples from contributions in the order in which they joined it."""
    result = Ledger(np.full(n, np.inf), np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.bool_))
    for part in contributions:
        inside = part.samples < n
        samples, distances = part.samples[inside], np.asarray(part.distances)[inside]
        lower = distances < result.distances[samples]
        result.distances[samples[lower]] = distances[lower]
        result.source[samples[lower]] = part.evaluation_id
        result.covered[samples] = True
    return result


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
        norm: Key of the threat; a norm's name for the untargeted one.
        n: Size of the slice.
        as_of: Only evaluations finished by then.
        without: Ids of evaluations to leave out: what would the ledger be without them?
    """
    found = contributions(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=n, as_of=as_of)
    return merged((part for _, part in found if part.evaluation_id not in without), n)


def contributions(
    session: Session, *, model_id: int, dataset_id: int, norm: str, n: int, as_of: datetime | None = None
) -> Iterator[tuple[Evaluation, Contribution]]:
    """What each finished evaluation brings to the ledger, chunk by chunk, in the order in which they finished."""
    query = (
        select(Evaluation, Chunk.start, Array.data)
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
    for evaluation, start, distances in session.execute(query):
        samples = np.arange(start, start + len(distances), dtype=np.int64)
        yield evaluation, Contribution(evaluation.id, samples, distances)
