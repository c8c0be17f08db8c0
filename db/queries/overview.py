"""What there is: counts, models, datasets, protocols."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.queries.boards import dataset_table, model_table, protocol_table
from db.queries.records import DatasetInfo, ModelInfo, ProtocolInfo
from db.schema import Dataset, DatasetArray, Evaluation, Evidence, Model, State


@dataclass(frozen=True)
class Overview:
    """How much the database holds.

    Attributes:
        models: Number of models (each digest counts).
        datasets: Number of datasets.
        evaluations: Number of evaluations in each state.
        evidence_files: Number of evidence files.
        evidence_bytes: Their size.
        newest: When the last evaluation finished.
    """

    models: int
    datasets: int
    evaluations: Mapping[State, int]
    evidence_files: int
    evidence_bytes: int
    newest: datetime | None


def overview(session: Session) -> Overview:
    """Counts of everything."""
    states = select(Evaluation.state, func.count()).group_by(Evaluation.state)
    counts = {State(state): int(count) for state, count in session.execute(states)}
    files, size = session.execute(select(func.count(), func.coalesce(func.sum(Evidence.bytes), 0))).one()
    return Overview(
        models=session.scalar(select(func.count()).select_from(Model)) or 0,
        datasets=session.scalar(select(func.count()).select_from(Dataset)) or 0,
        evaluations={state: counts.get(state, 0) for state in State},
        evidence_files=int(files),
        evidence_bytes=int(size),
        newest=session.scalar(select(func.max(Evaluation.finished_at))),
    )


def find_models(session: Session, slug: str | None = None, *, as_of: datetime | None = None) -> list[ModelInfo]:
    """The models, or those of one slug (one for each digest), the newest last."""
    found = (m for m in model_table(session, as_of=as_of).values() if slug is None or m.slug == slug)
    return sorted(found, key=lambda m: (m.slug, m.added_at, m.id))


def datasets(session: Session) -> list[DatasetInfo]:
    """The datasets by name."""
    return sorted(dataset_table(session).values(), key=lambda d: (d.name, d.digest))


def protocols(session: Session, *, as_of: datetime | None = None) -> list[ProtocolInfo]:
    """Every version of every protocol."""
    return sorted(protocol_table(session, as_of=as_of).values(), key=lambda p: (p.name, p.version))


SUITE = "suite_"
"""What the array with pictures of a suite is called, before the suite's name: shape (a, s, c, h, w), uint8."""


def dataset_arrays(session: Session, dataset_id: int) -> dict[str, int]:
    """The names of the dataset's stored arrays, each with its row's id."""
    query = select(DatasetArray.name, DatasetArray.id).where(DatasetArray.dataset_id == dataset_id)
    return {row.name: row.id for row in session.execute(query.order_by(DatasetArray.name))}


def dataset_array(session: Session, dataset_id: int, name: str) -> NDArray[Any] | None:
    """One stored array of a dataset, or None."""
    query = select(DatasetArray.data).where(DatasetArray.dataset_id == dataset_id, DatasetArray.name == name)
    data = session.scalar(query)
    return None if data is None else np.asarray(data)
