"""The boards: for each threat the curves, the map of ranks, who leads where, the table; and the scripts' data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np

from sitegen import words
from sitegen.axes import Axis
from sitegen.board_scripts import citations, lettered_table, models_js, parts, threat_js
from sitegen.board_view import BoardView
from sitegen.charts.base import Chart
from sitegen.charts.board import curves_chart, picture, ranks_chart
from sitegen.charts.field import field_chart, offered
from sitegen.charts.history import History, history, history_chart
from sitegen.columns import Column, columns
from sitegen.grid_view import SharedGrid
from sitegen.leads import Lead, Sentence, leads, sentence
from sitegen.pages import Page, Site
from sitegen.records import Cell, Published
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow
from sitegen.scripts_data import push
from sitegen.threats import UNION

PAGE_ROWS: Final = 25
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
)
"""Before the data; ``board.js``, which begins, comes last."""


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
    """A threat in the board's tabs, who is best at its reference budget, and within which ranks."""

    threat: str
    symbol: str
    address: str
    leader: str
    letter: str
    style: str
    eps: float
    ranks: str


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
        pages: (number from 1, address) of those that the page leads to; None stands for those left out in between.
        later: Scripts and data that the page loads when its reader first turns to it; empty where it has them at once.
        sentence: Who is clearly best where.
        leads: The strip.
        lettered: The charts as a table.
        apart: Compared rows that are not ranked here, each with the reason.
        curves: The chart of curves; None but on the first page.
        ranks: The map of ranks, likewise.
        field: Clean against robust accuracy, likewise.
        against: What else robust accuracy is set against, on a page of its own for readers without scripts.
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
    pages: Sequence[tuple[int, str] | None]
    later: Sequence[str]
    sentence: Sentence
    leads: Sequence[Lead]
    lettered: Sequence[Sequence[str]]
    apart: Sequence[tuple[BuiltRow, str]]
    curves: Chart | None
    ranks: Chart | None
    field: Chart | None
    against: Sequence[str]
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


def board_pages(view: BoardView, *, grids: Sequence[SharedGrid], as_of: datetime | None) -> dict[str, bytes]:
    """Every page and data file of the board, by path from the site's root."""
    shown = columns(view)
    files: dict[str, bytes] = {f"{view.folder}/models.js": models_js(view, shown)}
    files[f"{view.folder}/cite.js"] = push("cite", citations(view))
    if not view.axes:
        rows = unranked_rows(view, shown)
        files |= _pages(view, "", shown, rows, names=["index.html"], grids=grids, as_of=as_of)
    for threat in view.axes:
        files[f"{view.folder}/{threat}.js"] = threat_js(view, threat, shown)
        files[f"{view.folder}/{threat}-parts.js"] = push("parts", {"threat": threat, "parts": parts(view, threat)})
        if (grey := picture(view, threat)) is not None:
            files[f"{view.folder}/figures/backdrop-{threat}.png"] = grey
        rows = table_rows(view, threat, shown)
        names = [_page_name(view, threat, k) for k in range(max(-(-len(rows) // PAGE_ROWS), 1))]
        files |= _pages(view, threat, shown, rows, names=names, grids=grids, as_of=as_of)
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
                ranks=_ranks(view, threat),
            )
        )
    return tabs


def _ranks(view: BoardView, threat: str) -> str:
    """The 95 % interval of the best row's rank at the reference budget."""
    ranking = view.rankings[threat]
    if ranking.leader is None:
        return ""
    reference, best = int(np.searchsorted(ranking.axis.ranked, ranking.axis.published[0])), ranking.order[0]
    low, high = int(ranking.table.low[best, reference]), int(ranking.table.high[best, reference])
    return str(low) if low == high else f"{low}–{high}"


def near_pages(number: int, pages: int) -> list[int | None]:
    """The pages that a page leads to, from 1: first, the last, its neighbours; None for a gap; as ``board.js``."""
    shown = [k for k in range(1, pages + 1) if k in {1, pages} or abs(k - number) <= 2]
    return [x for k, after in zip(shown, [*shown[1:], 0], strict=True) for x in ((k, None) if after > k + 1 else (k,))]


def _pages(
    view: BoardView,
    threat: str,
    shown: Sequence[Column],
    rows: Sequence[TableRow],
    *,
    names: Sequence[str],
    grids: Sequence[SharedGrid],
    as_of: datetime | None,
) -> dict[str, bytes]:
    """The pages of the table, the first with the charts; what all of them say is found once."""
    axis = view.axes.get(threat)
    drawn = axis is not None and bool(rows)
    first = BoardPage(
        view=view,
        axis=axis,
        tabs=_tabs(view),
        columns=[column for column in shown if column.shown_under(threat)] if axis else shown,
        rows=_shown_cells(rows, shown, threat) if axis else rows,
        first=1,
        total=len(rows),
        number=0,
        pages=(),
        later=(),
        sentence=sentence(view, threat) if axis else Sentence((), ""),
        leads=leads(view, threat) if axis else [],
        lettered=lettered_table(view, threat) if axis else [],
        apart=view.apart_in(threat) if axis else [],
        curves=curves_chart(view, threat, figures="figures/") if drawn else None,
        ranks=ranks_chart(view, threat) if drawn else None,
        field=field_chart(view, threat) if drawn else None,
        against=[against.title for against in offered(view)],
        records=(_records(view, threat), history_chart(view, threat)) if drawn else None,
        grids=grids,
    )
    files = {}
    for number, name in enumerate(names):
        start = number * PAGE_ROWS
        own = first.rows[start : start + PAGE_ROWS] if axis else rows
        pages = [(k, names[k - 1]) if k else None for k in near_pages(number + 1, len(names))]
        page = replace(first, rows=own, first=start + 1, number=number, pages=pages)
        if number:
            page = replace(page, curves=None, ranks=None, field=None, records=None)
        files[f"{view.folder}/{name}"] = _page(page, as_of=as_of)
    return files


def _page(page: BoardPage, *, as_of: datetime | None) -> bytes:
    view, axis = page.view, page.axis
    scripts: tuple[str, ...] = ()
    if axis and page.curves:
        helpers = (f"../../static/{name}" for name in SCRIPTS)
        scripts = (*helpers, "models.js", f"{axis.threat}.js", "../../static/board.js")
    large = page.curves is not None and bool(page.curves.backdrop)
    where = f" in {axis.symbol}" if axis else ""
    title = [view.title, *([axis.symbol] if axis else []), *([f"page {page.number + 1}"] if page.number else [])]
    frame = Frame(
        title=", ".join(title),
        description=f"{len(view.rows)} models ranked by their whole robustness curve{where} on {view.title}.",
        root="../../",
        section="Boards",
        crumbs=(("Boards", "../index.html"),),
        scripts=("../../static/board-later.js",) if large else scripts,
        as_of=as_of,
        wide=True,
    )
    return render("board.html", frame, page=replace(page, later=scripts) if large else page)


def _records(view: BoardView, threat: str) -> History:
    """The records at the threat's reference budget."""
    return history(view, threat, view.axes[threat].at_published[0])


def _shown_cells(rows: Sequence[TableRow], shown: Sequence[Column], threat: str) -> list[TableRow]:
    keep = [k for k, column in enumerate(shown) if column.shown_under(threat)]
    return [replace(row, cells=[row.cells[k] for k in keep]) for row in rows]


def _make(site: Site) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for view in site.views:
        grids = [ranked.grid for ranked in site.grids[view.board.slug]]
        files.update(board_pages(view, grids=grids, as_of=site.as_of))
    return files


PAGE = Page("board", _make)
