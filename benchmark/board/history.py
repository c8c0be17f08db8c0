"""The changelog: what a finished evaluation changed on the boards, written in the transaction that finishes it.

A row of a board enters the changelog when it first has all its evaluations (``model-added``, or ``new-weights`` of a
model that was there before), with its robust accuracies and ranks in the norms in which it was attacked. From then on
whatever lowers one of its distances makes an entry: which samples, by whom, and what it did to accuracies and ranks.
What is withdrawn makes one too (`benchmark.board.withdraw`): the row leaves the board until it is complete again, or
its accuracies rise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.credit import contributor
from benchmark.board.ledger import Ledger, ledger
from benchmark.board.norms import ledger_norms
from benchmark.board.standings import (
    Accuracies,
    Board,
    Field,
    complete_rows,
    of_newest,
    remembered,
    row_accuracies,
    searched,
    standing,
)
from benchmark.threat import norm_names
from db.schema import Array, Change, Chunk, Evaluation, Model, State

MODEL_ADDED: Final = "model-added"
NEW_WEIGHTS: Final = "new-weights"
RETURNED: Final = "model-returned"
"""Kind of entry when a row is complete again after something of it was withdrawn."""
LOWERED: Final = "distances-lowered"
"""Kind of entry when an evaluation lowered distances, unless its measure names another (`Method.change`)."""


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
    present: dict[int, dict[Board, Field]] = {}
    for row_model, dataset_id, board in complete_rows(session, model_id):
        if dataset_id not in present:
            present[dataset_id] = remembered(session, dataset_id)
        field = present[dataset_id].setdefault(board, Field())
        if row_model in field.rows:
            continue
        kind, older = _how_it_joins(session, field, row_model)
        before = of_newest(session, field.rows)
        norms = searched(session, row_model, dataset_id, board)
        field.rows[row_model] = row_accuracies(session, row_model, dataset_id, board.n, norms)
        field.been.add(row_model)
        ranked = of_newest(session, field.rows)
        told = {
            norm: [
                {
                    "eps": eps,
                    "before": _known(before, older, norm, eps),
                    "after": standing({**ranked, row_model: field.rows[row_model]}, row_model, norm, eps),
                }
                for eps in budgets
            ]
            for norm, budgets in field.rows[row_model].items()
        }
        detail = {"boards": [board.detail(told, rows=len(ranked))]}
        entries.append(
            Change(at=datetime.now(UTC), kind=kind, model_id=row_model, dataset_id=dataset_id, detail=detail)
        )
    session.add_all(entries)
    session.flush()
    return entries


def _how_it_joins(session: Session, field: Field, model_id: int) -> tuple[str, int | None]:
    """The kind of entry, and the model whose place the row takes, if it takes one."""
    if model_id in field.been:
        return RETURNED, None
    slug = session.get_one(Model, model_id).slug
    older = session.scalars(select(Model.id).where(Model.slug == slug, Model.id < model_id).order_by(Model.id)).all()
    before = [other for other in older if other in field.been]
    if not before:
        return MODEL_ADDED, None
    return NEW_WEIGHTS, next((other for other in reversed(before) if other in field.rows), None)


def _known(rows: Mapping[int, Accuracies], model_id: int | None, norm: str, eps: float) -> dict[str, Any] | None:
    if model_id is None or eps not in rows.get(model_id, {}).get(norm, {}):
        return None
    return standing(rows, model_id, norm, eps)


def _record_lowered(session: Session, evaluation: Evaluation) -> Change | None:
    model_id, dataset_id = evaluation.model_id, evaluation.dataset_id
    fields = {board: field for board, field in remembered(session, dataset_id).items() if model_id in field.rows}
    kind = str(evaluation.provenance.get("method", {}).get("change") or LOWERED)
    brought = kind != LOWERED  # by somebody, or from another model: told even while the row is on no board
    if not fields and not brought:
        return None  # part of the row's first evaluation: its entry comes when the row is complete
    n = evaluation.dataset.size
    ledgers = {
        norm: tuple(
            ledger(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=n, without=without)
            for without in (frozenset({evaluation.id}), frozenset[int]())
        )
        for norm in ledger_norms(session, dataset_id=dataset_id, model_id=model_id)
    }
    lowered = {norm: _lowered(before, after) for norm, (before, after) in ledgers.items()}
    lowered = {norm: found for norm, found in lowered.items() if found["lowered"] + found["new"]}
    if not lowered:
        return None
    boards = []
    for board, field in fields.items():
        told = {norm for norm, (was, now) in ledgers.items() if _fell(was, now, board.n)}
        boards += board_moves(session, model_id, dataset_id, board=board, field=field, told=told)
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


def board_moves(
    session: Session,
    model_id: int,
    dataset_id: int,
    *,
    board: Board,
    field: Field,
    told: Collection[str] = (),
) -> list[dict[str, Any]]:
    """What a change did to a row of a board, as its entry holds it; nothing if it did nothing.

    For each norm in which a robust accuracy is another than the changelog remembers, and for those of ``told``:
    accuracy and rank before and now, at each published budget.
    """
    was = field.rows[model_id]
    # A norm that the row was attacked in stays, while a new attack in it is still to come.
    known = searched(session, model_id, dataset_id, board) | was.keys()
    now = row_accuracies(session, model_id, dataset_id, board.n, known)
    others = {other: row for other, row in of_newest(session, field.rows).items() if other != model_id}
    before, after = {**others, model_id: was}, {**others, model_id: now}
    norms = {
        norm: [
            {"eps": e, "before": _known(before, model_id, norm, e), "after": standing(after, model_id, norm, e)}
            for e in budgets
        ]
        for norm, budgets in now.items()
        if norm in told or was.get(norm) != budgets
    }
    return [board.detail(norms, rows=len(after))] if norms else []


def _fell(before: Ledger, after: Ledger, n: int) -> bool:
    """Whether something is nearer that had been looked at before, among the first ``n`` samples."""
    return bool((before.covered & (after.distances < before.distances))[:n].any())


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


def _brings_distances(session: Session, evaluation: Evaluation) -> bool:
    query = (
        select(Array.id)
        .join(Chunk, Array.chunk_id == Chunk.id)
        .where(Chunk.evaluation_id == evaluation.id, Array.name.in_([f"distance_{norm}" for norm in norm_names()]))
        .limit(1)
    )
    return session.scalar(query) is not None
