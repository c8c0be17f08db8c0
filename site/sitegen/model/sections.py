"""What a model's page says, as typed parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from db.queries import DatasetInfo, EvaluationInfo, Row
from sitegen import words
from sitegen.axes import Axis
from sitegen.changes import Story
from sitegen.charts.base import Chart
from sitegen.charts.model import ClassFigure
from sitegen.facts import Credit, RowFacts, ThreatFacts
from sitegen.model.strips import Strip
from sitegen.records import Published, Share, Verified


@dataclass(frozen=True)
class ThreatSection:
    """Everything the page says about a threat."""

    facts: ThreatFacts
    chart: Chart
    table: Sequence[Sequence[str]]
    published: Sequence[Published]
    area: Share
    decided: float | None
    credits: Sequence[Credit]
    families: Sequence[tuple[str, int]]
    strips: Sequence[tuple[str, Sequence[Strip]]]
    sample_chart: Chart | None
    classes: Sequence[ClassFigure]

    @property
    def axis(self) -> Axis:
        """The threat's axis."""
        return self.facts.axis


@dataclass(frozen=True)
class PanelPart:
    """What a kind of output says of the row: the template, and its context."""

    kind: str
    template: str
    shown: Any


@dataclass(frozen=True)
class ClaimLine:
    """A reported figure beside ours."""

    name: str
    threat: str
    claimed: float
    ours: Share | None
    source: str
    verdict: str


@dataclass(frozen=True)
class FlagLine:
    """A warning: its code, what was seen, and the measure that raised it."""

    code: str
    message: str
    measure: str


@dataclass(frozen=True)
class Bundle:
    """The file with everything needed to check the row elsewhere."""

    name: str
    bytes: int


@dataclass(frozen=True)
class EvaluationLine:
    """An evaluation in the table of costs."""

    evaluation: EvaluationInfo
    samples: int
    seconds: float
    forward: int
    backward: int


@dataclass(frozen=True)
class ModelPage:
    """The context of the model page's template.

    Attributes:
        facts: The row.
        dataset: Its dataset.
        status: Why it is not ranked; empty if it is.
        clean: Share of clean images classified correctly, or None.
        sections: The threats, the union last.
        missing: Threats that were not attacked on all samples: (symbol, on how many).
        panels: What each kind of output adds.
        claims: Reported figures beside ours.
        flags: Warnings, each code once.
        problems: Evaluations without a result, by reason.
        evaluations: The finished ones, with their costs.
        circumstances: On what they ran, and how many of them.
        history: The changelog's entries.
        bibtex: Entries of the model's paper, of the model and of its evaluation.
        latex: A row for a table.
        bundle: The row's bundle, if it is offered.
        gone: Whether the workspace has the model's files no more.
        command: How the row is evaluated again.
        short: Who evaluated it, what that cost and what the model costs, in a few sentences.
        verified: The last check of its evidence, or None.
        keys: Where no threat is attacked, the figures that come first: title, value, interval.
    """

    facts: RowFacts
    dataset: DatasetInfo
    status: str
    clean: Share | None
    sections: Sequence[ThreatSection]
    missing: Sequence[tuple[str, int]]
    panels: Sequence[PanelPart]
    claims: Sequence[ClaimLine]
    flags: Sequence[FlagLine]
    problems: Sequence[tuple[str, str, Sequence[EvaluationInfo]]]
    evaluations: Sequence[EvaluationLine]
    circumstances: Sequence[tuple[str, int]]
    history: Sequence[Story]
    bibtex: str
    latex: str
    bundle: Bundle | None
    gone: bool
    command: str
    short: str
    verified: Verified | None
    keys: Sequence[tuple[str, str, str]] = ()

    @property
    def row(self) -> Row:
        """The row."""
        return self.facts.row

    @property
    def reported(self) -> list[str]:
        """What of it another board reported, each once."""
        return sorted({" ".join(filter(None, (e.measure, e.norm))) for e in self.row.reported})

    @property
    def card(self) -> Mapping[str, Any]:
        """The model's card."""
        return self.row.model.card

    @property
    def attacked(self) -> bool:
        """Whether the board attacks models at all."""
        return bool(self.sections or self.missing)

    @property
    def seeds(self) -> str:
        """The seeds of its evaluations."""
        return words.listed(map(str, sorted({line.evaluation.seed for line in self.evaluations})))

    @property
    def seconds(self) -> float:
        """What the row cost in all, in seconds."""
        return sum(line.seconds for line in self.evaluations)
