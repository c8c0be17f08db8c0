"""What models were called: a renamed one keeps its history under the name that it had."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.schema import Change, Model

RENAMED: Final = "renamed"
"""Kind of the changelog's entry; its detail has ``from`` and ``to``."""


@dataclass(frozen=True)
class Rename:
    """A model got another slug; ``change_id`` is its entry in the changelog."""

    change_id: int
    at: datetime
    model_id: int
    old: str
    new: str


def renames(session: Session) -> list[Rename]:
    """Every rename, the earliest first."""
    query = select(Change.id, Change.at, Change.model_id, Change.detail).where(Change.kind == RENAMED)
    return [
        Rename(row.id, row.at, row.model_id, str(row.detail.get("from")), str(row.detail.get("to")))
        for row in session.execute(query.order_by(Change.id))
    ]


def former_names(session: Session) -> dict[str, str]:
    """Slugs that models no longer have, each with the slug that the model has now."""
    found = renames(session)
    slugs = dict(session.execute(select(Model.id, Model.slug).where(Model.id.in_([r.model_id for r in found]))).all())
    taken = set(session.scalars(select(Model.slug).where(Model.slug.in_([r.old for r in found]))))
    return {r.old: slugs[r.model_id] for r in found if r.old not in taken}


def name_at(found: list[Rename], model_id: int, now: str, *, change_id: int) -> str:
    """What a model that is called ``now`` was called before that entry of the changelog was made."""
    return next((r.old for r in found if r.model_id == model_id and r.change_id >= change_id), now)


def name_on(found: list[Rename], model_id: int, now: str, *, as_of: datetime | None) -> str:
    """What a model that is called ``now`` was called at that moment."""
    if as_of is None:
        return now
    return next((r.old for r in found if r.model_id == model_id and r.at > as_of), now)
