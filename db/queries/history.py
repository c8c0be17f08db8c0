"""The changelog."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.queries.names import name_at, name_on, renames
from db.queries.records import ChangeInfo
from db.schema import Change, Dataset, Evaluation, Model


def changes(
    session: Session, *, model: str | None = None, limit: int | None = None, as_of: datetime | None = None
) -> list[ChangeInfo]:
    """Entries of the changelog, the newest first.

    Args:
        session: An open session.
        model: Only those of the model of this slug.
        limit: At most so many.
        as_of: Only those made by then.
    """
    query = (
        select(
            Change.id,
            Change.at,
            Change.kind,
            Model.slug,
            Change.model_id,
            Dataset.name,
            Change.dataset_id,
            Evaluation.measure,
            Evaluation.parameters,
            Change.detail,
        )
        .outerjoin(Model, Model.id == Change.model_id)
        .outerjoin(Dataset, Dataset.id == Change.dataset_id)
        .outerjoin(Evaluation, Evaluation.id == Change.evaluation_id)
        .order_by(Change.at.desc(), Change.id.desc())
    )
    if model is not None:
        query = query.where(Model.slug == model)
    if as_of is not None:
        query = query.where(Change.at <= as_of)
    if limit is not None:
        query = query.limit(limit)
    found: list[ChangeInfo] = []
    renamed = renames(session)
    for row in session.execute(query):
        key, at, kind, slug, model_id, dataset, dataset_id, measure, parameters, detail = row
        called = slug
        if slug is not None:
            called = name_at(renamed, model_id, slug, change_id=key)
            slug = name_on(renamed, model_id, slug, as_of=as_of)
        found.append(
            ChangeInfo(key, at, kind, slug, called, model_id, dataset, dataset_id, measure, parameters or {}, detail)
        )
    return found
