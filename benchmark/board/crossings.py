"""Where a proven lower bound lies above a verified adversarial distance: one of the two is wrong. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.ledger import ledger
from benchmark.errors import InputError
from db.schema import Dataset, Evaluation, State

ROUNDING: Final = 1e-9
"""Relative difference below which two distances are equal: what float64 arithmetic may leave."""


@dataclass(frozen=True)
class Crossed:
    """The worst sample at which the lower bounds of an evaluation cross the ledger.

    Attributes:
        evaluation: Key of the evaluation that states the bounds.
        measure: Its measure.
        threat: The threat.
        sample: Which sample.
        bound: Its lower bound.
        distance: The distance of its verified adversarial example.
        samples: How many samples cross.
    """

    evaluation: str
    measure: str
    threat: str
    sample: int
    bound: float
    distance: float
    samples: int

    def __str__(self) -> str:
        return (
            f"{self.measure} ({self.evaluation[:12]}) says that no adversarial example of sample {self.sample} is "
            f"nearer than {self.bound:.9g} in {self.threat}, but there is a verified one at {self.distance:.9g}; "
            f"{self.samples} samples cross"
        )


def crossings(session: Session, *, model_id: int, dataset_id: int) -> list[Crossed]:
    """All finished evaluations of a model whose lower bounds cross the ledger, the worst sample of each."""
    query = select(Evaluation).where(
        Evaluation.model_id == model_id, Evaluation.dataset_id == dataset_id, Evaluation.state == State.DONE
    )
    size = session.get_one(Dataset, dataset_id).size
    ledgers = {}
    found = []
    for evaluation in session.scalars(query.order_by(Evaluation.id)):
        for output in (output for output in evaluation.outputs if output["kind"] == "lower"):
            threat = str(output["threat"])
            if threat not in ledgers:
                ledgers[threat] = ledger(session, model_id=model_id, dataset_id=dataset_id, norm=threat, n=size)
            bounds = np.zeros(size)
            for chunk in evaluation.chunks:
                for array in chunk.arrays:
                    if array.name == output["array"]:
                        bounds[chunk.start : chunk.stop] = array.data
            distances = ledgers[threat].distances
            crossed = np.flatnonzero(bounds > distances * (1 + ROUNDING))
            if len(crossed):
                worst = int(crossed[np.argmax(bounds[crossed] - distances[crossed])])
                bound, distance = float(bounds[worst]), float(distances[worst])
                found.append(Crossed(evaluation.key, evaluation.measure, threat, worst, bound, distance, len(crossed)))
    return found


def refuse_crossings(session: Session, *, model_id: int, dataset_id: int) -> None:
    """Raise `InputError` if any lower bound crosses the ledger; for what is about to enter."""
    for crossed in crossings(session, model_id=model_id, dataset_id=dataset_id):
        raise InputError(f"It contradicts itself, or this board: {crossed}. Nothing was changed.")
