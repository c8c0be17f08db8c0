"""What ``curveboard verify`` has re-checked, written down so that the boards can say when and by what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete
from sqlalchemy.orm import Session

from db.schema import Change

VERIFIED: Final = "verified"
"""Kind of the changelog's entry. It changes nothing on a board, so the site's changelog leaves it out."""


def record_verified(
    session: Session, *, model_id: int, dataset_id: int, at: datetime, detail: Mapping[str, Any]
) -> None:
    """Write down that everything a row's ledger rests on was re-checked, in place of the check before.

    Args:
        session: A writing session.
        model_id: The model.
        dataset_id: The dataset.
        at: When what was checked was read: what joined the ledger since then was not checked.
        detail: What was checked, and by what (``by``, ``examples``, ``samples``).
    """
    own = (Change.kind == VERIFIED, Change.model_id == model_id, Change.dataset_id == dataset_id)
    session.execute(delete(Change).where(*own))
    session.add(Change(at=at, kind=VERIFIED, model_id=model_id, dataset_id=dataset_id, detail=dict(detail)))
