"""What a row says: its curves between their bounds, sample by sample, and everything counted from them.

A row's facts depend on the row and its board's axes alone, so that they can be computed in any process and kept until
one of its evaluations changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.board.credit import Share, contributor, shares
from benchmark.board.ledger import Contribution, merged
from benchmark.curve import Floats, RobustnessCurve
from benchmark.threat.budget import ABSOLUTE
from db.queries import EvaluationData, EvaluationInfo, Row
from sitegen.axes import Axis
from sitegen.findings import Found, findings, looked, spread
from sitegen.suites import SuiteSheet
from sitegen.threats import UNION

ROUNDING: Final = 1e-9
"""Relative difference below which two distances are equal: what float64 arithmetic may leave."""


@dataclass(frozen=True)
class Source:
    """Where adversarial examples come from: an attack, a challenge, a solver, another model.

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
    slug = "".join(c if c.isalnum() or c in "-." else "-" for c in name.lower()) or "nameless"
    method = (provenance or {}).get("method") or {}
    return Source(slug, name, str(method.get("title") or ""), str(method.get("paper") or ""))


@dataclass(frozen=True, eq=False)
class LedgerPart:
    """What one evaluation contributed to a threat's ledger.

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

    @cached_property
    def source(self) -> Source:
        """Whom it is credited to."""
        return source_of(self.evaluation, self.data.detail.provenance)

    @property
    def contribution(self) -> Contribution:
        """It as the ledger takes it."""
        samples = np.flatnonzero(self.looked)
        return Contribution(self.evaluation.id, samples, self.distances[samples])

    @property
    def within_budget(self) -> bool:
        """Whether it looked for examples within one ε, not for the nearest: it judges samples at that ε."""
        return any(o.get("kind") == "verdict" and o.get("eps") is not None for o in self.evaluation.outputs)


@dataclass(frozen=True)
class Crossing:
    """A proven lower bound above a verified distance: one of the two is wrong.

    Attributes:
        threat: The threat.
        sample: The worst sample.
        certified: Its proven radius.
        distance: Its verified distance.
        source: Who found that example.
        samples: How many samples cross.
    """

    threat: str
    sample: int
    certified: float
    distance: float
    source: str
    samples: int

    @property
    def text(self) -> str:
        """What is wrong, with the sample named."""
        return (
            f"{self.threat}: sample {self.sample} is certified up to {self.certified:.9g}, but {self.source} has a "
            f"verified adversarial example at {self.distance:.9g}; {self.samples} samples cross, so a certificate or a "
            "distance is wrong"
        )


@dataclass(frozen=True, eq=False)
class ThreatFacts:
    """A row under one threat (or under their union).

    Attributes:
        axis: The ε axis.
        curve: The ledger's distances; for the union in multiples of the reference budgets.
        winner: Index in ``parts`` of what found the nearest example, shape (n,); -1 where nothing did.
        parts: What each evaluation contributed, in the order of the ledger.
        counts: Robust samples at each position of the axis, shape (g,).
        beside: Lower bounds, estimates and verdicts of this threat.
        lower: The best proven lower bound of each sample, shape (n,), 0 where there is none; None without any.
    """

    axis: Axis
    curve: RobustnessCurve
    winner: NDArray[np.int64]
    parts: tuple[LedgerPart, ...]
    counts: NDArray[np.int64]
    beside: tuple[Found, ...]
    lower: Floats | None

    def certified(self, eps: float) -> float | None:
        """Share of samples proven robust at ``eps``; None if nothing was proven at all."""
        return None if self.lower is None else float((self.lower > eps).mean())

    def decided(self) -> float | None:
        """How much of the curve is decided, up to the end of the axis.

        1 − (area between the curve of the attacks and that of the proven lower bounds) ÷ (length of the axis).
        """
        if self.lower is None:
            return None
        top = self.axis.maximum
        upper = np.minimum(self.curve.distances, top)
        return float(1 - np.maximum(upper - np.minimum(self.lower, top), 0).mean() / top)

    @cached_property
    def crossing(self) -> Crossing | None:
        """The worst crossing of a proven lower bound and a verified distance."""
        if self.lower is None:
            return None
        distances = self.curve.distances
        crossed = np.flatnonzero(self.lower > distances * (1 + ROUNDING))
        if not len(crossed):
            return None
        worst = int(crossed[np.argmax(self.lower[crossed] - distances[crossed])])
        source = self.parts[int(self.winner[worst])].source.title if self.parts else "an attack"
        return Crossing(
            self.axis.threat, worst, float(self.lower[worst]), float(distances[worst]), source, len(crossed)
        )


@dataclass(frozen=True, eq=False)
class RowFacts:
    """A row of a board, all of it.

    Attributes:
        row: The row.
        n: The slice.
        data: Everything recorded of its done evaluations, by id.
        found: All declared outputs of them.
        threats: threat -> its facts; one that was not attacked on all samples is missing; the union needs all others.
        missing: Threats of the board that were not attacked on all samples -> on how many they were.
        prediction: The class predicted for each clean image, shape (n,), or None.
        sheets: Pictures of the suites that the dataset's boards use, by the suite's name.
    """

    row: Row
    n: int
    data: Mapping[int, EvaluationData]
    found: Sequence[Found]
    threats: Mapping[str, ThreatFacts]
    missing: Mapping[str, int]
    prediction: NDArray[np.int64] | None
    sheets: Mapping[str, SuiteSheet] = field(default_factory=dict)

    @property
    def correct(self) -> int | None:
        """How many clean images are classified correctly: those with a distance above 0; None without a curve."""
        curve = next((facts.curve for facts in self.threats.values()), None)
        return None if curve is None else int(np.count_nonzero(curve.distances > 0))

    @property
    def crossing(self) -> Crossing | None:
        """The first crossing of any threat."""
        return next((facts.crossing for facts in self.threats.values() if facts.crossing is not None), None)

    def of_kind(self, *kinds: str) -> list[Found]:
        """The declared outputs of some kinds."""
        return [found for found in self.found if found.output.kind in kinds]


def row_facts(row: Row, data: Mapping[int, EvaluationData], *, n: int, axes: Mapping[str, Axis]) -> RowFacts:
    """Everything a row says."""
    found = findings(row, data, n)
    threats: dict[str, ThreatFacts] = {}
    missing: dict[str, int] = {}
    for threat, axis in axes.items():
        if threat == UNION:
            continue
        attacked = _attacked(found, threat, n)
        if attacked.all():
            threats[threat] = _threat_facts(row, data, found, axis, n)
        else:
            missing[threat] = int(attacked.sum())
    if UNION in axes and all(threat in threats for threat in axes[UNION].reference):
        threats[UNION] = _union(threats, axes[UNION])
    return RowFacts(row, n, data, found, threats, missing, _prediction(row, data, n))


def _attacked(found: Iterable[Found], threat: str, n: int) -> NDArray[np.bool_]:
    """The samples that were attacked under a threat: examples that were found under another one do not count."""
    attacked = np.zeros(n, dtype=np.bool_)
    for one in found:
        if one.output.kind == "upper" and one.output.threat == threat:
            attacked |= one.measured
    return attacked


def _prediction(row: Row, data: Mapping[int, EvaluationData], n: int) -> NDArray[np.int64] | None:
    known = [data[e.id] for e in row.done if "prediction" in data[e.id].arrays]
    return spread(known[-1], "prediction", n, fill=-1, dtype=np.int64) if known else None


def _threat_facts(
    row: Row, data: Mapping[int, EvaluationData], found: Sequence[Found], axis: Axis, n: int
) -> ThreatFacts:
    name = f"distance_{axis.threat}"
    parts = tuple(_part(e, data[e.id], name, n) for e in row.done if name in data[e.id].arrays)
    whole = merged((part.contribution for part in parts), n)
    place = {part.evaluation.id: k for k, part in enumerate(parts)}
    curve = RobustnessCurve(whole.distances, "linf")  # the norm has no part in any of the figures
    own = tuple(
        f for f in found if f.output.threat == axis.threat and f.output.kind in {"lower", "estimate", "verdict"}
    )
    bounds = [np.maximum(np.nan_to_num(f.values, nan=0.0), 0.0) for f in own if f.output.kind == "lower"]
    return ThreatFacts(
        axis=axis,
        curve=curve,
        winner=np.array([place.get(key, -1) for key in whole.source.tolist()], dtype=np.int64),
        parts=parts,
        counts=_counts(whole.distances, axis),
        beside=own,
        lower=np.maximum.reduce(bounds) if bounds else None,
    )


def _counts(distances: Floats, axis: Axis) -> NDArray[np.int64]:
    ordered = np.sort(distances)
    return (len(distances) - np.searchsorted(ordered, axis.limits, side="right")).astype(np.int64)


def _part(evaluation: EvaluationInfo, data: EvaluationData, name: str, n: int) -> LedgerPart:
    distances = spread(data, name, n, fill=np.inf)
    distances[~(distances >= 0)] = np.inf  # what no ledger can hold says nothing; `curveboard verify` finds it
    return LedgerPart(evaluation, data, distances, looked(data, name, n))


def _union(threats: Mapping[str, ThreatFacts], axis: Axis) -> ThreatFacts:
    own = [(threats[threat], eps) for threat, eps in axis.reference.items()]
    scaled = np.stack([_multiple(facts.curve.distances, eps) for facts, eps in own])
    bounds = [facts.lower / eps for facts, eps in own if facts.lower is not None]
    distances = scaled.min(axis=0)
    return ThreatFacts(
        axis=axis,
        curve=RobustnessCurve(distances, "linf"),  # the norm has no part in any of the figures
        winner=scaled.argmin(axis=0),
        parts=(),
        counts=_counts(distances, axis),
        beside=(),
        lower=np.minimum.reduce(bounds) if len(bounds) == len(own) else None,
    )


def _multiple(distances: Floats, eps: float) -> Floats:
    """Distances as multiples of a budget, such that one is within k if the distance is within k times the budget."""
    scaled = (distances - ABSOLUTE) / eps + ABSOLUTE
    return np.where(distances > 0, np.maximum(scaled, np.finfo(np.float64).tiny), 0.0)


@dataclass(frozen=True)
class Credit:
    """What one source of adversarial examples did for one row under one threat.

    Attributes:
        source: The source.
        decided: Samples whose nearest example is its.
        alone: Samples whose distance would be larger by more than 1 % without it.
        lowered: How much the area under the curve would be larger without it, in the norm's unit.
        optimality: Mean of (ledger distance ÷ its distance) over the samples it looked at that have an example; None
            also for a source that looks for examples within one ε, not for the nearest.
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


def credits_of(facts: ThreatFacts) -> list[Credit]:
    """What each source did, the one that decided most first."""
    by_source: dict[Source, list[LedgerPart]] = {}
    for part in facts.parts:
        by_source.setdefault(part.source, []).append(part)
    ledgers = {
        source: merged((part.contribution for part in parts), len(facts.winner)) for source, parts in by_source.items()
    }
    given = shares({k: (own.distances, own.covered) for k, own in ledgers.items()}, up_to=facts.axis.maximum)
    found = [_credit(facts, source, by_source[source], share) for source, share in given]
    return sorted(found, key=lambda c: (-c.decided, c.source.title))


def _credit(facts: ThreatFacts, source: Source, parts: Sequence[LedgerPart], share: Share) -> Credit:
    own = [part for part in parts if any(o.get("threat") == facts.axis.threat for o in part.evaluation.outputs)]
    details = [part.data.detail for part in own]
    return Credit(
        source=source,
        decided=share.nearest,
        alone=share.alone,
        lowered=share.area,
        optimality=None if own and all(part.within_budget for part in own) else share.optimality,
        seconds=sum(d.seconds for d in details),
        passes=sum(d.forward_passes + d.backward_passes for d in details),
    )
