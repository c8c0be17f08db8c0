"""The boards and their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.errors import DatabaseError
from db.queries.completeness import attacked, missing, unsearched
from db.queries.names import name_on, renames
from db.queries.records import Board, DatasetInfo, EvaluationInfo, ModelInfo, ProtocolInfo, Row, RowStatus
from db.schema import Cell, Dataset, Evaluation, Model, Protocol, State

_EVALUATION = (
    Evaluation.id,
    Evaluation.key,
    Evaluation.model_id,
    Evaluation.dataset_id,
    Evaluation.n,
    Evaluation.samples,
    Evaluation.measure,
    Evaluation.version,
    Evaluation.attack_version,
    Evaluation.parameters,
    Evaluation.norm,
    Evaluation.seed,
    Evaluation.state,
    Evaluation.reason,
    Evaluation.created_at,
    Evaluation.finished_at,
    Evaluation.outputs,
    Evaluation.provenance["ingested"]["bundle"].as_string().label("bundle"),
)


def boards(session: Session, *, as_of: datetime | None = None) -> list[Board]:
    """All boards, by dataset, slice (the largest first) and protocol.

    A model that has cells of the protocol's newest version is judged by these; one that has only older ones is stale.
    """
    models = model_table(session, as_of=as_of)
    evaluations = evaluation_table(session, as_of=as_of)
    datasets, protocols = dataset_table(session), protocol_table(session, as_of=as_of)
    grouped: dict[tuple[int, int, str], list[tuple[int, int, int]]] = defaultdict(list)
    query = select(Cell.protocol_id, Cell.model_id, Cell.dataset_id, Cell.n, Cell.evaluation_id).order_by(Cell.id)
    for protocol_id, model_id, dataset_id, n, evaluation_id in session.execute(query):
        if protocol_id in protocols and model_id in models and evaluation_id in evaluations:
            grouped[dataset_id, n, protocols[protocol_id].name].append((protocol_id, model_id, evaluation_id))
    done: dict[tuple[int, int], list[EvaluationInfo]] = defaultdict(list)
    for evaluation in evaluations.values():
        if evaluation.state is State.DONE:
            done[evaluation.model_id, evaluation.dataset_id].append(evaluation)
    found = [
        _board(datasets[dataset_id], n, cells, models=models, evaluations=evaluations, protocols=protocols, done=done)
        for (dataset_id, n, _), cells in grouped.items()
    ]
    found.sort(key=lambda b: (b.dataset.name, -b.n, b.protocol.name, b.dataset.digest))
    return _tell_apart(found)


def board_named(session: Session, name: str, *, as_of: datetime | None = None) -> Board:
    """The board of that slug (`Board.slug`)."""
    found = {board.slug: board for board in boards(session, as_of=as_of)}
    if name not in found:
        raise DatabaseError(f"There is no board called {name!r}. There are: {', '.join(sorted(found)) or 'none'}.")
    return found[name]


def _board(
    dataset: DatasetInfo,
    n: int,
    cells: Sequence[tuple[int, int, int]],
    *,
    models: Mapping[int, ModelInfo],
    evaluations: Mapping[int, EvaluationInfo],
    protocols: Mapping[int, ProtocolInfo],
    done: Mapping[tuple[int, int], Sequence[EvaluationInfo]],
) -> Board:
    newest = max((protocols[p] for p, _, _ in cells), key=lambda p: p.version)
    wanted: dict[int, dict[int, list[EvaluationInfo]]] = defaultdict(lambda: defaultdict(list))
    for protocol_id, model_id, evaluation_id in cells:
        wanted[model_id][protocol_id].append(evaluations[evaluation_id])
    rows = []
    for model_id, versions in wanted.items():
        protocol = max((protocols[p] for p in versions), key=lambda p: p.version)
        own = versions[protocol.id]
        ids = {evaluation.id for evaluation in own}
        others = tuple(e for e in done[model_id, dataset.id] if e.id not in ids)
        lacking = missing(protocol.spec, dataset.card.get("eps", {}), own)
        fresh = protocol.version == newest.version
        status = _status(
            models[model_id], lacking, fresh=fresh, unsearched=unsearched(own, done[model_id, dataset.id], n)
        )
        rows.append(Row(models[model_id], protocol, status, tuple(own), others, lacking, attacked(own, n)))
    rows.sort(key=lambda row: (row.model.slug, row.model.added_at, row.model.id))
    return Board(dataset, n, newest, tuple(_mark_superseded(rows)))


def _status(model: ModelInfo, lacking: Sequence[str], *, fresh: bool, unsearched: bool) -> RowStatus:
    if model.withdrawn is not None:
        return RowStatus.WITHDRAWN
    if not fresh:
        return RowStatus.STALE
    if lacking:
        return RowStatus.INCOMPLETE
    return RowStatus.REPORTED if unsearched else RowStatus.COMPLETE


def _mark_superseded(rows: Sequence[Row]) -> list[Row]:
    """Of several rows of one slug the newest that is complete counts (the newest, if none is)."""
    by_slug: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_slug[row.model.slug].append(row)
    marked = []
    for same in by_slug.values():
        complete = [row for row in same if row.status is RowStatus.COMPLETE]
        current = (complete or same)[-1]
        after = same[same.index(current) + 1 :]
        marked += [r if r is current or r in after else replace(r, status=RowStatus.SUPERSEDED) for r in same]
    return marked


def _tell_apart(found: Sequence[Board]) -> list[Board]:
    seen: dict[str, int] = defaultdict(int)
    for board in found:
        seen[board.slug] += 1
    return [replace(board, crowded=True) if seen[board.slug] > 1 else board for board in found]


def model_table(session: Session, *, as_of: datetime | None = None) -> dict[int, ModelInfo]:
    """All models by id."""
    query = select(
        Model.id, Model.slug, Model.digest, Model.title, Model.card, Model.added_at, Model.withdrawn
    ).order_by(Model.id)
    if as_of is not None:
        query = query.where(Model.added_at <= as_of)
    renamed = renames(session) if as_of is not None else []
    return {
        row.id: ModelInfo(row.id, name_on(renamed, row.id, row.slug, as_of=as_of), *row[2:])
        for row in session.execute(query)
    }


def dataset_table(session: Session) -> dict[int, DatasetInfo]:
    """All datasets by id."""
    query = select(Dataset.id, Dataset.name, Dataset.digest, Dataset.title, Dataset.size, Dataset.card)
    return {row.id: DatasetInfo(*row) for row in session.execute(query.order_by(Dataset.id))}


def protocol_table(session: Session, *, as_of: datetime | None = None) -> dict[int, ProtocolInfo]:
    """All versions of protocols by id."""
    query = select(
        Protocol.id, Protocol.name, Protocol.version, Protocol.title, Protocol.spec, Protocol.added_at
    ).order_by(Protocol.id)
    if as_of is not None:
        query = query.where(Protocol.added_at <= as_of)
    return {row.id: ProtocolInfo(*row) for row in session.execute(query)}


def evaluation_table(session: Session, *, as_of: datetime | None = None) -> dict[int, EvaluationInfo]:
    """All evaluations by id; one that had not finished by ``as_of`` counts as queued."""
    query = select(*_EVALUATION).order_by(Evaluation.id)
    if as_of is not None:
        query = query.where(Evaluation.created_at <= as_of)
    names = [column.key for column in _EVALUATION]
    rows = (dict(zip(names, row, strict=True)) for row in session.execute(query))
    table = {
        row["id"]: EvaluationInfo(**row | {"state": State(row["state"]), "outputs": tuple(row["outputs"])})
        for row in rows
    }
    if as_of is None:
        return table
    return {key: _back_then(evaluation, as_of) for key, evaluation in table.items()}


def _back_then(evaluation: EvaluationInfo, as_of: datetime) -> EvaluationInfo:
    if evaluation.finished_at is not None and evaluation.finished_at <= as_of:
        return evaluation
    return replace(evaluation, state=State.QUEUED, reason=None, finished_at=None)
