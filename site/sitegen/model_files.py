"""A model's downloads: JSON, CSV, BibTeX and a row for a LaTeX table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from db.queries import EvaluationInfo, Row
from sitegen import words
from sitegen.axes import NORMS
from sitegen.facts import RowFacts
from sitegen.model_charts import POINTS, Triple

if TYPE_CHECKING:
    from sitegen.model_page import ModelPage, NormSection


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
