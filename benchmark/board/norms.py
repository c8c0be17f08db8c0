"""Which norms have a ledger: in the others a distance is only what some example happens to have. No torch."""

from __future__ import annotations

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from benchmark.threat import norm_names
from db.schema import Array, Chunk, Dataset, Evaluation, State


def ledger_norms(session: Session, *, dataset_id: int, model_id: int | None = None) -> tuple[str, ...]:
    """The norms that the dataset publishes budgets in, and those in which somebody attacked; in the registry's order.

    Every verified example has a distance in every registered norm, so that each has a ledger. In a norm that nobody
    searched in, nearly every new example would be nearer than what is known, and none of it says anything.

    Args:
        session: An open session.
        dataset_id: On this dataset.
        model_id: Attacked on this model; on any by default.
    """
    distances = exists().where(
        Array.chunk_id == Chunk.id, Chunk.evaluation_id == Evaluation.id, Array.name.like("distance%")
    )
    query = select(Evaluation.parameters).where(
        Evaluation.dataset_id == dataset_id, Evaluation.state == State.DONE, distances
    )
    if model_id is not None:
        query = query.where(Evaluation.model_id == model_id)
    named = {parameters.get("norm") for parameters in session.scalars(query)}
    named |= set(session.get_one(Dataset, dataset_id).card.get("eps", {}))
    return tuple(norm for norm in norm_names() if norm in named)
