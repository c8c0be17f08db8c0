"""What a row says beyond its distances, held against forward passes and arithmetic; and what neither can prove."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board import record
from benchmark.board.checks import check_summary
from benchmark.data import Dataset
from benchmark.errors import BenchmarkError
from benchmark.evidence.check import BATCH, Problem, Report, Subject
from benchmark.measures import Inputs, Measure, measures
from benchmark.results import Output
from benchmark.verification import SLACK
from db.schema import Evaluation, State

TOLERANCE: Final = 1e-9
"""Relative difference of two sums of the same numbers in another order."""


def check_claims(
    session: Session, subject: Subject, dataset: Dataset, report: Report, *, chosen: NDArray[np.bool_]
) -> None:
    """Check the predictions and the scores of a row's finished evaluations, and note what is not proven.

    Predictions are compared with forward passes; scores and tables are computed again from the stored arrays, where the
    measure is installed here in the same version.

    Args:
        session: A session of a database that holds one model's evaluations.
        subject: The model and the data.
        dataset: The dataset.
        report: Takes the problems and notes.
        chosen: The samples to look at, shape (dataset size,), bool.
    """
    unchecked: set[str] = set()
    nothing = 0
    for row in session.scalars(select(Evaluation).where(Evaluation.state == State.DONE).order_by(Evaluation.id)):
        arrays = record.joined_arrays(row.chunks)
        if "prediction" in arrays:
            _check_predictions(subject, row, report, chosen)
        measure = measures().get(row.measure)
        if measure is None or measure.version != row.version or not _recomputed(measure, row, arrays, dataset, report):
            unchecked.add(row.measure)
        proven = {str(o["array"]) for o in row.outputs if o["kind"] == "upper"}
        nothing += sum(int(np.isinf(arrays[name]).sum()) for name in proven if name in arrays)
        unchecked |= {row.measure for o in row.outputs if o["kind"] in {"lower", "estimate"}}
    report.notes.append(
        "not proven by any of this: that there are no nearer adversarial examples"
        + (f" ({nothing} times none was found)" if nothing else "")
        + (f"; what these say: {', '.join(sorted(unchecked))}" if unchecked else "")
        + ". A board ranks the row once it has searched itself (curveboard recheck)"
    )


def _check_predictions(subject: Subject, row: Evaluation, report: Report, chosen: NDArray[np.bool_]) -> None:
    for chunk in row.chunks:
        arrays = {array.name: array.data for array in chunk.arrays}
        said = arrays["prediction"]
        rows = np.flatnonzero(chosen[chunk.start : chunk.stop])
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            where = torch.from_numpy(part + chunk.start)
            labels = subject.labels[where].numpy()
            correct = arrays.get("correct", said == subject.labels[chunk.start : chunk.stop].numpy())[part]
            lying = part[np.asarray(correct, dtype=np.bool_) != (said[part] == labels)]
            report.problems += [
                Problem(subject.slug, "said to be correct or not against its own prediction", int(i) + chunk.start)
                for i in lying
            ]
            off = _not_predicted(subject, where, torch.from_numpy(np.asarray(said[part], dtype=np.int64)))
            report.problems += [
                Problem(subject.slug, f"{row.measure} states another class than the model gives", int(where[i]))
                for i in np.flatnonzero(off)
            ]


def _not_predicted(subject: Subject, where: torch.Tensor, said: torch.Tensor) -> NDArray[np.bool_]:
    """Where the model gives another class than was said, by more than rounding; nowhere for a random output."""
    x = subject.images[where].to(subject.device)
    with torch.no_grad():
        logits, again = subject.model(x).double().cpu(), subject.model(x).double().cpu()
    inside = (said >= 0) & (said < logits.shape[1])
    own = logits.gather(1, said.clamp(0, logits.shape[1] - 1)[:, None]).squeeze(1)
    top = logits.max(dim=1).values
    off = ~inside | (top - own > 2 * SLACK * logits.abs().amax(dim=1))
    if not torch.allclose(logits, again, rtol=1e-5, atol=1e-6):
        off = ~inside
    found: NDArray[np.bool_] = off.numpy()
    return found


def _recomputed(
    measure: Measure[Any], row: Evaluation, arrays: dict[str, NDArray[Any]], dataset: Dataset, report: Report
) -> bool:
    """Compare scores and tables with those that the measure gives; False where it cannot say."""
    parameters = measure.Parameters(**row.parameters)
    if measure.needs(parameters).references or measure.needs(parameters).suites or not arrays:
        return False
    labels = [dataset.labels(chunk.start, chunk.stop) for chunk in row.chunks]
    inputs = Inputs(arrays, np.concatenate(labels), {}, dataset)
    slug, outputs = row.model.slug, [Output.from_json(output) for output in row.outputs]
    try:
        own = check_summary(row.measure, measure.summarise(inputs, parameters), outputs)
    except (BenchmarkError, KeyError, ValueError, IndexError, TypeError) as error:
        report.problems.append(Problem(slug, f"{row.measure}: its arrays give no result: {error}"))
        return True
    said = {score.name: (score.value, score.low, score.high) for score in row.scores}
    given = {score.name: (score.value, score.low, score.high) for score in own.scores}
    for name in sorted(set(said) | set(given)):
        if name not in said or name not in given or not _same(said[name], given[name]):
            text = f"{row.measure}: the score {name} is said to be {said.get(name)}, its arrays give {given.get(name)}"
            report.problems.append(Problem(slug, text))
    for table in row.tables:
        if table.name in own.tables and not _same_numbers(table.data[0], own.tables[table.name].values):
            report.problems.append(Problem(slug, f"{row.measure}: the table {table.name} is not what its arrays give"))
    return True


def _same(a: tuple[float | None, ...], b: tuple[float | None, ...]) -> bool:
    return all(_same_numbers(_number(x), _number(y)) for x, y in zip(a, b, strict=True))


def _number(value: float | None) -> float:
    """As the database keeps it: what is not finite is nothing."""
    return float(value) if value is not None and np.isfinite(value) else np.nan


def _same_numbers(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, rtol=TOLERANCE, atol=1e-12, equal_nan=True))
