"""The boards: for each threat the curves, the map of ranks, who leads where, the table; and the scripts' data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from sitegen import words
from sitegen.axes import Axis
from sitegen.board_view import BoardView
from sitegen.charts.base import Chart
from sitegen.charts.board import backdrop, curves_chart, ranks_chart
from sitegen.charts.field import field_chart, offered
from sitegen.charts.history import History, history, history_chart
from sitegen.charts.html import html
from sitegen.citations import board_bibtex
from sitegen.columns import Column, columns
from sitegen.grid_view import SharedGrid, shared_grids
from sitegen.leads import Lead, Sentence, leads, sentence
from sitegen.model.files import bibtex
from sitegen.pages import Page, Site
from sitegen.records import Cell, Published
from sitegen.render import Frame, fragment, render
from sitegen.rows import BuiltRow
from sitegen.scripts_data import push, words16
from sitegen.threats import UNION, symbol

PAGE_ROWS: Final = 100
"""Rows of a static page; the rest follow on pages of their own."""
SCRIPTS: Final = (
    "charts.js",
    "intervals.js",
    "chart-zoom.js",
    "chart-picture.js",
    "board-table.js",
    "rank-map.js",
    "board-tip.js",
    "board-charts.js",
    "board-field.js",
    "board-records.js",
    "board-take.js",
    "board.js",
)


@dataclass(frozen=True)
class TableRow:
    """A row of the static table; its ranks are None where every model is broken."""

    built: BuiltRow
    letter: str
    style: str
    rank: int | None
    ranks: str
    published: Sequence[Published]
    cells: Sequence[Cell]
    area: Cell

    @property
    def paper(self) -> str:
        """The address of the model's paper; empty if it names none."""
        return words.paper_link(str(self.built.row.model.card.get("paper") or ""))

    @property
    def code(self) -> str:
        """The address of the code that made it; empty if the card names none."""
        return words.code_link(self.built.row.model.card.get("repository"))


@dataclass(frozen=True)
class Tab:
    """A threat in the board's tabs, and who is best at its reference budget."""

    threat: str
    symbol: str
    address: str
    leader: str
    letter: str
    style: str
    eps: float


@dataclass(frozen=True)
class BoardPage:
    """The context of a board's template.

    Attributes:
        view: The board.
        axis: The axis of the threat that is shown; None where the board has none.
        tabs: All threats.
        columns: Declared outputs in the table.
        rows: Rows of this page of the table.
        first: Place of the first of them, from 1.
        total: Rows that are ranked under this threat.
        number: Which page of the table it is, from 0.
        pages: Addresses of all of them.
        sentence: Who is clearly best where.
        leads: The strip.
        lettered: The charts as a table.
        apart: Compared rows that are not ranked here, each with the reason.
        curves: The chart of curves; None but on the first page.
        ranks: The map of ranks, likewise.
        field: Clean against robust accuracy, likewise.
        records: Who was the best up to each year, likewise; and its chart.
        grids: Grids that the rows share: each has a page that ranks by it.
    """

    view: BoardView
    axis: Axis | None
    tabs: Sequence[Tab]
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    first: int
    total: int
    number: int
    pages: Sequence[str]
    sentence: Sentence
    leads: Sequence[Lead]
    lettered: Sequence[Sequence[str]]
    apart: Sequence[tuple[BuiltRow, str]]
    curves: Chart | None
    ranks: Chart | None
    field: Chart | None
    records: tuple[History, Chart] | None
    grids: Sequence[SharedGrid]


def table_rows(view: BoardView, threat: str, shown: Sequence[Column]) -> list[TableRow]:
    """The ranked rows at the threat's reference budget, the best first."""
    ranking = view.rankings[threat]
    reference = int(np.searchsorted(ranking.axis.ranked, ranking.axis.published[0]))
    table = ranking.table
    everyone_broken = ranking.leader is None
    rows = []
    for i in ranking.order:
        built = ranking.rows[i]
        low, high = int(table.low[i, reference]), int(table.high[i, reference])
        figures = built.record.threats[threat]
        rows.append(
            TableRow(
                built=built,
                letter=view.letter(built.slug),
                style=view.style(built.slug),
                rank=None if everyone_broken else int(table.rank[i, reference]),
                ranks="" if everyone_broken else str(low) if low == high else f"{low}–{high}",
                published=figures.published,
                cells=[column.cell(built, threat) for column in shown],
                area=Cell(words.number(figures.area.value)),
            )
        )
    return rows


def unranked_rows(view: BoardView, shown: Sequence[Column]) -> list[TableRow]:
    """The rows of a board without threats: nothing ranks them."""
    return [
        TableRow(built, "", "faint", None, "", (), [column.cell(built, "") for column in shown], Cell("–"))
        for built in view.rows
    ]


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


def board_pages(view: BoardView, *, as_of: datetime | None) -> dict[str, bytes]:
    """Every page and data file of the board, by path from the site's root."""
    shown = columns(view)
    files: dict[str, bytes] = {f"{view.folder}/models.js": _models_js(view, shown)}
    files[f"{view.folder}/cite.js"] = push("cite", _citations(view))
    if not view.axes:
        rows = unranked_rows(view, shown)
        files[f"{view.folder}/index.html"] = _page(view, "", shown, rows, names=["index.html"], number=0, as_of=as_of)
    for threat in view.axes:
        files[f"{view.folder}/{threat}.js"] = _threat_js(view, threat, shown)
        if (picture := backdrop(view, threat)) is not None:
            files[f"{view.folder}/figures/backdrop-{threat}.svg"] = picture
        rows = table_rows(view, threat, shown)
        names = [_page_name(view, threat, k) for k in range(max(-(-len(rows) // PAGE_ROWS), 1))]
        for k, name in enumerate(names):
            files[f"{view.folder}/{name}"] = _page(view, threat, shown, rows, names=names, number=k, as_of=as_of)
    return files


def _page_name(view: BoardView, threat: str, page: int) -> str:
    stem = "index" if threat == next(iter(view.axes)) else threat
    return f"{stem}.html" if page == 0 else f"{threat}-{page + 1}.html"


def _tabs(view: BoardView) -> list[Tab]:
    tabs = []
    for threat, axis in view.axes.items():
        leader = view.rankings[threat].leader
        tabs.append(
            Tab(
                threat=threat,
                symbol="union" if threat == UNION else axis.symbol,
                address=_page_name(view, threat, 0),
                leader=leader.title if leader else "",
                letter=view.letter(leader.slug) if leader else "",
                style=view.style(leader.slug) if leader else "",
                eps=axis.published[0],
            )
        )
    return tabs


def _page(
    view: BoardView,
    threat: str,
    shown: Sequence[Column],
    rows: Sequence[TableRow],
    *,
    names: Sequence[str],
    number: int,
    as_of: datetime | None,
) -> bytes:
    axis = view.axes.get(threat)
    drawn = axis is not None and bool(rows) and number == 0
    scripts = (*(f"../../static/{name}" for name in SCRIPTS), "models.js", f"{threat}.js")
    where = f" in {axis.symbol}" if axis else ""
    frame = Frame(
        title=f"{view.title}{f', {axis.symbol}' if axis else ''}" + (f", page {number + 1}" if number else ""),
        description=f"{len(view.rows)} models ranked by their whole robustness curve{where} on {view.title}.",
        root="../../",
        section="Boards",
        crumbs=(("Boards", "../index.html"),),
        scripts=scripts if drawn else (),
        as_of=as_of,
        wide=True,
    )
    page = BoardPage(
        view=view,
        axis=axis,
        tabs=_tabs(view),
        columns=[column for column in shown if column.shown_under(threat)] if axis else shown,
        rows=_shown_cells(rows[number * PAGE_ROWS : (number + 1) * PAGE_ROWS], shown, threat) if axis else rows,
        first=number * PAGE_ROWS + 1,
        total=len(rows),
        number=number,
        pages=names,
        sentence=sentence(view, threat) if axis else Sentence((), ""),
        leads=leads(view, threat) if axis else [],
        lettered=lettered_table(view, threat) if axis else [],
        apart=view.apart_in(threat) if axis else [],
        curves=curves_chart(view, threat, figures="figures/") if drawn else None,
        ranks=ranks_chart(view, threat) if drawn else None,
        field=field_chart(view, threat) if drawn else None,
        records=(_records(view, threat), history_chart(view, threat)) if drawn else None,
        grids=shared_grids(view),
    )
    return render("board.html", frame, page=page)


def _records(view: BoardView, threat: str) -> History:
    """The records at the threat's reference budget."""
    return history(view, threat, view.axes[threat].at_published[0])


def _shown_cells(rows: Sequence[TableRow], shown: Sequence[Column], threat: str) -> list[TableRow]:
    keep = [k for k, column in enumerate(shown) if column.shown_under(threat)]
    return [
        TableRow(
            **{**{f: getattr(row, f) for f in TableRow.__dataclass_fields__}, "cells": [row.cells[k] for k in keep]}
        )
        for row in rows
    ]


def _models_js(view: BoardView, shown: Sequence[Column]) -> bytes:
    """What scripts need to know of each row, whatever the threat."""
    models = [_model(view, built) for built in view.rows]
    told = [{"id": c.id, "title": c.title, "help": c.tooltip, "direction": c.direction, "term": c.term} for c in shown]
    symbols = {threat: "union" if threat == UNION else axis.symbol for threat, axis in view.axes.items()}
    against = [{k: v for k, v in vars(a).items() if k != "of"} for a in offered(view)]
    head = {
        "n": view.board.n,
        "highlighted": list(view.highlighted),
        "symbols": symbols,
        "columns": told,
        "against": against,
    }
    return push("models", {**head, "models": models})


def _model(view: BoardView, built: BuiltRow) -> dict[str, Any]:
    card, record = built.row.model.card, built.record
    return {
        "slug": built.slug,
        "title": built.title,
        "letter": view.letter(built.slug),
        "unharmed": asdict(record.clean) if record.clean else None,
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


def _citations(view: BoardView) -> dict[str, str]:
    """Of each row, and of the board under the empty name, the BibTeX entries."""
    about = (
        f"{view.board.dataset.name}, {view.board.n} images, {view.board.protocol.name} v{view.board.protocol.version}"
    )
    return {"": board_bibtex(view), **{built.slug: bibtex(built.row, board=about) for built in view.rows}}


def _trained_for(card: Mapping[str, Any]) -> str:
    norm, eps = card.get("training_norm"), card.get("training_eps")
    return "" if not norm else f"{symbol(norm)} {eps:g}" if eps else symbol(norm)


def _threat_js(view: BoardView, threat: str, shown: Sequence[Column]) -> bytes:
    """The curves at every position of the slider, the ranks' intervals, and the parts of the page that change."""
    ranking, axis = view.rankings[threat], view.axes[threat]
    figures = [built.record.threats[threat] for built in ranking.rows]
    value = {
        "threat": threat,
        "symbol": axis.symbol,
        "label": axis.label,
        "grid": [float(f"{eps:.10g}") for eps in axis.grid],
        "ticks": list(axis.ticks),
        "published": list(axis.published),
        "ranked": [float(f"{eps:.10g}") for eps in axis.ranked],
        "slugs": [built.slug for built in ranking.rows],
        "counts": [f.falls for f in figures],
        "low": words16(ranking.table.low),
        "high": words16(ranking.table.high),
        "area": [f.area.value for f in figures],
        "median": [f.median for f in figures],
        "certified": [[p.certified for p in f.published] for f in figures],
        "decided": [f.decided for f in figures],
        "cells": {c.id: [_cell(c.cell(b, threat)) for b in ranking.rows] for c in shown if c.shown_under(threat)},
        "field": field_chart(view, threat).x_range[0] if ranking.rows else 0,
        "parts": _parts(view, threat) if ranking.rows else {},
    }
    return push("threat", value)


def _cell(cell: Cell) -> list[Any]:
    return [cell.text, cell.small, cell.sort]


def _parts(view: BoardView, threat: str) -> dict[str, str]:
    """What differs between the pages of two threats, as it stands on them."""
    axis, told = view.axes[threat], sentence(view, threat)
    return {
        "curves": str(html(curves_chart(view, threat, figures="figures/"))),
        "ranks": str(html(ranks_chart(view, threat))),
        "field": str(html(field_chart(view, threat))),
        "records": str(html(history_chart(view, threat))),
        "recordlist": str(fragment("macros.html", "records", _records(view, threat), view)),
        "strip": str(fragment("macros.html", "strip", leads(view, threat), axis, told, "strip")),
        "sentence": str(fragment("macros.html", "sentence", told, axis)),
        "lettered": str(fragment("macros.html", "lettered", lettered_table(view, threat))),
        "apart": str(fragment("macros.html", "apart_here", view.apart_in(threat), axis)),
    }


def _make(site: Site) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for view in site.views:
        files.update(board_pages(view, as_of=site.as_of))
    return files


PAGE = Page("board", _make)
