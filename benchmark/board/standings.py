"""The boards as the changelog leaves them: who stands on them, with which robust accuracies, at which ranks.

An entry of the changelog holds the accuracies after its change, so the present standings can be read off the changelog
itself: finishing an evaluation never loads the ledgers of a thousand other models.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from benchmark.board.ledger import Ledger, ledger
from benchmark.threat import norm_names
from benchmark.threat.budget import within
from db.queries.completeness import SETTLED, attacked, missing, unsearched
from db.schema import Cell, Change, Dataset, Evaluation, Model, Protocol, State

Accuracies = dict[str, dict[float, float]]
"""Norm -> published eps -> robust accuracy."""


@dataclass(frozen=True)
class Board:
    """Rows that are ranked together, on one dataset."""

    protocol: str
    version: int
    n: int

    def detail(self, norms: Mapping[str, Any], *, rows: int) -> dict[str, Any]:
        """What an entry of the changelog says of it."""
        return {"protocol": self.protocol, "version": self.version, "n": self.n, "rows": rows, "norms": dict(norms)}


@dataclass
class Field:
    """The models of a board that are in the changelog.

    Attributes:
        rows: Those that stand on it, by id: robust accuracies after the last entry about each.
        been: Those that ever stood on it.
    """

    rows: dict[int, Accuracies] = field(default_factory=dict)
    been: set[int] = field(default_factory=set)


def remembered(session: Session, dataset_id: int) -> dict[Board, Field]:
    """The boards of a dataset as the changelog leaves them, without withdrawn models."""
    boards: dict[Board, Field] = {}
    query = select(Change).where(Change.dataset_id == dataset_id, Change.model_id.is_not(None)).order_by(Change.id)
    for change in session.scalars(query):
        assert change.model_id is not None
        for detail in change.detail.get("boards", ()):
            found = boards.setdefault(Board(detail["protocol"], detail["version"], detail["n"]), Field())
            found.been.add(change.model_id)
            if detail.get("left"):
                found.rows.pop(change.model_id, None)
                continue
            row = found.rows.setdefault(change.model_id, {})
            for norm, points in detail["norms"].items():
                row[norm] = {point["eps"]: point["after"]["robust_accuracy"] for point in points}
    withdrawn = set(session.scalars(select(Model.id).where(Model.withdrawn.is_not(None))))
    for found in boards.values():
        found.rows = {model_id: row for model_id, row in found.rows.items() if model_id not in withdrawn}
    return boards


def of_newest(session: Session, rows: Mapping[int, Accuracies]) -> dict[int, Accuracies]:
    """Only the newest row of each slug: new weights replace the old ones on the board."""
    query = select(Model.slug, func.max(Model.id)).where(Model.id.in_(rows)).group_by(Model.slug)
    newest = {model_id for _, model_id in session.execute(query)}
    return {model_id: row for model_id, row in rows.items() if model_id in newest}


def standing(rows: Mapping[int, Accuracies], model_id: int, norm: str, eps: float) -> dict[str, Any]:
    """Robust accuracy, and the rank it gives: one more than the rows that are strictly better."""
    own = rows[model_id][norm][eps]
    better = sum(row.get(norm, {}).get(eps, -1.0) > own for row in rows.values())
    return {"robust_accuracy": own, "rank": better + 1}


def searched(session: Session, model_id: int, dataset_id: int, board: Board) -> set[str]:
    """The threats under which a board's protocol has attacked all samples of a row.

    Elsewhere nobody searched, and that nothing was found says nothing.
    """
    query = (
        select(Evaluation)
        .join(Cell, Cell.evaluation_id == Evaluation.id)
        .join(Protocol, Cell.protocol_id == Protocol.id)
        .where(Cell.model_id == model_id, Cell.dataset_id == dataset_id, Cell.n == board.n)
        .where(Protocol.name == board.protocol, Protocol.version == board.version)
    )
    return set(attacked(session.scalars(query), board.n))


def row_accuracies(session: Session, model_id: int, dataset_id: int, n: int, norms: Collection[str]) -> Accuracies:
    """What the ledgers say now of a model, in some norms, at the dataset's published budgets."""
    return {
        norm: accuracies(ledger(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=n), eps)
        for norm, eps in published_eps(session.get_one(Dataset, dataset_id)).items()
        if norm in norms
    }


def accuracies(found: Ledger, eps: list[float]) -> dict[float, float]:
    """Robust accuracy at each budget."""
    return {e: float(np.mean(~within(found.distances, e))) for e in eps}


def published_eps(dataset: Dataset) -> dict[str, list[float]]:
    """The dataset's published budgets, of the norms that are registered."""
    eps = dataset.card.get("eps", {})
    return {norm: [float(value) for value in eps[norm]] for norm in norm_names() if norm in eps}


def complete_rows(session: Session, model_id: int | None) -> list[tuple[int, int, Board]]:
    """The rows that have all their evaluations: model, dataset and board of each; of one model, or of all."""
    query = (
        select(Cell.model_id, Cell.dataset_id, Cell.protocol_id, Cell.n, Evaluation)
        .join(Evaluation, Cell.evaluation_id == Evaluation.id)
        .join(Model, Cell.model_id == Model.id)
        .where(Model.withdrawn.is_(None))
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
