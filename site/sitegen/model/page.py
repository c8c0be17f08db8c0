"""A model's page, from its row alone: nothing here depends on any other model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from db.queries import ChangeInfo, DatasetInfo, EvaluationInfo, Row, RowStatus
from db.schema import State
from sitegen import words
from sitegen.changes import story
from sitegen.charts.model import class_figures, curve_chart, curve_table, sample_chart, share_of
from sitegen.charts.svg import svg
from sitegen.facts import RowFacts, ThreatFacts, credits_of
from sitegen.findings import Found, newest
from sitegen.model.files import bibtex, json_bytes, latex, model_json, samples_csv
from sitegen.model.sections import Bundle, ClaimLine, EvaluationLine, FlagLine, ModelPage, PanelPart, ThreatSection
from sitegen.model.strips import PictureData, strips_of
from sitegen.panels import panel_of, panels
from sitegen.records import Published, Share
from sitegen.render import Frame, render
from sitegen.summary import costs_of, verified
from sitegen.threats import UNION, symbol

STATUS: Final = {
    RowStatus.COMPLETE: "",
    RowStatus.INCOMPLETE: "This row is not complete: some of its evaluations are still to come or have failed. It is "
    "not ranked.",
    RowStatus.REPORTED: "This row was reported by another board. Its adversarial examples are proven; that nothing "
    "nearer was found is not: it is ranked once this board has searched itself.",
    RowStatus.WITHDRAWN: "This model is not ranked any more.",
    RowStatus.STALE: "This row is stale: it was evaluated by an older version of the protocol, and is not ranked with "
    "rows of the present one.",
    RowStatus.SUPERSEDED: "This row is of older weights: the board ranks the newer ones.",
}


def model_page(
    facts: RowFacts,
    dataset: DatasetInfo,
    changes: Sequence[ChangeInfo],
    *,
    picture_data: PictureData,
    files: dict[str, bytes],
    bundle: Bundle | None = None,
    gone: bool = False,
) -> ModelPage:
    """The page's context; pictures and downloads are put into ``files``, by their path beside the page.

    Args:
        facts: The row.
        dataset: Its dataset.
        changes: The changelog's entries about the model.
        picture_data: What pictures are made from.
        files: Receives the files.
        bundle: The row's bundle, if it is offered.
        gone: Whether the workspace has the model's files no more.
    """
    clean = share_of(facts.correct, facts.n) if facts.correct is not None else None
    row = facts.row
    page = ModelPage(
        facts=facts,
        dataset=dataset,
        status=_status(facts),
        clean=clean,
        sections=[_section(facts, found, dataset, picture_data, files) for found in facts.threats.values()],
        missing=[(symbol(threat), samples) for threat, samples in facts.missing.items()],
        panels=_panels(facts),
        claims=_claims(facts, clean),
        flags=flags_of(facts),
        problems=_problems(row),
        evaluations=_evaluations(facts),
        circumstances=_circumstances(facts),
        history=[story(change) for change in changes],
        bibtex=bibtex(row, dataset=dataset.name, n=facts.n),
        latex=latex(facts, clean),
        bundle=bundle,
        gone=gone,
        command=f"curveboard evaluate -m {row.model.slug} --dataset {dataset.name} --limit {facts.n} "
        f"--protocol {row.protocol.name}",
        short=_short(facts),
        verified=verified(row, changes),
        keys=[] if facts.threats or facts.missing else _keys(facts),
    )
    files["model.json"] = json_bytes(model_json(page))
    files["samples.csv"] = samples_csv(facts, picture_data.labels)
    files["cite.bib"] = page.bibtex.encode()
    files["row.tex"] = page.latex.encode()
    return page


def page_bytes(page: ModelPage, *, board_title: str, as_of: datetime | None) -> bytes:
    """The page itself."""
    title = page.row.model.title
    frame = Frame(
        title=f"{title} – {board_title}",
        description=f"Robustness curves, bounds, cost and evidence of {title} on {board_title}.",
        root="../../../../",
        section="Boards",
        crumbs=(("Boards", "../../../index.html"), (board_title, "../../index.html")),
        as_of=as_of,
    )
    return render("model.html", frame, page=page, words=words)


def _short(facts: RowFacts) -> str:
    """Who evaluated the row, what that cost, and what the model costs."""
    row, costs = facts.row, costs_of(facts)
    details = [facts.data[evaluation.id].detail for evaluation in row.done]
    seconds, passes = (sum(d.seconds for d in details), sum(d.forward_passes + d.backward_passes for d in details))
    who = words.reported(len(row.reported), len(row.cells)) or "Evaluated by this board"
    told = [f"{who.rstrip('.')}: {len(details)} evaluations, {words.duration(seconds)}, {words.count(passes)} passes."]
    parts = [f"{words.count(costs['parameters'])} parameters"] if costs["parameters"] is not None else []
    parts += [f"{words.count(costs['flops'])} operations an image"] if costs["flops"] else []
    parts += [f"{words.number(1000 * costs['latency'])} ms an image"] if costs["latency"] else []
    told += [f"The model: {', '.join(parts)}."] if parts else []
    decided = [found for found in facts.threats.values() if found.decided() is not None and found.axis.threat != UNION]
    if decided:
        shares = (f"{words.percent(d.decided(), 0)} % in {d.axis.symbol}" for d in decided)
        told.append(f"Between proof and attack the curve is decided to {words.listed(shares)}.")
    return " ".join(told)


def _keys(facts: RowFacts) -> list[tuple[str, str, str]]:
    """The columns that the protocol shows, or else a scalar of each measure, for a row without curves."""
    found = newest(facts.found)
    first: dict[str, str] = {}
    for name, one in found.items():
        if one.output.kind == "scalar" and one.output.direction != "none":
            first.setdefault(one.evaluation.measure, name)
    keys = []
    for name in facts.row.protocol.spec.get("columns") or first.values():
        shown = found.get(str(name))
        if shown is not None and (panel := panel_of(shown)) is not None:
            cell, unit = panel.cell(shown, facts), shown.output.unit
            told = f"{cell.text} %" if unit == "share" and cell.text != "–" else cell.text
            keys.append((shown.output.title, told, cell.small))
    return keys


def _status(facts: RowFacts) -> str:
    crossing = facts.crossing
    told = f"It is crossed. {crossing.text}." if crossing is not None else ""
    withdrawn = facts.row.model.withdrawn
    why = f"It was withdrawn: {withdrawn.rstrip('.')}." if withdrawn is not None else ""
    return " ".join(filter(None, (STATUS[facts.row.status], why, told)))


def _section(
    row: RowFacts, facts: ThreatFacts, dataset: DatasetInfo, picture_data: PictureData, files: dict[str, bytes]
) -> ThreatSection:
    curve, axis = facts.curve, facts.axis
    area = curve.area_interval(up_to=axis.maximum)
    chart = curve_chart(row.row.model.title, facts)
    files[f"curve-{axis.threat}.svg"] = svg(chart).encode()
    alone = axis.threat != UNION
    return ThreatSection(
        facts=facts,
        chart=chart,
        table=curve_table(facts),
        published=published_of(facts),
        area=Share(curve.area(up_to=axis.maximum), area.low, area.high),
        decided=facts.decided(),
        credits=credits_of(facts),
        families=_families(facts),
        strips=strips_of(facts, picture_data, files) if facts.parts else [],
        sample_chart=sample_chart(facts) if facts.beside and alone else None,
        classes=class_figures(facts, picture_data.labels, dataset) if picture_data.labels is not None and alone else [],
    )


def published_of(facts: ThreatFacts) -> list[Published]:
    """The row at the marked budgets of a threat."""
    n = len(facts.curve)
    at = zip(facts.axis.published, facts.axis.at_published, strict=True)
    return [Published(eps, share_of(int(facts.counts[i]), n), facts.certified(eps)) for eps, i in at]


def _families(facts: ThreatFacts) -> list[tuple[str, int]]:
    """Which family within an attack found the nearest example, and of how many samples: its array of texts says."""
    counts: dict[str, int] = {}
    adversarial = (facts.curve.distances > 0) & np.isfinite(facts.curve.distances)
    for k, part in enumerate(facts.parts):
        name = next((a for a, v in sorted(part.data.arrays.items()) if v.dtype.kind in "SU" and v.ndim == 1), None)
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


def _panels(facts: RowFacts) -> list[PanelPart]:
    """What each kind of output has to say, of the newest evaluation of each."""
    by_kind: dict[str, list[Found]] = {}
    for found in facts.found:
        by_kind.setdefault(found.output.kind, []).append(found)
    parts = []
    for kind, panel in panels().items():
        shown = panel.show(by_kind.get(kind, ()), facts) if panel.template and kind in by_kind else None
        if shown:
            parts.append(PanelPart(kind, panel.template, shown))
    return parts


def _claims(facts: RowFacts, clean: Share | None) -> list[ClaimLine]:
    return [_claim(facts, claim, clean) for claim in facts.row.model.card.get("claims") or []]


def _claim(facts: RowFacts, claim: Mapping[str, Any], clean: Share | None) -> ClaimLine:
    name, threat, eps = str(claim.get("name", "")), str(claim.get("norm") or ""), claim.get("eps")
    value = float(claim.get("value", 0.0))
    ours: Share | None = None
    if name == "clean_accuracy":
        ours = clean
    elif threat in facts.threats and eps is not None:
        own = facts.threats[threat]
        certified = own.certified(float(eps))
        if name == "robust_accuracy":
            ours = share_of(round(own.curve.robust_accuracy(float(eps)) * facts.n), facts.n)
        elif name == "certified_accuracy" and certified is not None:
            ours = share_of(round(certified * facts.n), facts.n)
    told = f"{symbol(threat)}, ε = {float(eps):g}" if threat and eps is not None else "–"
    return ClaimLine(name.replace("_", " "), told, value, ours, str(claim.get("source", "")), _verdict(value, ours))


def _verdict(claimed: float, ours: Share | None) -> str:
    if ours is None:
        return "not measured here"
    if claimed > ours.high:
        return "claimed higher than measured"
    return "claimed lower than measured" if claimed < ours.low else "within our interval"


def flags_of(facts: RowFacts) -> list[FlagLine]:
    """Every flag, each code once."""
    found: dict[str, FlagLine] = {}
    for evaluation in facts.row.done:
        for flag in facts.data[evaluation.id].detail.flags:
            found.setdefault(flag.code, FlagLine(flag.code, flag.message, evaluation.measure))
    return sorted(found.values(), key=lambda line: line.code)


def _problems(row: Row) -> list[tuple[str, str, Sequence[EvaluationInfo]]]:
    groups: dict[tuple[str, str], list[EvaluationInfo]] = {}
    for evaluation in row.cells:
        if evaluation.state is not State.DONE:
            groups.setdefault((evaluation.state.value, evaluation.reason or ""), []).append(evaluation)
    return [(state, reason, own) for (state, reason), own in sorted(groups.items())]


def _evaluations(facts: RowFacts) -> list[EvaluationLine]:
    lines = []
    for evaluation in facts.row.done:
        detail = facts.data[evaluation.id].detail
        cost = detail.seconds, detail.forward_passes, detail.backward_passes
        lines.append(EvaluationLine(evaluation, detail.samples, *cost))
    return lines


def _circumstances(facts: RowFacts) -> list[tuple[str, int]]:
    """On what the evaluations ran, and how many of them."""
    counts = Counter(words.circumstances(facts.data[e.id].detail.provenance) for e in facts.row.done)
    return sorted(((text, number) for text, number in counts.items() if text), key=lambda item: (-item[1], item[0]))
