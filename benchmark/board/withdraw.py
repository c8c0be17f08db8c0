"""Withdrawing what turned out to be wrong: it leaves the ledger, and the changelog says why. Nothing is deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.history import board_moves
from benchmark.board.record import release
from benchmark.board.standings import complete_rows, of_newest, remembered
from benchmark.errors import InputError
from db.schema import Change, Evaluation, Model, State
from db.texts import plain

WITHDRAWN: Final = "withdrawn"
"""Kind of the changelog's entry."""


def withdraw_model(session: Session, slug: str, reason: str) -> list[Change]:
    """Take every row of a model off the boards; its evaluations stay as they are.

    Raises:
        InputError: If there is no such model, or it is withdrawn already.
    """
    _require_reason(reason)
    models = list(session.scalars(select(Model).where(Model.slug == slug).order_by(Model.id)))
    if not models:
        raise InputError(f"There is no model {slug!r} in the database; curveboard status lists them.")
    standing = [model for model in models if model.withdrawn is None]
    if not standing:
        raise InputError(f"The model {slug!r} is withdrawn already: {models[-1].withdrawn}")
    for model in standing:
        model.withdrawn = reason
    return [
        _change(session, model.id, None, None, {"what": f"model {slug}", "reason": plain(reason)}) for model in standing
    ]


def withdraw_evaluations(
    session: Session,
    reason: str,
    *,
    key: str | None = None,
    measure: str | None = None,
    attack: str | None = None,
    attack_version: int | None = None,
    model: str | None = None,
) -> list[Change]:
    """Take finished evaluations out of the ledger.

    They are not run again, unless with ``--rerun failed``.

    Args:
        session: A writing session.
        reason: Why.
        key: The one of this key, or of the key that begins so (8 digits at least).
        measure: All of this measure.
        attack: All of this attack.
        attack_version: Only those of this version of the attack.
        model: Only those of this model.

    Raises:
        InputError: If nothing is named, or nothing finished is of that kind.
    """
    _require_reason(reason)
    if key is None and measure is None and attack is None:
        raise InputError("Name what is withdrawn: an evaluation's key, a measure or an attack.")
    if key is not None and len(key) < 8:
        raise InputError(f"The key {key!r} is too short to be sure; give 8 digits of it at least.")
    query = select(Evaluation).where(Evaluation.state == State.DONE).order_by(Evaluation.id)
    if key is not None:
        query = query.where(Evaluation.key.startswith(key, autoescape=True))
    if measure is not None:
        query = query.where(Evaluation.measure == measure)
    if attack_version is not None:
        query = query.where(Evaluation.attack_version == attack_version)
    if model is not None:
        query = query.join(Model).where(Model.slug == model)
    found = [row for row in session.scalars(query) if attack is None or row.parameters.get("attack") == attack]
    if not found:
        raise InputError("No finished evaluation is of that kind; curveboard show MODEL --json gives the keys.")
    return [_withdraw(session, row, reason) for row in found]


def _withdraw(session: Session, row: Evaluation, reason: str) -> Change:
    release(row, State.WITHDRAWN, reason)
    session.flush()
    detail = {
        "what": f"evaluation {row.key[:12]}",
        "reason": plain(reason),
        "measure": row.measure,
        "boards": _consequences(session, row.model_id, row.dataset_id),
    }
    return _change(session, row.model_id, row.dataset_id, row.id, detail)


def _consequences(session: Session, model_id: int, dataset_id: int) -> list[dict[str, Any]]:
    """What it did on the boards: what the changelog remembers of a row must not rest on what is withdrawn."""
    complete = {board for _, dataset, board in complete_rows(session, model_id) if dataset == dataset_id}
    told = []
    for board, field in remembered(session, dataset_id).items():
        if model_id not in field.rows:
            continue
        if board in complete:
            told += board_moves(session, model_id, dataset_id, board=board, field=field)
        else:  # it lacks something of its protocol now
            others = of_newest(session, {other: row for other, row in field.rows.items() if other != model_id})
            told.append(board.detail({}, rows=len(others)) | {"left": True})
    return told


def _require_reason(reason: str) -> None:
    if not reason.strip() or not reason.isprintable():
        raise InputError("Say why, in printable characters on one line: --reason TEXT. The changelog shows it.")


def _change(
    session: Session, model_id: int, dataset_id: int | None, evaluation_id: int | None, detail: dict[str, Any]
) -> Change:
    change = Change(
        at=datetime.now(UTC),
        kind=WITHDRAWN,
        model_id=model_id,
        dataset_id=dataset_id,
        evaluation_id=evaluation_id,
        detail=detail,
    )
    session.add(change)
    return change
