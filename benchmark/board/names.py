"""Whose a slug is: copies under another name, renaming, and models whose files are gone."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.errors import InputError, UnknownNameError
from db.queries import Board, RowStatus, former_names
from db.queries.names import RENAMED
from db.schema import Change, Evaluation, Model, State
from db.texts import plain
from models_zoo import Entry

GONE: Final = "its files are gone: it is shown with the results that it has, and can be neither verified nor run again"


def refusal(session: Session, entry: Entry) -> str | None:
    """Why a model can have no rows under its slug: it is another one's copy, was withdrawn, or the name is taken."""
    owner = session.scalar(
        select(Model.slug).where(Model.digest == entry.digest, Model.slug != entry.slug).order_by(Model.id).limit(1)
    )
    if owner is not None:
        return same_model(entry.slug, owner)
    own = select(Model.withdrawn).where(Model.digest == entry.digest, Model.slug == entry.slug)
    if (reason := session.scalar(own)) is not None:
        return f"The model {entry.slug!r} is withdrawn: {reason}"
    if (now := former_names(session).get(entry.slug)) is not None:
        return formerly(entry.slug, now)
    return None


def same_model(slug: str, owner: str) -> str:
    """What to say of a model that is there under another name."""
    return (
        f"The model {slug!r} is {owner!r} under another name: the same architecture, files and preprocessing. Its "
        f"results are that one's; evaluate {owner!r}, or remove one of the two."
    )


def formerly(slug: str, now: str) -> str:
    """What to say of a slug that a renamed model had."""
    return (
        f"The name {slug!r} was that of the model {now!r}, whose history speaks of it by that name; it is not given to "
        "another model. Choose another slug."
    )


def rename_model(session: Session, old: str, new: str, reason: str = "") -> list[Change]:
    """Give a model another slug; results, evidence and history stay with it, and the changelog says so.

    Args:
        session: A writing session.
        old: Its slug.
        new: The slug it gets.
        reason: Why, for the changelog.

    Returns:
        The changelog's entries, one for each digest that the slug has.

    Raises:
        UnknownNameError: If the database has no model of that name.
        InputError: If the new name is taken or was another model's, or an evaluator is working on the model.
    """
    if not (reason == "" or reason.isprintable()):
        raise InputError(f"The reason {reason!r} has characters that cannot be printed; say it on one line.")
    models = list(session.scalars(select(Model).where(Model.slug == old).order_by(Model.id)))
    former = former_names(session)
    if not models:
        if old in former:
            raise InputError(f"The model {old!r} was renamed; it is called {former[old]!r} now.")
        raise UnknownNameError("model in the database", old, set(session.scalars(select(Model.slug))))
    if session.scalar(select(Model.id).where(Model.slug == new).limit(1)) is not None:
        raise InputError(f"There is a model {new!r} already; choose another name.")
    if former.get(new, old) != old:
        raise InputError(formerly(new, former[new]))
    _refuse_running(session, models)
    changes = []
    for model in models:
        model.slug = new
        detail = {"from": old, "to": new} | ({"reason": plain(reason)} if reason else {})
        changes.append(Change(at=datetime.now(UTC), kind=RENAMED, model_id=model.id, detail=detail))
    session.add_all(changes)
    session.flush()
    return changes


def _refuse_running(session: Session, models: Collection[Model]) -> None:
    query = select(Evaluation).where(
        Evaluation.model_id.in_([model.id for model in models]), Evaluation.state == State.RUNNING
    )
    if any((row.lease_until or 0) > time.time() for row in session.scalars(query)):
        raise InputError("An evaluator is working on the model; rename it when that has finished.")


def gone(boards: Iterable[Board], present: Collection[str]) -> dict[int, str]:
    """The slugs of models whose rows stand on a board although their folder is gone, by id.

    Args:
        boards: The boards.
        present: Slugs of the models that there are.
    """
    past = {RowStatus.SUPERSEDED, RowStatus.WITHDRAWN}
    rows = (row for board in boards for row in board.rows if row.status not in past)
    return {row.model.id: row.model.slug for row in rows if row.model.slug not in present}
