"""Values that no board can hold: distances below 0, arrays of another shape than was declared.

The evaluator and `curveboard ingest` refuse them at the door (`benchmark.board.checks`); here what is stored already is
held against the same rules. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.checks import check_arrays
from benchmark.board.crossings import crossings
from benchmark.errors import InputError
from benchmark.results import Output
from db.errors import DamagedError
from db.schema import Dataset, Evaluation, Model, State


@dataclass(frozen=True)
class Unsound:
    """A stored value that cannot be.

    Attributes:
        model: Slug of the model; empty for a dataset's.
        text: What it is, and where.
    """

    model: str
    text: str

    def __str__(self) -> str:
        return f"{self.model}: {self.text}" if self.model else self.text


def unsound(session: Session, *, slug: str | None = None) -> Iterator[Unsound]:
    """Everything in the database that cannot be so, of all models or one."""
    broken: set[int] = set()
    for dataset_id in session.scalars(select(Dataset.id).order_by(Dataset.id)).all():
        try:
            dataset = session.get_one(Dataset, dataset_id)
            faults = [Unsound("", f"dataset {dataset.name}: {text}") for text in _dataset_faults(dataset)]
        except DamagedError as error:
            faults = [Unsound("", f"dataset {dataset_id}: {error}")]
        if faults:
            yield from faults
            broken.add(dataset_id)
    query = select(Evaluation.id, Model.slug, Evaluation.model_id, Evaluation.dataset_id).join(
        Model, Evaluation.model_id == Model.id
    )
    if slug is not None:
        query = query.where(Model.slug == slug)
    query = query.where(Evaluation.state == State.DONE, Evaluation.dataset_id.not_in(broken))
    rows = session.execute(query.order_by(Evaluation.id)).all()
    damaged = set()
    for evaluation_id, name, model_id, dataset_id in rows:
        texts = list(_faults(session, evaluation_id))
        yield from (Unsound(name, f"evaluation {evaluation_id}: {text}") for text in texts)
        if texts:
            damaged.add((model_id, dataset_id))
    for name, model_id, dataset_id in sorted({(name, model, dataset) for _, name, model, dataset in rows}):
        if (model_id, dataset_id) not in damaged:
            found = crossings(session, model_id=model_id, dataset_id=dataset_id)
            yield from (Unsound(name, str(crossed)) for crossed in found)
        session.expunge_all()  # what was read is not kept


def _dataset_faults(dataset: Dataset) -> Iterator[str]:
    if dataset.size < 1:
        yield f"its size is {dataset.size!r}"


def _faults(session: Session, evaluation_id: int) -> Iterator[str]:
    try:
        evaluation = session.get_one(Evaluation, evaluation_id)
        chunks = list(evaluation.chunks)
        outputs = [Output.from_json(output) for output in evaluation.outputs]
    except DamagedError as error:
        yield str(error)
        return
    except (TypeError, ValueError, KeyError) as error:
        yield f"its declared outputs are none: {error!r}"
        return
    size = session.get_one(Dataset, evaluation.dataset_id).size
    end = 0
    for chunk in chunks:
        where = f"samples {chunk.start} to {chunk.stop}"
        if not end <= chunk.start < chunk.stop <= size:
            yield f"{where}: they overlap others, or are not of the dataset's {size}"
            continue
        end = chunk.stop
        try:
            arrays = {array.name: array.data for array in chunk.arrays}
            _check_distances(evaluation.measure, arrays)
            check_arrays(evaluation.measure, arrays, outputs, chunk.stop - chunk.start)
        except (DamagedError, InputError) as error:
            yield f"{where}: {error}"


def _check_distances(measure: str, arrays: dict[str, Any]) -> None:
    """The distances that nobody declared too: each evaluation that brings examples has them in every norm."""
    for name, array in arrays.items():
        if not name.startswith("distance_"):
            continue
        if array.ndim != 1 or array.dtype.kind != "f":
            raise InputError(f"{measure}: {name} is {array.dtype} of shape {array.shape}, not a number a sample.")
        bad = ~(array >= 0)
        if bad.any():
            row = int(bad.argmax())
            raise InputError(f"{measure}: {name} is {array[row]:.6g} at row {row}; a distance is 0 or more.")
