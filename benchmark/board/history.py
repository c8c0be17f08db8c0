"""The changelog: what a finished evaluation changed on the boards, written in the transaction that finishes it.

A row of a board enters the changelog when it first has all its evaluations (``model-added``, with its robust accuracies
and ranks). From then on whatever lowers one of its distances makes an entry: which samples, by whom, and what it did to
accuracies and ranks. An entry holds the accuracies after the change, so the present ranks can be read off the changelog
itself: finishing an evaluation never loads the ledgers of a thousand other models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmark.board.credit import contributor
from benchmark.board.ledger import Ledger, ledger
from benchmark.board.norms import ledger_norms
from benchmark.threat import norm_names
from benchmark.threat.budget import within
from db.queries.completeness import SETTLED, missing, unsearched
from db.schema import Array, Cell, Change, Chunk, Dataset, Evaluation, Model, Protocol, State

MODEL_ADDED: Final = "model-added"
LOWERED: Final = "distances-lowered"
"""Kind of entry when an evaluation lowered distances, unless its measure names another (`Method.change`)."""

Accuracies = dict[str, dict[float, float]]
"""Norm -> published eps -> robust accuracy."""


@dataclass(frozen=True)
class Board:
    """Rows that are ranked together, on one dataset."""

    protocol: str
    version: int
    n: int


def record_change(session: Session, evaluation: Evaluation) -> Change | None:
    """Write down what an evaluation that has just become final changed; call it before the transaction commits.

    Args:
        session: The writing session.
        evaluation: The evaluation, done or found not to apply.

    Returns:
        The entry about lowered distances, if there is one. Rows that are complete now get entries of their own.
    """
    session.flush()
    # Two evaluators that finish the last two evaluations of a row at once must see each other (PostgreSQL).
    session.get_one(Model, evaluation.model_id, with_for_update=True)
    change = None
    if evaluation.state == State.DONE and _brings_distances(session, evaluation):
        change = _record_lowered(session, evaluation)
    record_rows(session, model_id=evaluation.model_id)
    return change


def record_rows(session: Session, *, model_id: int | None = None) -> list[Change]:
    """Enter rows that have all their evaluations and are not in the changelog yet.

    Args:
        session: The writing session.
        model_id: Only rows of this model; by default all.
    """
    entries = []
    present: dict[int, dict[Board, dict[int, Accuracies]]] = {}
    for row_model, dataset_id, board in _complete_rows(session, model_id):
        if dataset_id not in present:
            present[dataset_id] = _published(session, dataset_id)
        field = present[dataset_id].setdefault(board, {})
        if row_model in field:
            continue
        accuracies = {
            norm: _accuracies(_ledger(session, row_model, dataset_id, norm, board.n), eps)
            for norm, eps in _published_eps(session.get_one(Dataset, dataset_id)).items()
        }
        field[row_model] = accuracies
        ranked = _of_newest(session, field)
        norms = {
            norm: [
                {"eps": eps, "before": None, "after": _standing(ranked, row_model, norm, eps)}
                for eps in accuracies[norm]
            ]
            for norm in accuracies
        }
        detail = {"boards": [_board_detail(board, norms, rows=len(ranked))]}
        entries.append(
            Change(at=datetime.now(UTC), kind=MODEL_ADDED, model_id=row_model, dataset_id=dataset_id, detail=detail)
        )
    session.add_all(entries)
    session.flush()
    return entries


def _record_lowered(session: Session, evaluation: Evaluation) -> Change | None:
    model_id, dataset_id = evaluation.model_id, evaluation.dataset_id
    published = {b: field for b, field in _published(session, dataset_id).items() if model_id in field}
    kind = _kind(evaluation)
    brought = kind != LOWERED  # by somebody, or from another model: told even while the row is on no board
    if not published and not brought:
        return None  # part of the row's first evaluation: its entry comes when the row is complete
    n = evaluation.dataset.size
    ledgers = {
        norm: (
            _ledger(session, model_id, dataset_id, norm, n, without=evaluation.id),
            _ledger(session, model_id, dataset_id, norm, n),
        )
        for norm in ledger_norms(session, dataset_id=dataset_id, model_id=model_id)
    }
    lowered = {norm: _lowered(before, after) for norm, (before, after) in ledgers.items()}
    lowered = {norm: found for norm, found in lowered.items() if found["lowered"] + found["new"]}
    if not lowered:
        return None
    boards = []
    for board, field in published.items():
        norms = dict(_moves(evaluation, board, _of_newest(session, field), ledgers))
        if norms:
            boards.append(_board_detail(board, norms, rows=len(_of_newest(session, field))))
    if not boards and not brought:
        return None
    change = Change(
        at=evaluation.finished_at or datetime.now(UTC),
        kind=kind,
        model_id=model_id,
        dataset_id=dataset_id,
        evaluation_id=evaluation.id,
        detail={
            "by": contributor(evaluation.measure, evaluation.parameters, evaluation.provenance),
            "measure": evaluation.measure,
            "norms": lowered,
            "boards": boards,
        }
        | ({"sources": evaluation.provenance["sources"]} if "sources" in evaluation.provenance else {}),
    )
    session.add(change)
    session.flush()
    return change


def _kind(evaluation: Evaluation) -> str:
    return str(evaluation.provenance.get("method", {}).get("change") or LOWERED)


def _moves(
    evaluation: Evaluation,
    board: Board,
    field: Mapping[int, Accuracies],
    ledgers: Mapping[str, tuple[Ledger, Ledger]],
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """For each norm in which the row's distances fell: accuracy and rank before and after, at each published eps."""
    model_id = evaluation.model_id
    row = field.get(model_id, {})
    for norm, (before, after) in ledgers.items():
        if not (after.distances[: board.n] < before.distances[: board.n]).any():
            continue
        eps = _published_eps(evaluation.dataset).get(norm, [])
        was = {**field, model_id: row | {norm: _accuracies(before, eps, n=board.n)}}
        now = {**field, model_id: row | {norm: _accuracies(after, eps, n=board.n)}}
        yield (
            norm,
            [
                {"eps": e, "before": _standing(was, model_id, norm, e), "after": _standing(now, model_id, norm, e)}
                for e in eps
            ],
        )


def _standing(field: Mapping[int, Accuracies], model_id: int, norm: str, eps: float) -> dict[str, Any]:
    """Robust accuracy, and the rank it gives: one more than the rows that are strictly better."""
    own = field[model_id][norm][eps]
    better = sum(row.get(norm, {}).get(eps, -1.0) > own for row in field.values())
    return {"robust_accuracy": own, "rank": better + 1}


def _board_detail(board: Board, norms: Mapping[str, Any], *, rows: int) -> dict[str, Any]:
    return {"protocol": board.protocol, "version": board.version, "n": board.n, "rows": rows, "norms": dict(norms)}


def _lowered(before: Ledger, after: Ledger) -> dict[str, Any]:
    """How many distances fell (of those somebody had looked at), were first found, and the largest fall."""
    lower = after.distances < before.distances
    news = lower & ~before.covered
    lower &= before.covered
    found = lower & np.isinf(before.distances)
    detail: dict[str, Any] = {"lowered": int(lower.sum()), "found": int(found.sum()), "new": int(news.sum())}
    fallen = np.flatnonzero(lower & ~found)
    if len(fallen):
        index = int(fallen[np.argmax(before.distances[fallen] - after.distances[fallen])])
        detail["largest"] = {
            "index": index,
            "before": float(before.distances[index]),
            "after": float(after.distances[index]),
        }
    return detail


def _published(session: Session, dataset_id: int) -> dict[Board, dict[int, Accuracies]]:
    """The boards of a dataset as the changelog leaves them: board -> model -> robust accuracies."""
    boards: dict[Board, dict[int, Accuracies]] = {}
    query = select(Change).where(Change.dataset_id == dataset_id, Change.model_id.is_not(None)).order_by(Change.id)
    for change in session.scalars(query):
        assert change.model_id is not None
        for detail in change.detail.get("boards", ()):
            board = Board(detail["protocol"], detail["version"], detail["n"])
            row = boards.setdefault(board, {}).setdefault(change.model_id, {})
            for norm, points in detail["norms"].items():
                row[norm] = {point["eps"]: point["after"]["robust_accuracy"] for point in points}
    return boards


def _of_newest(session: Session, field: Mapping[int, Accuracies]) -> dict[int, Accuracies]:
    """Only the newest row of each slug: new weights replace the old ones on the board."""
    query = select(Model.slug, func.max(Model.id)).where(Model.id.in_(field)).group_by(Model.slug)
    newest = {model_id for _, model_id in session.execute(query)}
    return {model_id: row for model_id, row in field.items() if model_id in newest}


def _complete_rows(session: Session, model_id: int | None) -> list[tuple[int, int, Board]]:
    query = (
        select(Cell.model_id, Cell.dataset_id, Cell.protocol_id, Cell.n, Evaluation)
        .join(Evaluation, Cell.evaluation_id == Evaluation.id)
        .order_by(Cell.model_id, Cell.dataset_id, Cell.protocol_id, Cell.n, Evaluation.id)
    )
    if model_id is not None:
        query = query.where(Cell.model_id == model_id)
    rows: dict[tuple[int, int, int, int], list[Evaluation]] = {}
    for *row, evaluation in session.execute(query):
        rows.setdefault((row[0], row[1], row[2], row[3]), []).append(evaluation)
    found = []
    for (model, dataset, protocol_id, n), planned in rows.items():
        if any(evaluation.state not in SETTLED for evaluation in planned):
            continue
        protocol = session.get_one(Protocol, protocol_id)
        if missing(protocol.spec, session.get_one(Dataset, dataset).card.get("eps", {}), planned):
            continue
        if not unsearched(planned, _done(session, model, dataset), n):
            found.append((model, dataset, Board(protocol.name, protocol.version, n)))
    return found


def _done(session: Session, model_id: int, dataset_id: int) -> Iterator[Evaluation]:
    query = select(Evaluation).where(
        Evaluation.model_id == model_id, Evaluation.dataset_id == dataset_id, Evaluation.state == State.DONE
    )
    yield from session.scalars(query)


def _published_eps(dataset: Dataset) -> dict[str, list[float]]:
    eps = dataset.card.get("eps", {})
    return {norm: [float(value) for value in eps[norm]] for norm in norm_names() if norm in eps}


def _accuracies(found: Ledger, eps: list[float], *, n: int | None = None) -> dict[float, float]:
    distances = found.distances[:n]
    return {e: float(np.mean(~within(distances, e))) for e in eps}


def _ledger(
    session: Session, model_id: int, dataset_id: int, norm: str, n: int, *, without: int | None = None
) -> Ledger:
    left_out = frozenset() if without is None else frozenset({without})
    return ledger(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=n, without=left_out)


def _brings_distances(session: Session, evaluation: Evaluation) -> bool:
    query = (
        select(Array.id)
        .join(Chunk, Array.chunk_id == Chunk.id)
        .where(Chunk.evaluation_id == evaluation.id, Array.name.in_([f"distance_{norm}" for norm in norm_names()]))
        .limit(1)
    )
    return session.scalar(query) is not None
