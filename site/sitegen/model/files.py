"""A model's downloads: JSON, CSV, BibTeX and a row for a LaTeX table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from db.queries import EvaluationInfo, Row
from sitegen import words
from sitegen.charts.steps import POINTS
from sitegen.facts import RowFacts
from sitegen.findings import Found
from sitegen.panels import panel_of
from sitegen.records import Share
from sitegen.threats import UNION

SAFE: Final = "%/:?#[]@!$&'()*+,;=~"
"""What an address may hold besides letters and digits; a brace would end a field of BibTeX."""

if TYPE_CHECKING:
    from sitegen.model.sections import ModelPage, ThreatSection


def bibtex(row: Row, *, dataset: str, n: int) -> str:
    """BibTeX entries: of the paper behind the model, if it names one, of the model, and of this evaluation of it.

    A card names who made the model and when, which need not be who wrote the paper: so the paper's entry has the
    authors that the card gives the paper, and its year is that of its number on arXiv where it has one.
    """
    card, slug = row.model.card, row.model.slug
    paper = str(card.get("paper") or "")
    year, venue = str(card.get("year") or ""), str(card.get("venue") or "")
    authors, writers = (" and ".join(map(str, card.get(name) or [])) for name in ("authors", "paper_authors"))
    finished = max((e.finished_at for e in row.done if e.finished_at), default=None)
    title, address = str(card.get("paper_title") or ""), paper if paper.startswith("http") else ""
    citation = "" if address else paper
    source = {"title": title or citation, "author": writers, "url": address, "note": citation if title else ""}
    written = words.arxiv_year(paper)
    board = f"{dataset}, {words.images(n)}, {row.protocol.name} v{row.protocol.version}"
    made = year if written or not paper else ""
    entries = {
        f"{slug}-paper": source | {"howpublished": venue, "year": written or year} if paper else {},
        f"{slug}-model": {"title": row.model.title, "author": authors, "year": made},
        f"{slug}-evaluation": {
            "title": f"Robustness of {row.model.title}",
            "author": "Curveboard",
            "year": str(finished.year) if finished else "",
            "note": f"{board}; model {row.model.digest[:16]}",
        },
    }
    return "\n".join(bibtex_entry(key, fields) for key, fields in entries.items() if fields)


def bibtex_entry(key: str, fields: Mapping[str, str]) -> str:
    """One entry of BibTeX from plain text; fields without a value are left out, and a title keeps its capitals."""
    told = {name: quote(value, safe=SAFE) if name == "url" else tex(value) for name, value in fields.items() if value}
    if "title" in told:
        told["title"] = f"{{{told['title']}}}"
    lines = [f"  {name} = {{{value}}},\n" for name, value in told.items()]
    return f"@misc{{{key},\n{''.join(lines)}}}\n"


def latex(facts: RowFacts, clean: Share | None) -> str:
    """A row for a paper's table: title, clean accuracy, robust accuracy at each published budget of each norm."""
    cells = [tex(facts.row.model.title), words.percent(clean.value if clean else None)]
    heads = ["Model", "Clean"]
    for threat, found in facts.threats.items():
        if threat != UNION:
            for eps in found.axis.published:
                cells.append(words.percent(found.curve.robust_accuracy(eps)))
                heads.append(f"{threat} {eps:g}")
    return "% " + " & ".join(heads) + "\n" + " & ".join(cells) + " \\\\\n"


def tex(text: str) -> str:
    """Text for LaTeX, which shows it as it is."""
    table = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(table.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


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
        "not_ranked_because": page.status,
        "clean_accuracy": _interval_json(page.clean),
        "flags": [{"code": flag.code, "message": flag.message, "measure": flag.measure} for flag in page.flags],
        "threats": {section.axis.threat: _threat_json(section) for section in page.sections},
        "evaluations": [_evaluation_json(page.facts, line.evaluation) for line in page.evaluations],
    }


def _threat_json(section: ThreatSection) -> dict[str, Any]:
    facts = section.facts
    steps = facts.curve.thin(POINTS, keep=facts.axis.published)
    return {
        "published": [
            {
                "eps": p.eps,
                "robust_accuracy": _interval_json(p.accuracy),
                "certified": p.certified,
            }
            for p in section.published
        ],
        "area": asdict(section.area) | {"up_to": facts.axis.maximum},
        "median_distance": facts.curve.median if np.isfinite(facts.curve.median) else None,
        "censored": facts.curve.censored,
        "decided": section.decided,
        "steps": {"eps": steps.eps.tolist(), "robust_accuracy": np.round(steps.robust_accuracy, 10).tolist()},
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


def _interval_json(value: Share | None) -> dict[str, float] | None:
    return None if value is None else asdict(value) | {"confidence": 0.95}


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
        "outputs": [_output_json(facts, found) for found in facts.found if found.evaluation.id == evaluation.id],
        "scores": [
            {"name": s.name, "value": s.value, "low": s.low, "high": s.high, "unit": s.unit} for s in detail.scores
        ],
    }


def _output_json(facts: RowFacts, found: Found) -> dict[str, Any]:
    panel = panel_of(found)
    return found.output.to_json() | ({"values": panel.value(found, facts)} if panel is not None else {})


def json_bytes(value: Any) -> bytes:
    """JSON with sorted keys; refuses what JSON has no word for."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n").encode()


def samples_csv(facts: RowFacts, labels: NDArray[np.int64] | None) -> bytes:
    """The data behind the curves, a line a sample: ``nan`` is not measured, ``inf`` is nothing found."""
    columns: list[tuple[str, str, NDArray[Any]]] = [("sample", "%d", np.arange(facts.n))]
    if labels is not None:
        columns.append(("label", "%d", labels[: facts.n]))
    if facts.prediction is not None:
        columns.append(("prediction", "%d", facts.prediction))
    for threat, own in facts.threats.items():
        if threat != UNION:
            columns.append((f"distance_{threat}", "%r", own.curve.distances))
    columns += [(name, "%.9g", found.values) for name, found in _per_sample(facts).items()]
    line = ",".join(form for _, form, _ in columns)
    lines = [line % row for row in zip(*(values.tolist() for _, _, values in columns), strict=True)]
    return "\n".join([",".join(name for name, _, _ in columns), *lines, ""]).encode()


def _per_sample(facts: RowFacts) -> dict[str, Found]:
    """The newest bounds, estimates and verdicts by the name of their column."""
    return {found.name: found for found in facts.of_kind("lower", "estimate", "verdict")}
