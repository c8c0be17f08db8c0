"""Declared outputs with their values: what the site knows of a measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from benchmark.results import Output
from benchmark.threat.budget import limit
from db.queries import EvaluationData, EvaluationInfo, Row, ScoreInfo, TableInfo


def outputs_of(evaluation: EvaluationInfo) -> list[Output]:
    """The outputs that an evaluation's measure declared."""
    return [Output.from_json(values) for values in evaluation.outputs]


@dataclass(frozen=True, eq=False)
class Found:
    """One declared output of a finished evaluation.

    Attributes:
        evaluation: The evaluation.
        data: Everything recorded of it.
        output: The output.
        n: Samples of the slice.
    """

    evaluation: EvaluationInfo
    data: EvaluationData
    output: Output
    n: int

    @property
    def name(self) -> str:
        """``measure.output``, with ``@threat`` where the output speaks of one."""
        name = f"{self.evaluation.measure}.{self.output.name}"
        return f"{name}@{self.output.threat}" if self.output.threat else name

    @property
    def array(self) -> str:
        """The name of the array that holds a per-sample output."""
        of_kind = f"distance_{self.output.threat}" if self.output.kind == "upper" else self.output.name
        return self.output.array or of_kind

    @cached_property
    def values(self) -> Floats:
        """A per-sample output, shape (n,), NaN where it was not measured."""
        return spread(self.data, self.array, self.n)

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """Which samples were measured, shape (n,)."""
        return looked(self.data, self.array, self.n)

    @property
    def robust(self) -> NDArray[np.bool_]:
        """A verdict on the samples that were measured: as it stands, or of distances whether they exceed its ε."""
        values, eps = self.values[self.measured], self.output.eps
        stored = self.data.arrays.get(self.array)
        if eps is not None and stored is not None and stored.dtype.kind == "f":
            return values > limit(eps)
        return values > 0

    @property
    def score(self) -> ScoreInfo | None:
        """The value of a scalar output."""
        return next((s for s in self.data.detail.scores if s.name == self.output.name), None)

    @property
    def table(self) -> TableInfo | None:
        """The values of a grid or trace; None where they do not have the declared shape."""
        shape = tuple(len(axis.labels) for axis in self.output.axes)
        tables = self.data.detail.tables
        return next((t for t in tables if t.name == self.output.name and t.values.shape == shape), None)


def findings(row: Row, data: Mapping[int, EvaluationData], n: int) -> list[Found]:
    """All declared outputs of a row's finished evaluations, in the order in which they finished."""
    return [Found(e, data[e.id], output, n) for e in row.done for output in outputs_of(e)]


def newest(found: Sequence[Found]) -> dict[str, Found]:
    """The newest of each name; of several attacks' figures those of the attack that came nearest."""
    chosen: dict[str, Found] = {}
    for one in found:
        if one.name not in chosen or _reached(one) <= _reached(chosen[one.name]):
            chosen[one.name] = one
    return chosen


def _reached(found: Found) -> tuple[float, float]:
    """How far an attack's examples are: the share of images without one, and the mean of the others; else zeros."""
    threat, outputs = found.output.threat, outputs_of(found.evaluation)
    upper = next((o for o in outputs if o.kind == "upper" and o.threat == threat and threat is not None), None)
    if upper is None:
        return 0.0, 0.0
    distances = Found(found.evaluation, found.data, upper, found.n)
    values = distances.values[distances.measured]
    finite = values[np.isfinite(values)]
    return 1 - len(finite) / max(1, len(values)), float(finite.mean()) if len(finite) else 0.0


def spread(data: EvaluationData, name: str, n: int, *, fill: float = np.nan, dtype: Any = np.float64) -> NDArray[Any]:
    """An array of some samples as one of the whole slice; ``fill`` elsewhere, and where it holds no number a sample."""
    whole = np.full(n, fill, dtype=dtype)
    values = data.arrays.get(name)
    if values is None or values.ndim != 1 or values.dtype.kind not in "fiub":
        return whole
    samples = data.samples[name]
    known = (samples < n) & (np.isfinite(values) | (np.dtype(dtype).kind == "f"))
    whole[samples[known]] = values[known]
    return whole


def looked(data: EvaluationData, name: str, n: int) -> NDArray[np.bool_]:
    """Which samples of the slice an array has."""
    whole = np.zeros(n, dtype=np.bool_)
    if name in data.samples:
        samples = data.samples[name]
        whole[samples[samples < n]] = True
    return whole
