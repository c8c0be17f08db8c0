"""What a board hands to the scripts of its pages: its models, and of each threat the curves and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sitegen import words
from sitegen.board_view import BoardView
from sitegen.charts.board import curves_chart, ranks_chart
from sitegen.charts.field import field_chart, offered
from sitegen.charts.history import history, history_chart
from sitegen.charts.html import html
from sitegen.citations import board_bibtex
from sitegen.columns import Column
from sitegen.leads import leads, sentence
from sitegen.model.files import bibtex
from sitegen.records import Cell
from sitegen.render import fragment
from sitegen.rows import BuiltRow
from sitegen.scripts_data import columnar, push, words16
from sitegen.threats import UNION, symbol


def lettered_table(view: BoardView, threat: str) -> list[list[str]]:
    """The charts as a table: robust accuracy and rank of the highlighted models at the ticks and marked budgets."""
    ranking, axis = view.rankings[threat], view.axes[threat]
    own = [i for slug in view.highlighted for i, row in enumerate(ranking.rows) if row.slug == slug]
    table = [["ε", *(f"{view.letter(ranking.rows[i].slug)}: {ranking.rows[i].title}" for i in own)]]
    for eps in sorted({*axis.ticks, *axis.published}):
        counts = ranking.counts[:, int(np.searchsorted(axis.grid, eps - 1e-12))]
        ranks = [str(1 + int((counts > counts[i]).sum())) if counts.any() else "–" for i in own]
        told = [f"{words.percent(counts[i] / view.board.n)} ({rank})" for i, rank in zip(own, ranks, strict=True)]
        table.append([f"{eps:g}", *told])
    return table


def models_js(view: BoardView, shown: Sequence[Column]) -> bytes:
    """What scripts need to know of each row, whatever the threat."""
    models = [_model(view, built) for built in view.rows]
    told = [
        {"id": c.id, "title": c.title, "unit": c.unit, "help": c.tooltip, "direction": c.direction, "term": c.term}
        for c in shown
    ]
    symbols = {threat: "union" if threat == UNION else axis.symbol for threat, axis in view.axes.items()}
    against = [{k: v for k, v in vars(a).items() if k != "of"} for a in offered(view)]
    head = {
        "n": view.board.n,
        "highlighted": list(view.highlighted),
        "symbols": symbols,
        "columns": told,
        "against": against,
        "basis": _basis(view),
    }
    return push("models", {**head, "models": columnar(models)})


def _basis(view: BoardView) -> dict[str, Any]:
    """The ranks that arrows compare with, at the first threat's reference budget; 0 where every model is broken."""
    if not view.axes:
        return {}
    axis, ranking = next((view.axes[threat], view.rankings[threat]) for threat in view.axes)
    counts = ranking.counts[:, axis.at_published[0]]
    place = {built.slug: k for k, built in enumerate(ranking.rows)}
    known = [place.get(built.slug) for built in view.rows]
    ranks = [0 if k is None or not counts.any() else 1 + int((counts > counts[k]).sum()) for k in known]
    return {"place": f"{axis.symbol} {words.number(axis.published[0])}", "ranks": ranks}


def _model(view: BoardView, built: BuiltRow) -> dict[str, Any]:
    card, record = built.row.model.card, built.record
    return {
        "slug": built.slug,
        "title": built.title,
        "letter": view.letter(built.slug),
        "unharmed": record.clean.value if record.clean else None,
        "arch": record.architecture,
        "method": card.get("training_method") or "",
        "threat": _trained_for(card),
        "year": card.get("year"),
        "venue": card.get("venue") or "",
        "extra": bool(card.get("extra_data")),
        "size": record.parameters,
        "flops": record.flops,
        "latency": record.latency,
        "seconds": record.seconds,
        "passes": record.passes,
        "flags": list(record.flags),
        "authors": words.listed(map(str, card.get("authors") or [])),
        "paper": words.paper_link(str(card.get("paper") or "")),
        "code": words.code_link(card.get("repository")),
        "verified": record.verified.text if record.verified else "",
        "reported": words.reported(record.reported, len(built.row.cells)),
    }


def citations(view: BoardView) -> dict[str, str]:
    """Of each row, and of the board under the empty name, the BibTeX entries."""
    dataset, n = view.board.dataset.name, view.board.n
    return {"": board_bibtex(view), **{built.slug: bibtex(built.row, dataset=dataset, n=n) for built in view.rows}}


def _trained_for(card: Mapping[str, Any]) -> str:
    norm, eps = card.get("training_norm"), card.get("training_eps")
    return "" if not norm else f"{symbol(norm)} {eps:g}" if eps else symbol(norm)


def threat_js(view: BoardView, threat: str, shown: Sequence[Column]) -> bytes:
    """The curves at every position of the slider, and the ranks' intervals."""
    ranking, axis = view.rankings[threat], view.axes[threat]
    figures = [built.record.threats[threat] for built in ranking.rows]
    places, n = {built.slug: k for k, built in enumerate(view.rows)}, view.board.n
    value = {
        "threat": threat,
        "symbol": axis.symbol,
        "label": axis.label,
        "whole": axis.whole,
        "grid": [float(f"{eps:.10g}") for eps in axis.grid],
        "ticks": list(axis.ticks),
        "published": list(axis.published),
        "ranked": [float(f"{eps:.10g}") for eps in axis.ranked],
        "rows": [places[built.slug] for built in ranking.rows],
        "counts": [f.falls for f in figures],
        "low": words16(ranking.table.low),
        "high": words16(ranking.table.high),
        "area": [f.area.value for f in figures],
        "median": [f.median for f in figures],
        "certified": [[None if p.certified is None else round(p.certified * n) for p in f.published] for f in figures],
        "decided": [f.decided for f in figures],
        "cells": {c.id: [_cell(c.cell(b, threat)) for b in ranking.rows] for c in shown if c.shown_under(threat)},
        "field": field_chart(view, threat).x_range[0] if ranking.rows else 0,
    }
    return push("threat", value)


def _cell(cell: Cell) -> list[Any]:
    return [cell.text, cell.small, cell.sort]


def parts(view: BoardView, threat: str) -> dict[str, str]:
    """What differs between the pages of two threats, as it stands on them."""
    if not view.rankings[threat].rows:
        return {}
    axis, told = view.axes[threat], sentence(view, threat)
    return {
        "curves": str(html(curves_chart(view, threat, figures="figures/"), scripted=True)),
        "ranks": str(html(ranks_chart(view, threat))),
        "field": str(html(field_chart(view, threat))),
        "records": str(html(history_chart(view, threat))),
        "recordlist": str(fragment("macros.html", "records", history(view, threat, axis.at_published[0]), view)),
        "strip": str(fragment("macros.html", "strip", leads(view, threat), axis, told, "strip")),
        "sentence": str(fragment("macros.html", "sentence", told, axis)),
        "lettered": str(fragment("macros.html", "lettered", lettered_table(view, threat))),
        "apart": str(fragment("macros.html", "apart_here", view.apart_in(threat), axis)),
    }
