"""A model's page and its files, from its row alone: nothing here depends on any other model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats, RobustnessCurve, proportion_interval
from db.queries import ChangeInfo, DatasetInfo, EvaluationInfo, Row, RowStatus
from db.schema import State
from sitegen import words
from sitegen.axes import NORMS, UNION
from sitegen.changes import Story, story
from sitegen.facts import Credit, NormFacts, RowFacts, credits_of
from sitegen.pictures import Examples, difference, png, strip, to_pixels
from sitegen.plots import Area, Chart, Line, Point, svg
from sitegen.render import Frame, render

Triple = tuple[float, float, float]
"""A share with the ends of its 95 % interval."""

POINTS: Final = 160
"""Steps of a curve that are drawn."""
STRIPS: Final = 4
"""Pictures at each end: the hardest and the easiest samples."""
MULTIPLES: Final = 12
"""Classes that get a curve of their own."""
SAMPLES: Final = 240
"""Samples in the chart of single samples."""


@dataclass(frozen=True)
class Strip:
    """A sample in pictures.

    Attributes:
        file: The picture's file, beside the page.
        alt: What it shows.
        sample: Index in the dataset.
        label: Name of its class.
        distance: Of the nearest adversarial example.
        source: Who found that.
        width: Of the picture in pixels.
        height: Of the picture in pixels.
    """

    file: str
    alt: str
    sample: int
    label: str
    distance: float
    source: str
    width: int
    height: int


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
class ClassFigure:
    """One class of a dataset in one norm."""

    name: str
    samples: int
    accuracy: float
    median: float
    chart: Chart


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
    conformance: Sequence[tuple[str, str, str]]
    problems: Sequence[tuple[EvaluationInfo, str]]
    evaluations: Sequence[EvaluationInfo]
    history: Sequence[Story]
    bibtex: str
    latex: str
    files: Sequence[tuple[str, str]]

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
    RowStatus.INCOMPLETE: "This row is not complete: some of its evaluations are still to come or have failed. It is not "
    "ranked.",
    RowStatus.STALE: "This row is stale: it was evaluated by an older version of the protocol, and is not ranked with "
    "rows of the present one.",
    RowStatus.SUPERSEDED: "This row is of older weights: the board ranks the newer ones.",
}


def triple(count: float, n: int) -> Triple:
    """``count`` of ``n`` as a share with its Clopper–Pearson interval (95 %)."""
    low, high = proportion_interval(count, n)
    return count / n, float(low), float(high)


def model_page(
    facts: RowFacts,
    dataset: DatasetInfo,
    changes: Sequence[ChangeInfo],
    *,
    labels: NDArray[np.int64] | None,
    images: NDArray[np.uint8] | None,
    examples: Examples,
    files: dict[str, bytes],
) -> ModelPage:
    """The page's context; pictures and downloads are put into ``files``, by their path beside the page.

    Args:
        facts: The row.
        dataset: Its dataset.
        changes: The changelog's entries about the model.
        labels: Labels of the samples, shape (n,), if stored.
        images: Images of the samples, shape (n, c, h, w), if stored.
        examples: Where adversarial examples come from.
        files: Receives the files.
    """
    sections = [
        _section(facts, facts.norms[norm], dataset, labels=labels, images=images, examples=examples, files=files)
        for norm in NORMS
        if norm in facts.norms
    ]
    union = None
    if UNION in facts.norms:
        union = _section(facts, facts.norms[UNION], dataset, labels=labels, images=None, examples=examples, files=files)
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
        history=[story(change) for change in changes],
        bibtex=bibtex(facts.row),
        latex=latex(facts, clean),
        files=(),
    )
    _downloads(page, labels, files)
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
    *,
    labels: NDArray[np.int64] | None,
    images: NDArray[np.uint8] | None,
    examples: Examples,
    files: dict[str, bytes],
) -> NormSection:
    curve, axis = facts.curve, facts.axis
    area = curve.area_interval(up_to=axis.maximum)
    scores = facts.clever[np.isfinite(facts.clever)] if facts.clever is not None else np.array([])
    chart = curve_chart(row.row.model.title, facts)
    files[f"curve-{axis.norm}.svg"] = svg(chart).encode()
    strips = [] if images is None else _strips(row, facts, dataset, labels, images, examples, files)
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
        strips=strips,
        sample_chart=_sample_chart(facts) if facts.lower is not None or facts.clever is not None else None,
        classes=[] if labels is None or axis.norm == UNION else _classes(facts, labels, dataset),
    )


def _drawn(curve: RobustnessCurve, facts: NormFacts) -> tuple[Floats, Floats]:
    """Positions and robust accuracies of a curve, thinned for drawing without moving a published point."""
    steps = curve.thin(POINTS, keep=facts.axis.published)
    inside = steps.eps <= facts.axis.maximum
    x, y = steps.eps[inside], steps.robust_accuracy[inside]
    return np.append(x, facts.axis.maximum), np.append(y, y[-1])


def curve_chart(title: str, facts: NormFacts) -> Chart:
    """The curve between its bounds: certificate, CLEVER, exact, attacks, with the confidence band."""
    axis, n = facts.axis, len(facts.curve)
    x, y = _drawn(facts.curve, facts)
    band = facts.curve.band(eps=x)
    areas = [Area("95 % confidence band of the sampling", x, band.low, band.high, "s0")]
    lines: list[Line] = []
    if facts.certificate is not None:
        radii = RobustnessCurve(np.nan_to_num(facts.certificate, nan=0.0), "linf")
        lines.append(Line("certified: at least so robust", *_drawn(radii, facts), style="s2 dash"))
    if facts.clever is not None and (kept := facts.clever[np.isfinite(facts.clever)]).size:
        scores = RobustnessCurve(np.maximum(kept, 0), "linf")
        some = "" if kept.size == n else f", {kept.size} samples"
        lines.append(Line(f"CLEVER: an estimate{some}", *_drawn(scores, facts), style="s1 dots"))
    if facts.exact is not None and (measured := facts.exact.upper[np.isfinite(facts.exact.upper)]).size:
        exact = RobustnessCurve(measured, "linf")
        some = "" if measured.size == n else f", on {measured.size} samples"
        lines.append(Line(f"exact distances{some}", *_drawn(exact, facts), style="s3 dashdot"))
    lines.append(Line("attacked: at most so robust", x, y, style="s0 thick"))
    points = [Point("AutoAttack", facts.points, "s7")] if facts.points else []
    said = ", ".join(f"{words.percent(facts.curve.robust_accuracy(eps))} % at ε = {eps:g}" for eps in axis.published)
    return Chart(
        title=f"{title} in {axis.symbol}",
        description=f"Robust accuracy falls from {words.percent(facts.curve.clean_accuracy)} % at ε = 0 to {said}.",
        x_label=axis.label,
        y_label="robust accuracy",
        x_range=(0.0, axis.maximum),
        x_ticks=axis.ticks,
        marks=axis.published,
        lines=lines,
        areas=areas,
        points=points,
    )


def curve_table(facts: NormFacts) -> list[list[str]]:
    """The curve as a table, at the ticks and the published budgets."""
    positions = sorted({*facts.axis.ticks, *facts.axis.published})
    rows = [["ε", "robust accuracy %", "95 % interval", "certified %"]]
    for eps in positions:
        found = facts.curve.interval(eps)
        share = facts.curve.robust_accuracy(eps)
        ends = f"{words.percent(found.low)}–{words.percent(found.high)}"
        rows.append([f"{eps:g}", words.percent(share), ends, words.percent(facts.certified(eps))])
    return rows


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


def _strips(
    row: RowFacts,
    facts: NormFacts,
    dataset: DatasetInfo,
    labels: NDArray[np.int64] | None,
    images: NDArray[np.uint8],
    examples: Examples,
    files: dict[str, bytes],
) -> list[tuple[str, list[Strip]]]:
    distances = facts.curve.distances
    known = np.flatnonzero((distances > 0) & np.isfinite(distances))
    order = known[np.argsort(distances[known], kind="stable")]
    names = dataset.card.get("classes") or []
    groups = [
        ("Easiest to break", order[:STRIPS]),
        ("Hardest to break", order[max(len(order) - STRIPS, STRIPS) :][::-1]),
    ]
    found = []
    for title, chosen in groups:
        strips: list[Strip] = []
        for sample in map(int, chosen):
            part = facts.parts[int(facts.winner[sample])]
            example = examples.get(part.data.evidence, sample)
            if example is None or example.shape != images.shape[1:]:
                continue
            label = int(labels[sample]) if labels is not None else -1
            name = str(names[label]) if 0 <= label < len(names) else str(label)
            pixels = strip([to_pixels(images[sample]), to_pixels(example), difference(images[sample], example)])
            file = f"sample-{facts.axis.norm}-{sample}.png"
            files[file] = png(pixels)
            alt = (
                f"Sample {sample}, a {name}: clean image, adversarial example at {facts.axis.norm} distance "
                f"{words.number(float(distances[sample]))}, and their difference"
            )
            height, width = pixels.shape[:2]
            strips.append(Strip(file, alt, sample, name, float(distances[sample]), part.source.title, width, height))
        if strips:
            found.append((title, strips))
    return found


def _sample_chart(facts: NormFacts) -> Chart:
    """Certificate, CLEVER, exact and attack of the same samples on one axis, ordered by the attacks' distance."""
    distances = facts.curve.distances
    known = np.flatnonzero(distances > 0)
    order = known[np.argsort(distances[known], kind="stable")]
    order = (
        order[np.unique(np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).astype(int))] if len(order) else order
    )
    top = facts.axis.maximum
    xs = (np.arange(len(order)) + 0.5) / max(len(order), 1)

    def points(values: Floats | None) -> list[tuple[float, float]]:
        if values is None:
            return []
        chosen = values[order]
        return [(float(x), float(min(v, top))) for x, v in zip(xs, chosen, strict=True) if np.isfinite(v)]

    kinds = [
        ("certificate", points(facts.certificate), "s2 square"),
        ("CLEVER", points(facts.clever), "s1"),
        ("exact", points(facts.exact.upper if facts.exact else None), "s3 big"),
    ]
    return Chart(
        title="Sample by sample",
        description="For each sample, ordered by the attacks' distance: certificate below, attack above, CLEVER between "
        "or across them.",
        x_label="samples, ordered by the distance of their nearest adversarial example",
        y_label="distance",
        x_range=(0.0, 1.0),
        y_range=(0.0, top),
        y_ticks=[(t, f"{t:g}") for t in facts.axis.ticks],
        lines=[Line("attack (verified)", xs, np.minimum(distances[order], top), style="s0 thick", step=False)]
        if len(order)
        else [],
        points=[Point(label, found, style) for label, found, style in kinds if found],
    )


def _classes(facts: NormFacts, labels: NDArray[np.int64], dataset: DatasetInfo) -> list[ClassFigure]:
    names = dataset.card.get("classes") or []
    eps = facts.axis.published[0]
    present = [int(c) for c in np.unique(labels)]
    whole_x, whole_y = _drawn(facts.curve, facts)
    found = []
    for label in present:
        own = facts.curve.distances[labels == label]
        curve = RobustnessCurve(own, "linf")
        steps = curve.thin(40, keep=(eps,))
        inside = steps.eps <= facts.axis.maximum
        x = np.append(steps.eps[inside], facts.axis.maximum)
        y = np.append(steps.robust_accuracy[inside], steps.robust_accuracy[inside][-1])
        name = str(names[label]) if label < len(names) else str(label)
        chart = Chart(
            title=f"Class {name}",
            description=f"{words.percent(curve.robust_accuracy(eps))} % robust at ε = {eps:g}.",
            x_label="",
            y_label="",
            x_range=(0.0, facts.axis.maximum),
            x_ticks=(0.0, facts.axis.published[-1]),
            y_ticks=((0, "0"), (1, "100 %")),
            marks=(eps,),
            lines=[
                Line("", whole_x[:: max(len(whole_x) // 40, 1)], whole_y[:: max(len(whole_y) // 40, 1)], style="faint"),
                Line("", x, y, style="s0 thick"),
            ],
            css="small",
        )
        found.append(ClassFigure(name, len(own), curve.robust_accuracy(eps), curve.median, chart))
    found.sort(key=lambda c: (c.accuracy, c.median, c.name))
    return found[:MULTIPLES]


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


def _conformance(facts: RowFacts) -> list[tuple[str, str, str]]:
    """(check, value seen, unit) of the newest conformance report."""
    reports = [e for e in facts.row.done if e.measure == "conformance"]
    if not reports:
        return []
    detail = facts.data[reports[-1].id].detail
    return [(s.name.replace("_", " "), words.number(s.value, 4), s.unit) for s in detail.scores]


def bibtex(row: Row) -> str:
    """A BibTeX entry from the card."""
    card = row.model.card
    paper = str(card.get("paper") or "")
    fields = {
        "title": "{" + row.model.title + "}",
        "author": " and ".join(map(str, card.get("authors") or [])),
        "year": str(card.get("year") or ""),
        "booktitle": str(card.get("venue") or ""),
        "url": paper if paper.startswith("http") else "",
        "note": "" if paper.startswith("http") else paper,
    }
    kind = "inproceedings" if fields["booktitle"] else "misc"
    lines = [
        f"  {name} = {{{_tex(value) if name not in ('url',) else value}}}," for name, value in fields.items() if value
    ]
    return f"@{kind}{{{row.model.slug},\n" + "\n".join(lines) + "\n}\n"


def latex(facts: RowFacts, clean: Triple | None) -> str:
    """A row for a paper's table: title, clean accuracy, robust accuracy at each published budget of each norm."""
    cells = [_tex(facts.row.model.title), words.percent(clean[0] if clean else None)]
    heads = ["Model", "Clean"]
    for norm in NORMS:
        if norm in facts.norms:
            found = facts.norms[norm]
            for eps in found.axis.published:
                cells.append(words.percent(found.curve.robust_accuracy(eps)))
                heads.append(f"{norm} {eps:g}")
    return "% " + " & ".join(heads) + "\n" + " & ".join(cells) + " \\\\\n"


def _tex(text: str) -> str:
    table = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(table.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text) if "{" not in text[:1] else text


def _downloads(page: ModelPage, labels: NDArray[np.int64] | None, files: dict[str, bytes]) -> None:
    files["model.json"] = _json(model_json(page))
    files["samples.csv"] = _samples_csv(page.facts, labels)
    files["cite.bib"] = page.bibtex.encode()
    files["row.tex"] = page.latex.encode()


def model_json(page: ModelPage) -> dict[str, Any]:
    """Everything the page shows, as JSON values."""
    row = page.row
    return {
        "slug": row.model.slug,
        "title": row.model.title,
        "digest": row.model.digest,
        "card": row.model.card,
        "dataset": {"name": page.dataset.name, "digest": page.dataset.digest, "samples": page.facts.n},
        "protocol": {"name": row.protocol.name, "version": row.protocol.version},
        "status": row.status.value,
        "clean_accuracy": _interval_json(page.clean),
        "flags": [{"code": code, "message": message, "measure": measure} for code, message, measure in page.flags],
        "norms": {s.facts.axis.norm: _norm_json(s) for s in (*page.sections, *([page.union] if page.union else []))},
        "evaluations": [_evaluation_json(page.facts, e) for e in page.evaluations],
    }


def _norm_json(section: NormSection) -> dict[str, Any]:
    facts = section.facts
    steps = facts.curve.thin(POINTS, keep=facts.axis.published)
    return {
        "published": [
            {
                "eps": p.eps,
                "robust_accuracy": _interval_json(p.accuracy),
                "certified": p.certified,
                "autoattack": p.autoattack,
            }
            for p in section.published
        ],
        "area": dict(zip(("value", "low", "high"), section.area, strict=True)) | {"up_to": facts.axis.maximum},
        "median_distance": section.median if np.isfinite(section.median) else None,
        "censored": facts.curve.censored,
        "clever_mean": section.clever_mean,
        "clever_median": section.clever_median,
        "clever_violations": section.violations,
        "decided": section.decided,
        "curve": {"eps": steps.eps.tolist(), "robust_accuracy": np.round(steps.robust_accuracy, 10).tolist()},
        "credit": [
            {
                "source": c.source.title,
                "decided": c.decided,
                "alone": c.alone,
                "lowered_area": c.lowered,
                "optimality": c.optimality,
                "seconds": c.seconds,
                "passes": c.passes,
            }
            for c in section.credits
        ],
    }


def _interval_json(value: Triple | None) -> dict[str, float] | None:
    return None if value is None else dict(zip(("value", "low", "high"), value, strict=True)) | {"confidence": 0.95}


def _evaluation_json(facts: RowFacts, evaluation: EvaluationInfo) -> dict[str, Any]:
    detail = facts.data[evaluation.id].detail
    return {
        "key": evaluation.key,
        "measure": evaluation.measure,
        "version": evaluation.version,
        "parameters": evaluation.parameters,
        "seed": evaluation.seed,
        "samples": detail.samples,
        "finished_at": evaluation.finished_at.isoformat() if evaluation.finished_at else None,
        "seconds": detail.seconds,
        "forward_passes": detail.forward_passes,
        "backward_passes": detail.backward_passes,
        "provenance": detail.provenance,
        "scores": [
            {"name": s.name, "value": s.value, "low": s.low, "high": s.high, "unit": s.unit} for s in detail.scores
        ],
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n").encode()


def _samples_csv(facts: RowFacts, labels: NDArray[np.int64] | None) -> bytes:
    """The data behind the curves, a line a sample: ``nan`` where nothing was measured, ``inf`` where nothing was found."""
    columns: list[tuple[str, str, NDArray[Any]]] = [("sample", "%d", np.arange(facts.n))]
    if labels is not None:
        columns.append(("label", "%d", labels[: facts.n]))
    if facts.prediction is not None:
        columns.append(("prediction", "%d", facts.prediction))
    for norm in NORMS:
        if norm in facts.norms:
            found = facts.norms[norm]
            columns.append((f"distance_{norm}", "%r", found.curve.distances))
            for name, values in (("certificate", found.certificate), ("clever", found.clever)):
                if values is not None:
                    columns.append((f"{name}_{norm}", "%.6g", values))
    line = ",".join(form for _, form, _ in columns)
    lines = [line % row for row in zip(*(values.tolist() for _, _, values in columns), strict=True)]
    return "\n".join([",".join(name for name, _, _ in columns), *lines, ""]).encode()
