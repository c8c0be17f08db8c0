"""The arrays and circumstances of some evaluations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.queries.records import EvaluationDetail, FlagInfo, ScoreInfo, TableInfo
from db.schema import Array, Chunk, Evaluation, Flag, Score, State, SummaryTable


@dataclass(frozen=True)
class EvaluationData:
    """An evaluation's arrays, its chunks joined.

    Attributes:
        detail: Its circumstances.
        arrays: Each named array's values, shape (k, ...), in the order of ``samples[name]``.
        samples: For each array the indices of its samples in the dataset, shape (k,), int64.
        evidence: (first sample, one past the last, digest) of the files of its adversarial examples, by chunk.
    """

    detail: EvaluationDetail
    arrays: Mapping[str, NDArray[Any]]
    samples: Mapping[str, NDArray[np.int64]]
    evidence: tuple[tuple[int, int, str], ...]


def row_data(session: Session, evaluation_ids: Sequence[int]) -> dict[int, EvaluationData]:
    """Everything recorded of these evaluations, by id, in the order given."""
    details = _details(session, evaluation_ids)
    pieces: dict[int, dict[str, list[tuple[int, NDArray[Any]]]]] = defaultdict(lambda: defaultdict(list))
    query = (
        select(Chunk.evaluation_id, Chunk.start, Array.name, Array.data)
        .join(Array, Array.chunk_id == Chunk.id)
        .where(Chunk.evaluation_id.in_(evaluation_ids))
        .order_by(Chunk.evaluation_id, Chunk.start, Array.name)
    )
    for evaluation_id, start, name, data in session.execute(query):
        pieces[evaluation_id][name].append((start, data))
    evidence: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    digests = (
        select(Chunk.evaluation_id, Chunk.start, Chunk.stop, Chunk.evidence_digest)
        .where(Chunk.evaluation_id.in_(evaluation_ids), Chunk.evidence_digest.is_not(None))
        .order_by(Chunk.evaluation_id, Chunk.start)
    )
    for evaluation_id, start, stop, digest in session.execute(digests):
        evidence[evaluation_id].append((start, stop, str(digest)))
    return {
        key: EvaluationData(
            details[key],
            {name: np.concatenate([data for _, data in parts]) for name, parts in pieces[key].items()},
            {name: _indices(parts) for name, parts in pieces[key].items()},
            tuple(evidence[key]),
        )
        for key in evaluation_ids
    }


def _indices(parts: Sequence[tuple[int, NDArray[Any]]]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(start, start + len(data), dtype=np.int64) for start, data in parts])


def _details(session: Session, evaluation_ids: Sequence[int]) -> dict[int, EvaluationDetail]:
    scores: dict[int, list[ScoreInfo]] = defaultdict(list)
    for row in session.execute(
        select(
            Score.evaluation_id,
            Score.name,
            Score.value,
            Score.low,
            Score.high,
            Score.confidence,
            Score.unit,
            Score.direction,
        )
        .where(Score.evaluation_id.in_(evaluation_ids))
        .order_by(Score.id)
    ):
        scores[row.evaluation_id].append(ScoreInfo(*row[1:]))
    flags: dict[int, list[FlagInfo]] = defaultdict(list)
    for flag in session.execute(
        select(Flag.evaluation_id, Flag.code, Flag.message, Flag.value)
        .where(Flag.evaluation_id.in_(evaluation_ids))
        .order_by(Flag.id)
    ):
        flags[flag.evaluation_id].append(FlagInfo(*flag[1:]))
    tables: dict[int, list[TableInfo]] = defaultdict(list)
    for table in session.scalars(
        select(SummaryTable).where(SummaryTable.evaluation_id.in_(evaluation_ids)).order_by(SummaryTable.id)
    ):
        values, low, high = table.data
        tables[table.evaluation_id].append(TableInfo(table.name, values, low, high, table.confidence))
    costs = {
        row.evaluation_id: tuple(row[1:])
        for row in session.execute(
            select(
                Chunk.evaluation_id,
                func.sum(Chunk.seconds),
                func.sum(Chunk.forward_passes),
                func.sum(Chunk.backward_passes),
            )
            .where(Chunk.evaluation_id.in_(evaluation_ids))
            .group_by(Chunk.evaluation_id)
        )
    }
    query = select(Evaluation.id, Evaluation.started_at, Evaluation.samples, Evaluation.provenance).where(
        Evaluation.id.in_(evaluation_ids)
    )
    details = {}
    for found in session.execute(query):
        key, started_at, samples, provenance = found
        seconds, forward, backward = costs.get(key, (0.0, 0, 0))
        details[key] = EvaluationDetail(
            evaluation_id=key,
            started_at=started_at,
            samples=samples,
            provenance=provenance,
            seconds=float(seconds),
            forward_passes=int(forward),
            backward_passes=int(backward),
            scores=tuple(scores[key]),
            flags=tuple(flags[key]),
            tables=tuple(tables[key]),
        )
    return details


def largest_distance(session: Session, dataset_id: int, threat: str) -> float:
    """The largest finite distance that an attack under a threat has found on a dataset; 0 without any.

    An example that was found under another threat has a distance under this one too, which says nothing.
    """
    declared = select(Evaluation.id, Evaluation.outputs).where(
        Evaluation.dataset_id == dataset_id, Evaluation.state == State.DONE
    )
    ids = [
        number
        for number, outputs in session.execute(declared)
        if any(output["kind"] == "upper" and output.get("threat") == threat for output in outputs)
    ]
    query = (
        select(Array.data)
        .join(Chunk, Array.chunk_id == Chunk.id)
        .where(Chunk.evaluation_id.in_(ids), Array.name == f"distance_{threat}")
    )
    finite = (values[np.isfinite(values)] for values in session.scalars(query))
    return max((float(values.max()) for values in finite if len(values)), default=0.0)
