"""A board's pages: for each norm the curves, the map of ranks, who leads where, the table; and the scripts' data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from sitegen import words
from sitegen.axes import SYMBOLS
from sitegen.board_charts import curves_chart, ranks_chart
from sitegen.board_view import BoardView, headline, leads
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow
from sitegen.scripts_data import push, words16

PAGE_ROWS: Final = 200
"""Rows of a static page; the rest follow on pages of their own."""


@dataclass(frozen=True)
class TableRow:
    """A row of the static table."""

    built: BuiltRow
    letter: str
    rank: int
    rank_low: int
    rank_high: int
    figures: Mapping[str, Any]

    @property
    def ranks(self) -> str:
        """The interval of the rank: ``1–3``."""
        return str(self.rank_low) if self.rank_low == self.rank_high else f"{self.rank_low}–{self.rank_high}"


def table_rows(view: BoardView, norm: str) -> list[TableRow]:
    """The ranked rows at the norm's reference budget, the best first."""
    ranking = view.rankings[norm]
    reference = int(np.searchsorted(ranking.axis.ranked, ranking.axis.published[0]))
    table = ranking.table
    return [
        TableRow(
            built=ranking.rows[i],
            letter=view.letter(ranking.rows[i].slug),
            rank=int(table.rank[i, reference]),
            rank_low=int(table.low[i, reference]),
            rank_high=int(table.high[i, reference]),
            figures=ranking.rows[i].summary["norms"][norm],
        )
        for i in ranking.order
    ]


def lettered_table(view: BoardView, norm: str) -> list[list[str]]:
    """The charts as a table: robust accuracy and rank of the highlighted models at the ticks and published budgets."""
    ranking, axis = view.rankings[norm], view.axes[norm]
    own = [i for slug in view.highlighted for i, row in enumerate(ranking.rows) if row.slug == slug]
    table = [["ε", *(f"{view.letter(ranking.rows[i].slug)}: {ranking.rows[i].title}" for i in own)]]
    for eps in sorted({*axis.ticks, *axis.published}):
        counts = ranking.counts[:, int(np.searchsorted(axis.grid, eps - 1e-12))]
        told = [f"{words.percent(counts[i] / view.board.n)} ({1 + int((counts > counts[i]).sum())})" for i in own]
        table.append([f"{eps:g}", *told])
    return table


def board_pages(view: BoardView, *, as_of: datetime | None) -> dict[str, bytes]:
    """Every page and data file of the board, by path from the site's root."""
    files: dict[str, bytes] = {f"{view.folder}/models.js": _models_js(view)}
    for norm in view.axes:
        files[f"{view.folder}/{norm}.js"] = _norm_js(view, norm)
        rows = table_rows(view, norm)
        parts = [rows[i : i + PAGE_ROWS] for i in range(0, len(rows), PAGE_ROWS)] or [[]]
        names = [_page_name(view, norm, k) for k in range(len(parts))]
        for k, part in enumerate(parts):
            files[f"{view.folder}/{names[k]}"] = _page(view, norm, part, page=k, names=names, as_of=as_of)
    return files


def _page_name(view: BoardView, norm: str, page: int) -> str:
    first = next(iter(view.axes))
    stem = "index" if norm == first else norm
    return f"{stem}.html" if page == 0 else f"{norm}-{page + 1}.html"


def _page(
    view: BoardView,
    norm: str,
    rows: Sequence[TableRow],
    *,
    page: int,
    names: Sequence[str],
    as_of: datetime | None,
) -> bytes:
    axis = view.axes[norm]
    frame = Frame(
        title=f"{view.title}, {axis.symbol}" + (f", page {page + 1}" if page else ""),
        description=f"{len(view.rows)} models ranked by their whole robustness curve in {axis.symbol} on {view.title}.",
        root="../../",
        section="Boards",
        crumbs=(("Boards", "../index.html"),),
        scripts=("../../static/charts.js", "../../static/board.js", "models.js", f"{norm}.js") if page == 0 else (),
        as_of=as_of,
        wide=True,
    )
    tabs = [(name, SYMBOLS[name], _page_name(view, name, 0), view.rankings[name].leader) for name in view.axes]
    return render(
        "board.html",
        frame,
        view=view,
        norm=norm,
        axis=axis,
        tabs=tabs,
        rows=rows,
        page=page,
        pages=names,
        reigns=headline(view, norm),
        leads=leads(view, norm),
        lettered=lettered_table(view, norm),
        curves=curves_chart(view, norm) if view.rows and page == 0 else None,
        ranks=ranks_chart(view, norm) if view.rows and page == 0 else None,
    )


def _models_js(view: BoardView) -> bytes:
    """What scripts need to know of each row, whatever the norm."""
    models = []
    for built in view.rows:
        card = built.row.model.card
        models.append(
            {
                "slug": built.slug,
                "title": built.title,
                "letter": view.letter(built.slug),
                "clean": built.summary["clean"],
                "arch": built.summary["architecture"],
                "method": card.get("training_method") or "",
                "threat": _threat(card),
                "year": card.get("year"),
                "venue": card.get("venue") or "",
                "extra": bool(card.get("extra_data")),
                "size": built.summary["parameters"],
                "flags": built.summary["flags"],
                "authors": words.listed(map(str, card.get("authors") or [])),
            }
        )
    return push("models", {"n": view.board.n, "highlighted": list(view.highlighted), "models": models})


def _threat(card: Mapping[str, Any]) -> str:
    norm, eps = card.get("training_norm"), card.get("training_eps")
    return "" if not norm else f"{SYMBOLS.get(norm, norm)} {eps:g}" if eps else SYMBOLS.get(norm, norm)


def _norm_js(view: BoardView, norm: str) -> bytes:
    """The curves at every position of the slider, and the ranks' intervals."""
    ranking, axis = view.rankings[norm], view.axes[norm]
    figures = [built.summary["norms"][norm] for built in ranking.rows]
    return push(
        "norm",
        {
            "norm": norm,
            "symbol": axis.symbol,
            "label": axis.label,
            "grid": [float(f"{eps:.10g}") for eps in axis.grid],
            "ticks": list(axis.ticks),
            "published": list(axis.published),
            "ranked": [float(f"{eps:.10g}") for eps in axis.ranked],
            "counts": [f["falls"] for f in figures],
            "low": words16(ranking.table.low),
            "high": words16(ranking.table.high),
            "area": [f["area"] for f in figures],
            "median": [f["median"] for f in figures],
            "clever": [f["clever"] for f in figures],
            "certified": [f["certified"] for f in figures],
            "decided": [f["decided"] for f in figures],
            "reigns": headline(view, norm),
            "leads": [astuple(lead) for lead in leads(view, norm)],
        },
    )
