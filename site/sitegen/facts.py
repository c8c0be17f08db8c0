"""What a row says: its curves between their bounds, sample by sample, and everything counted from them.

A row's facts depend on the row alone (its evaluations and its dataset's card), so that they can be computed in any
process and kept until one of its evaluations changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.board.credit import Share, contributor, shares
from benchmark.curve import Floats, RobustnessCurve
from benchmark.errors import BenchmarkError
from db.queries import EvaluationData, EvaluationInfo, Row
from sitegen.axes import NORMS, UNION, Axis

ROUNDING: Final = 1e-9
"""Relative difference below which two distances are equal: what float64 arithmetic may leave."""


class CrossingError(BenchmarkError):
    """A certified lower bound lies above a verified adversarial distance: one of the two is wrong."""


@dataclass(frozen=True)
class Source:
    """Where adversarial examples come from: an attack, AutoAttack, a challenge, a replay, a solver.

    Attributes:
        slug: For addresses and for grouping.
        title: For people.
        about: What it is, in one line, as the evaluation recorded it; empty where it recorded nothing.
        paper: Its source, likewise.
    """

    slug: str
    title: str
    about: str = field(default="", compare=False)
    paper: str = field(default="", compare=False)


def source_of(evaluation: EvaluationInfo, provenance: Mapping[str, Any] | None = None) -> Source:
    """Whom an evaluation's adversarial examples are credited to."""
    name = contributor(evaluation.measure, evaluation.parameters)
    titles = {"autoattack": "AutoAttack", "exact": "exact solver", "transfer": "transfer replay"}
    slug = evaluation.measure if evaluation.measure in {"challenge", "transfer"} else name
    slug = "".join(c if c.isalnum() or c in "-." else "-" for c in slug.lower())
    method = (provenance or {}).get("method") or {}
    return Source(slug, titles.get(name, name), str(method.get("title") or ""), str(method.get("paper") or ""))


@dataclass(frozen=True, eq=False)
class Part:
    """What one evaluation contributed to a norm's ledger.

    Attributes:
        evaluation: The evaluation.
        data: Its data.
        distances: Its verified distances on the whole slice, shape (n,); ``inf`` also where it did not look.
        looked: Where it looked, shape (n,), bool.
    """

    evaluation: EvaluationInfo
    data: EvaluationData
    distances: Floats
    looked: NDArray[np.bool_]

    @property
    def source(self) -> Source:
        """Whom it is credited to."""
        return source_of(self.evaluation, self.data.detail.provenance)


@dataclass(frozen=True, eq=False)
class Exact:
    """What an exact solver found, shape (n,) each; NaN bounds where it did not look."""

    lower: Floats
    upper: Floats
    solved: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class NormFacts:
    """A row in one norm (or in their union).

    Attributes:
        axis: The ε axis.
        curve: The ledger's distances; for the union in multiples of the reference budgets.
        winner: Index in ``parts`` of what found the nearest example, shape (n,); -1 where nothing did.
        parts: What each evaluation contributed, in the order of the ledger.
        counts: Robust samples at each position of the axis, shape (g,).
        certificate: Certified radii, shape (n,), the best of all methods; NaN where none was computed; or None.
        clever: CLEVER scores, shape (n,), NaN where there is none; or None.
        exact: What an exact solver found, or None.
        points: AutoAttack's robust accuracy at single ε.
    """

    axis: Axis
    curve: RobustnessCurve
    winner: NDArray[np.int64]
    parts: tuple[Part, ...]
    counts: NDArray[np.int64]
    certificate: Floats | None
    clever: Floats | None
    exact: Exact | None
    points: tuple[tuple[float, float], ...]

    @property
    def lower(self) -> Floats | None:
        """The best proven lower bound of each sample, 0 where there is none; None if nothing was proven at all."""
        bounds = [b for b in (self.certificate, self.exact.lower if self.exact else None) if b is not None]
        return np.fmax.reduce([np.nan_to_num(b, nan=0.0) for b in bounds]) if bounds else None

    def certified(self, eps: float) -> float | None:
        """Share of samples proven robust at ``eps``; None if nothing was proven at all."""
        lower = self.lower
        return None if lower is None else float((lower > eps).mean())

    def decided(self) -> float | None:
        """How much of the curve is decided, up to the end of the axis.

        1 − (area between the curve of the attacks and that of the proven lower bounds) ÷ (length of the axis).
        """
        if (lower := self.lower) is None:
            return None
        top = self.axis.maximum
        upper = np.minimum(self.curve.distances, top)
        return float(1 - np.maximum(upper - np.minimum(lower, top), 0).mean() / top)

    def violations(self) -> float | None:
        """Share of correctly classified samples whose CLEVER score exceeds the nearest example's distance."""
        if self.clever is None:
            return None
        asked = np.isfinite(self.clever) & (self.curve.distances > 0)
        return float((self.clever[asked] > self.curve.distances[asked]).mean()) if asked.any() else None


@dataclass(frozen=True, eq=False)
class RowFacts:
    """A row of a board, all of it.

    Attributes:
        row: The row.
        n: The slice.
        data: Everything recorded of its done evaluations, by id.
        norms: norm -> its facts; a norm that the attacks have not covered is missing; the union needs all of them.
        correct: Which clean images are classified correctly, shape (n,), or None if that was not measured.
        prediction: The class predicted for each clean image, shape (n,), or None.
    """

    row: Row
    n: int
    data: Mapping[int, EvaluationData]
    norms: Mapping[str, NormFacts]
    correct: NDArray[np.bool_] | None
    prediction: NDArray[np.int64] | None

    @property
    def clean_accuracy(self) -> float | None:
        """Share of clean images that are classified correctly."""
        if self.correct is not None:
            return float(self.correct.mean())
        return next((facts.curve.clean_accuracy for facts in self.norms.values()), None)


def row_facts(row: Row, data: Mapping[int, EvaluationData], *, n: int, axes: Mapping[str, Axis]) -> RowFacts:
    """Everything a row says.

    Raises:
        CrossingError: If a proven lower bound exceeds the ledger's distance on some sample.
    """
    norms = {norm: facts for norm in NORMS if (facts := _norm_facts(row, data, axes[norm], n)) is not None}
    if len(norms) == len(NORMS):
        norms[UNION] = _union(norms, axes[UNION])
    clean = [data[e.id] for e in row.done if e.measure == "clean"]
    correct = prediction = None
    if clean:
        correct = _spread(clean[-1], "correct", n, fill=False, dtype=np.bool_)
        prediction = _spread(clean[-1], "prediction", n, fill=-1, dtype=np.int64)
    return RowFacts(row, n, data, norms, correct, prediction)


def _norm_facts(row: Row, data: Mapping[int, EvaluationData], axis: Axis, n: int) -> NormFacts | None:
    name = f"distance_{axis.norm}"
    parts = tuple(_part(e, data[e.id], name, n) for e in row.done if name in data[e.id].arrays)
    if not parts or not np.any([p.looked for p in parts], axis=0).all():
        return None
    distances, winner = np.full(n, np.inf), np.full(n, -1, dtype=np.int64)
    for k, part in enumerate(parts):
        lower = part.distances < distances
        distances[lower], winner[lower] = part.distances[lower], k
    curve = RobustnessCurve(distances, axis.norm)
    own = [e for e in row.done if e.norm == axis.norm]
    facts = NormFacts(
        axis=axis,
        curve=curve,
        winner=winner,
        parts=parts,
        counts=_counts(curve, axis),
        certificate=_best([_spread(data[e.id], "radius", n) for e in own if e.measure == "certificate"]),
        clever=_best([_spread(data[e.id], "score", n) for e in own if e.measure == "clever"]),
        exact=_exact([data[e.id] for e in own if e.measure == "exact"], n),
        points=_points(parts, axis.norm),
    )
    _refuse_crossing(row, facts)
    return facts


def _counts(curve: RobustnessCurve, axis: Axis) -> NDArray[np.int64]:
    return np.rint(curve.robust_accuracy(axis.grid) * len(curve)).astype(np.int64)


def _part(evaluation: EvaluationInfo, data: EvaluationData, name: str, n: int) -> Part:
    samples = data.samples[name]
    inside = samples < n
    looked = np.zeros(n, dtype=np.bool_)
    looked[samples[inside]] = True
    return Part(evaluation, data, _spread(data, name, n, fill=np.inf), looked)


def _spread(data: EvaluationData, name: str, n: int, *, fill: float = np.nan, dtype: Any = np.float64) -> NDArray[Any]:
    """An array of some samples as one of the whole slice; ``fill`` elsewhere."""
    whole = np.full(n, fill, dtype=dtype)
    if name in data.arrays:
        samples = data.samples[name]
        inside = samples < n
        whole[samples[inside]] = data.arrays[name][inside]
    return whole


def _best(arrays: Sequence[Floats]) -> Floats | None:
    """The largest of several lower bounds or scores, ignoring NaN."""
    return np.fmax.reduce(arrays) if arrays else None


def _exact(found: Sequence[EvaluationData], n: int) -> Exact | None:
    if not found:
        return None
    data = found[-1]
    solved = _spread(data, "solved", n, fill=False, dtype=np.bool_)
    return Exact(_spread(data, "lower", n), _spread(data, "upper", n), solved)


def _points(parts: Sequence[Part], norm: str) -> tuple[tuple[float, float], ...]:
    points = []
    for part in parts:
        eps = part.evaluation.parameters.get("eps")
        if (
            part.evaluation.measure == "autoattack"
            and part.evaluation.norm == norm
            and eps is not None
            and part.looked.all()
        ):
            points.append((float(eps), float((part.distances > float(eps)).mean())))
    return tuple(sorted(points))


def _refuse_crossing(row: Row, facts: NormFacts) -> None:
    if (lower := facts.lower) is None:
        return
    distances = facts.curve.distances
    crossed = np.flatnonzero(lower > distances * (1 + ROUNDING))
    if len(crossed):
        i = int(crossed[np.argmax(lower[crossed] - distances[crossed])])
        part = facts.parts[int(facts.winner[i])]
        raise CrossingError(
            f"{row.model.slug}, {facts.axis.norm}: sample {i} is certified up to {lower[i]:.9g}, but "
            f"{part.source.title} has a verified adversarial example at {distances[i]:.9g} (evaluation "
            f"{part.evaluation.id}); {len(crossed)} samples cross. One of the two is wrong, so nothing is published. "
            "Re-check the evidence (curveboard verify), then evaluate the certificate again."
        )


def _union(norms: Mapping[str, NormFacts], axis: Axis) -> NormFacts:
    budgets = [axis.reference[norm] for norm in NORMS]
    scaled = np.stack([norms[norm].curve.distances / eps for norm, eps in zip(NORMS, budgets, strict=True)])
    curve = RobustnessCurve(scaled.min(axis=0), "linf")  # the norm has no part in any of the figures
    return NormFacts(
        axis=axis,
        curve=curve,
        winner=scaled.argmin(axis=0),
        parts=(),
        counts=_counts(curve, axis),
        certificate=_smallest([norms[norm].lower for norm in NORMS], budgets),
        clever=_smallest([norms[norm].clever for norm in NORMS], budgets),
        exact=None,
        points=(),
    )


def _smallest(arrays: Sequence[Floats | None], budgets: Sequence[float]) -> Floats | None:
    present = [array / eps for array, eps in zip(arrays, budgets, strict=True) if array is not None]
    return np.minimum.reduce(present) if len(present) == len(arrays) else None


@dataclass(frozen=True)
class Credit:
    """What one source of adversarial examples did for one row in one norm.

    Attributes:
        source: The source.
        decided: Samples whose nearest example is its.
        alone: Samples whose distance would be larger by more than 1 % without it.
        lowered: How much the area under the curve would be larger without it, in the norm's unit.
        optimality: Mean of (ledger distance ÷ its distance) over the samples it looked at that have an example.
        seconds: What it cost.
        passes: Forward and backward passes, in images.
    """

    source: Source
    decided: int
    alone: int
    lowered: float
    optimality: float | None
    seconds: float
    passes: int


def credits_of(facts: NormFacts) -> list[Credit]:
    """What each source did, the one that decided most first."""
    by_source: dict[Source, list[Part]] = {}
    for part in facts.parts:
        by_source.setdefault(part.source, []).append(part)
    best = {source: _joined(parts) for source, parts in by_source.items()}
    given = shares(best, up_to=facts.axis.maximum)
    found = [_credit(facts, source, by_source[source], share) for source, share in given]
    return sorted(found, key=lambda c: (-c.decided, c.source.title))


def _joined(parts: Sequence[Part]) -> tuple[Floats, NDArray[np.bool_]]:
    """The smallest distances of several evaluations, and the samples that any of them looked at."""
    return np.min([part.distances for part in parts], axis=0), np.any([part.looked for part in parts], axis=0)


def _credit(facts: NormFacts, source: Source, parts: Sequence[Part], share: Share) -> Credit:
    details = [part.data.detail for part in parts if part.evaluation.norm == facts.axis.norm]
    return Credit(
        source=source,
        decided=share.nearest,
        alone=share.alone,
        lowered=share.area,
        optimality=share.optimality,
        seconds=sum(d.seconds for d in details),
        passes=sum(d.forward_passes + d.backward_passes for d in details),
    )
