"""A model's page and its files, from its row alone: nothing here depends on any other model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from db.queries import ChangeInfo, DatasetInfo, EvaluationInfo, Row, RowStatus
from db.schema import State
from sitegen import words
from sitegen.axes import NORMS, UNION
from sitegen.changes import Story, story
from sitegen.facts import Credit, NormFacts, RowFacts, credits_of
from sitegen.model_charts import ClassFigure, Triple, class_figures, curve_chart, curve_table, sample_chart, triple
from sitegen.model_files import bibtex, json_bytes, latex, model_json, samples_csv
from sitegen.plots import Chart, svg
from sitegen.render import Frame, render
from sitegen.strips import Stock, Strip, strips_of


@dataclass(frozen=True)
class Published:
    """The row at one published budget.

    Attributes:
        eps: The budget.
        accuracy: Robust accuracy.
        certified: Share proven robust, or None.
        undecided: Share neither broken nor proven, or None.
        autoattack: AutoAttack's robust accuracy, or None.
    """

    eps: float
    accuracy: Triple
    certified: float | None
    undecided: float | None
    autoattack: float | None


@dataclass(frozen=True)
class NormSection:
    """Everything the page says about a norm."""

    facts: NormFacts
    chart: Chart
    table: Sequence[Sequence[str]]
    published: Sequence[Published]
    area: Triple
    median: float
    clever_mean: float | None
    clever_median: float | None
    violations: float | None
    decided: float | None
    credits: Sequence[Credit]
    families: Sequence[tuple[str, int]]
    strips: Sequence[tuple[str, Sequence[Strip]]]
    sample_chart: Chart | None
    classes: Sequence[ClassFigure]


@dataclass(frozen=True)
class ClaimLine:
    """A reported figure beside ours."""

    name: str
    threat: str
    claimed: float
    ours: Triple | None
    source: str
    verdict: str


@dataclass(frozen=True)
class Check:
    """A line of the conformance report.

    Attributes:
        name: What was checked.
        seen: The value seen, with its unit.
        warning: What is wrong, in a sentence; empty if the check passed.
    """

    name: str
    seen: str
    warning: str


@dataclass(frozen=True)
class Bundle:
    """The file with everything needed to check the row elsewhere."""

    name: str
    bytes: int


@dataclass(frozen=True)
class ModelPage:
    """The context of the model page's template."""

    facts: RowFacts
    dataset: DatasetInfo
    status: str
    clean: Triple | None
    sections: Sequence[NormSection]
    union: NormSection | None
    claims: Sequence[ClaimLine]
    flags: Sequence[tuple[str, str, str]]
    conformance: Sequence[Check]
    problems: Sequence[tuple[EvaluationInfo, str]]
    evaluations: Sequence[EvaluationInfo]
    circumstances: Sequence[tuple[str, int]]
    history: Sequence[Story]
    bibtex: str
    latex: str
    bundle: Bundle | None

    @property
    def row(self) -> Row:
        """The row."""
        return self.facts.row

    @property
    def card(self) -> Mapping[str, Any]:
        """The model's card."""
        return self.row.model.card

    @cached_property
    def seconds(self) -> float:
        """What the row cost in all, in seconds."""
        return sum(d.detail.seconds for d in self.facts.data.values())


STATUS: Final = {
    RowStatus.COMPLETE: "",
    RowStatus.INCOMPLETE: "This row is not complete: some of its evaluations are still to come or have failed. It is "
    "not ranked.",
    RowStatus.STALE: "This row is stale: it was evaluated by an older version of the protocol, and is not ranked with "
    "rows of the present one.",
    RowStatus.SUPERSEDED: "This row is of older weights: the board ranks the newer ones.",
}


def model_page(
    facts: RowFacts,
    dataset: DatasetInfo,
    changes: Sequence[ChangeInfo],
    *,
    stock: Stock,
    files: dict[str, bytes],
    bundle: Bundle | None = None,
) -> ModelPage:
    """The page's context; pictures and downloads are put into ``files``, by their path beside the page.

    Args:
        facts: The row.
        dataset: Its dataset.
        changes: The changelog's entries about the model.
        stock: What pictures are made from.
        files: Receives the files.
        bundle: The row's bundle, if it is offered.
    """
    sections = [_section(facts, facts.norms[norm], dataset, stock, files) for norm in NORMS if norm in facts.norms]
    union = None
    if UNION in facts.norms:
        union = _section(facts, facts.norms[UNION], dataset, stock, files)
    clean = triple(float(facts.correct.sum()), facts.n) if facts.correct is not None else None
    page = ModelPage(
        facts=facts,
        dataset=dataset,
        status=STATUS[facts.row.status],
        clean=clean,
        sections=sections,
        union=union,
        claims=_claims(facts, clean),
        flags=flags_of(facts),
        conformance=_conformance(facts),
        problems=[(e, e.reason or "") for e in facts.row.cells if e.state is not State.DONE],
        evaluations=facts.row.done,
        circumstances=_circumstances(facts),
        history=[story(change) for change in changes],
        bibtex=bibtex(facts.row),
        latex=latex(facts, clean),
        bundle=bundle,
    )
    _downloads(page, stock.labels, files)
    return page


def page_bytes(page: ModelPage, *, board_title: str, as_of: datetime | None) -> bytes:
    """The page itself."""
    title = page.row.model.title
    frame = Frame(
        title=f"{title} – {board_title}",
        description=f"Robustness curves, certificates, CLEVER, cost and evidence of {title} on {board_title}.",
        root="../../../../",
        section="Boards",
        crumbs=(("Boards", "../../../index.html"), (board_title, "../../index.html")),
        as_of=as_of,
    )
    return render("model.html", frame, page=page, words=words)


def _section(
    row: RowFacts,
    facts: NormFacts,
    dataset: DatasetInfo,
    stock: Stock,
    files: dict[str, bytes],
) -> NormSection:
    curve, axis = facts.curve, facts.axis
    area = curve.area_interval(up_to=axis.maximum)
    scores = facts.clever[np.isfinite(facts.clever)] if facts.clever is not None else np.array([])
    chart = curve_chart(row.row.model.title, facts)
    files[f"curve-{axis.norm}.svg"] = svg(chart).encode()
    return NormSection(
        facts=facts,
        chart=chart,
        table=curve_table(facts),
        published=_published(facts),
        area=(curve.area(up_to=axis.maximum), area.low, area.high),
        median=curve.median,
        clever_mean=float(scores.mean()) if len(scores) else None,
        clever_median=float(np.median(scores)) if len(scores) else None,
        violations=facts.violations(),
        decided=facts.decided(),
        credits=credits_of(facts),
        families=_families(facts),
        strips=strips_of(facts, stock, files) if facts.parts else [],
        sample_chart=sample_chart(facts) if facts.lower is not None or facts.clever is not None else None,
        classes=[] if stock.labels is None or axis.norm == UNION else class_figures(facts, stock.labels, dataset),
    )


def _published(facts: NormFacts) -> list[Published]:
    n = len(facts.curve)
    found = []
    for eps in facts.axis.published:
        accuracy = triple(round(facts.curve.robust_accuracy(eps) * n), n)
        certified = facts.certified(eps)
        undecided = None if certified is None else max(accuracy[0] - certified, 0.0)
        autoattack = next((share for at, share in facts.points if abs(at - eps) < 1e-12), None)
        found.append(Published(eps, accuracy, certified, undecided, autoattack))
    return found


def _families(facts: NormFacts) -> list[tuple[str, int]]:
    """Which family within an attack found the nearest example, and of how many samples."""
    counts: dict[str, int] = {}
    adversarial = (facts.curve.distances > 0) & np.isfinite(facts.curve.distances)
    for k, part in enumerate(facts.parts):
        name = next((a for a in ("origin", "broken_by") if a in part.data.arrays), None)
        if name is None:
            continue
        samples = part.data.samples[name]
        inside = samples < len(facts.curve)
        won = (facts.winner[samples[inside]] == k) & adversarial[samples[inside]]
        for family, number in zip(*np.unique(part.data.arrays[name][inside][won], return_counts=True), strict=True):
            text = family.decode("utf-8", "replace") if isinstance(family, bytes) else str(family)
            label = f"{part.source.title}: {text}"
            counts[label] = counts.get(label, 0) + int(number)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _claims(facts: RowFacts, clean: Triple | None) -> list[ClaimLine]:
    found = []
    for claim in facts.row.model.card.get("claims") or []:
        name, norm, eps = str(claim.get("name", "")), claim.get("norm"), claim.get("eps")
        value = float(claim.get("value", 0.0))
        ours: Triple | None = None
        if name == "clean_accuracy":
            ours = clean
        elif name == "robust_accuracy" and norm in facts.norms and eps is not None:
            curve = facts.norms[norm].curve
            ours = triple(round(curve.robust_accuracy(float(eps)) * len(curve)), len(curve))
        elif name == "certified_accuracy" and norm in facts.norms and eps is not None:
            certified = facts.norms[norm].certified(float(eps))
            ours = None if certified is None else triple(round(certified * facts.n), facts.n)
        threat = f"{norm}, ε = {float(eps):g}" if norm and eps is not None else "–"
        found.append(
            ClaimLine(name.replace("_", " "), threat, value, ours, str(claim.get("source", "")), _verdict(value, ours))
        )
    return found


def _verdict(claimed: float, ours: Triple | None) -> str:
    if ours is None:
        return "not measured here"
    if claimed > ours[2]:
        return "claimed higher than measured"
    return "claimed lower than measured" if claimed < ours[1] else "within our interval"


def flags_of(facts: RowFacts) -> list[tuple[str, str, str]]:
    """(code, message, the measure that raised it) of every flag, each code once."""
    found: dict[str, tuple[str, str, str]] = {}
    for evaluation in facts.row.done:
        for flag in facts.data[evaluation.id].detail.flags:
            found.setdefault(flag.code, (flag.code, flag.message, evaluation.measure))
    return sorted(found.values())


def _conformance(facts: RowFacts) -> list[Check]:
    """The newest conformance report.

    A check that warns raises a flag of its own name; one that refuses leaves no report at all.
    """
    reports = [e for e in facts.row.done if e.measure == "conformance"]
    if not reports:
        return []
    detail = facts.data[reports[-1].id].detail
    warnings = {flag.code: flag.message for flag in detail.flags}
    return [
        Check(
            name=score.name.replace("_", " "),
            seen=f"{words.number(score.value, 4)} {score.unit}".strip(),
            warning=warnings.get(score.name.replace("_", "-"), ""),
        )
        for score in detail.scores
    ]


def _circumstances(facts: RowFacts) -> list[tuple[str, int]]:
    """On what the evaluations ran, and how many of them."""
    counts = Counter(words.circumstances(facts.data[e.id].detail.provenance) for e in facts.row.done)
    return sorted(((text, number) for text, number in counts.items() if text), key=lambda item: (-item[1], item[0]))


def _downloads(page: ModelPage, labels: NDArray[np.int64] | None, files: dict[str, bytes]) -> None:
    files["model.json"] = json_bytes(model_json(page))
    files["samples.csv"] = samples_csv(page.facts, labels)
    files["cite.bib"] = page.bibtex.encode()
    files["row.tex"] = page.latex.encode()
