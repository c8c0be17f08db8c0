"""What is recorded of a row's evaluations; in verdicts on everything known whatever broke a sample later counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from benchmark.board.ledger import Ledger, contributions, merged
from benchmark.curve import proportion_interval
from benchmark.results import Output, verdicts
from db import queries
from db.queries import EvaluationData, EvaluationInfo, Row, ScoreInfo


def row_data(session: Session, row: Row, evaluations: Sequence[EvaluationInfo]) -> dict[int, EvaluationData]:
    """Everything recorded of some of a row's evaluations, by id, in the order given.

    A verdict that speaks of everything known (`Output.ledger`) is joined with the row's ledger.
    """
    found = queries.row_data(session, [evaluation.id for evaluation in evaluations])
    for evaluation in evaluations:
        declared = [Output.from_json(values) for values in evaluation.outputs]
        for output in declared:
            if output.kind == "verdict" and output.ledger and output.array in found[evaluation.id].arrays:
                known = _ledger(session, row, evaluation, output.threat or "")
                found[evaluation.id] = _joined(found[evaluation.id], output, declared, known)
    return found


def _ledger(session: Session, row: Row, evaluation: EvaluationInfo, threat: str) -> Ledger:
    """The ledger of an evaluation's samples, of what the row has: nothing from after the moment it is read as of."""
    own, n = {one.id for one in row.done}, evaluation.samples
    parts = contributions(session, model_id=evaluation.model_id, dataset_id=evaluation.dataset_id, norm=threat, n=n)
    return merged((part for joined, part in parts if joined.id in own), n)


def _joined(data: EvaluationData, output: Output, declared: Sequence[Output], known: Ledger) -> EvaluationData:
    distances = known.distances[data.samples[output.array]]
    stored = data.arrays[output.array]
    before, lately = verdicts(output, stored), verdicts(output, distances)
    if not (before & ~lately).any():
        return data
    array = before & lately if stored.dtype.kind == "b" else np.minimum(stored, distances)
    spoken = output.threat, output.eps
    shares = {o.name for o in declared if o.kind == "scalar" and o.ledger and (o.threat, o.eps) == spoken}
    scores = tuple(_share(s, before & lately) if s.name in shares else s for s in data.detail.scores)
    return replace(data, arrays={**data.arrays, output.array: array}, detail=replace(data.detail, scores=scores))


def _share(score: ScoreInfo, robust: NDArray[np.bool_]) -> ScoreInfo:
    """The share of robust samples in the place of what was counted earlier."""
    low, high = proportion_interval(robust.sum(), len(robust), confidence=score.confidence or 0.95)
    return replace(score, value=float(robust.mean()), low=float(low), high=float(high))
