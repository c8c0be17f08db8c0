"""The site's figures on demand, as SVG, PDF or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import vl_convert

from benchmark.board.verdicts import row_data
from benchmark.curve import dkw_half_width
from benchmark.errors import InputError, UnknownNameError
from db import queries
from db.queries import Board
from db.session import Database
from sitegen.axes import nice
from sitegen.board_view import BoardView, board_title, board_view
from sitegen.build import board_axes
from sitegen.charts.base import Area, Chart, Line, value_at
from sitegen.charts.board import curves_chart, ranks_chart
from sitegen.charts.model import curve_chart
from sitegen.charts.pdf import pdf
from sitegen.charts.svg import svg
from sitegen.facts import RowFacts, row_facts
from sitegen.pages.downloads import flat_rows
from sitegen.rows import unbuilt_row
from sitegen.threats import is_count


def draw(
    database: Database,
    *,
    form: str,
    board: str | None,
    models: Sequence[str],
    norm: str,
    kind: str,
    size: tuple[int, int],
    scale: float,
    bands: bool = False,
    title: bool = True,
    up_to: float | None = None,
) -> bytes:
    """A figure's bytes.

    Args:
        database: The database.
        form: ``svg``, ``pdf`` or ``png``.
        board: The board's slug; may be None if there is only one.
        models: Slugs; empty for all ranked ones.
        norm: Key of a threat of the board, or ``union``.
        kind: ``curves``, ``ranks``, or ``band`` (of one model).
        size: Width and height in points.
        scale: Pixels a point of a PNG.
        bands: Whether each curve has its 95 % band of the sampling around it.
        title: Whether the figure has its title.
        up_to: Where the ε axis ends; where the board's does if None.
    """
    chosen = _board(database, board)
    if bands and kind != "curves":
        raise InputError(f"Bands go with --kind curves, not with {kind}.")
    if kind == "band":
        chart = _band(database, chosen, models, norm)
    else:
        chart = _many(database, chosen, models, norm, kind, bands=bands)
    if up_to is not None:
        chart = _cut(chart, up_to, whole=is_count(norm))
    if not title:
        chart = replace(chart, title="")
    drawn = svg(chart, width=size[0], height=size[1])
    if form == "svg":
        return drawn.encode()
    found: bytes = pdf(drawn) if form == "pdf" else vl_convert.svg_to_png(drawn, scale=scale)
    return found


def _board(database: Database, name: str | None) -> Board:
    with database.read() as session:
        if name is not None:
            return queries.board_named(session, name)
        found = queries.boards(session)
    if len(found) != 1:
        names = ", ".join(board.slug for board in found)
        raise InputError(
            f"There are {len(found)} boards; name one with --board: {names}." if found else "There is no board yet."
        )
    return found[0]


def _chosen(board: Board, models: Sequence[str]) -> Board:
    known = {row.model.slug for row in board.ranked}
    for slug in models:
        if slug not in known:
            raise UnknownNameError("ranked model on this board", slug, known)
    rows = tuple(row for row in board.ranked if not models or row.model.slug in models)
    if not rows:
        raise InputError(f"The board {board.slug} has no complete row yet. Run: curveboard evaluate.")
    return replace(board, rows=rows)


def _band(database: Database, board: Board, models: Sequence[str], threat: str) -> Chart:
    chosen = _chosen(board, models)
    if len(chosen.rows) != 1:
        raise InputError(f"A band is of one model, {len(chosen.rows)} were chosen; name one with --model.")
    (facts,) = _facts(database, chosen)
    if threat not in facts.threats:
        raise UnknownNameError("threat that this model was attacked in", threat, facts.threats)
    return curve_chart(facts.row.model.title, facts.threats[threat])


def board_figures(database: Database, board: Board) -> list[dict[str, Any]]:
    """What the site's CSV holds of a board: a line a model, shares in [0, 1]."""
    return flat_rows(_view(database, board)) if board.rows else []


BANDED: Final = 8
"""Curves that may have bands in one figure: with more nobody can tell them apart."""


def _cut(chart: Chart, end: float, *, whole: bool) -> Chart:
    """The chart up to an ε: what lies beyond it is left out."""
    if end > chart.x_range[1]:
        raise InputError(f"The axis ends at ε = {chart.x_range[1]:g}; --up-to {end:g} lies beyond it.")
    step = nice(end / 4, whole=whole)
    inside = [mark for mark in chart.marks if mark <= end]
    lines = [_line_until(line, end) for line in chart.lines]
    areas = [_area_until(area, end) for area in chart.areas]
    points = [replace(p, points=[(x, y) for x, y in p.points if x <= end]) for p in chart.points]
    return replace(
        chart,
        x_range=(chart.x_range[0], end),
        x_ticks=tuple(round(k * step, 10) for k in range(int(end / step + 1e-9) + 1)),
        x_texts=(),
        marks=inside,
        lines=lines,
        areas=areas,
        points=points,
        crossings=[mark for mark in chart.crossings if mark.x <= end],
    )


def _line_until(line: Line, end: float) -> Line:
    keep = line.x <= end
    x, y = np.append(line.x[keep], end), np.append(line.y[keep], value_at(line, end))
    return replace(line, x=x, y=y, badge_at=tuple(at for at in line.badge_at if at <= end))


def _area_until(area: Area, end: float) -> Area:
    keep = np.append(area.x <= end, [True])
    last = max(int(np.searchsorted(area.x, end, side="right")) - 1, 0)
    low, high = (np.append(part, part[last])[keep] for part in (area.low, area.high))
    return replace(area, x=np.append(area.x, end)[keep], low=low, high=high)


def _banded(view: BoardView, threat: str, chart: Chart) -> Chart:
    """The curves, each with the band of its sampling (Dvoretzky, Kiefer and Wolfowitz) behind it."""
    if len(chart.lines) > BANDED:
        raise InputError(f"{len(chart.lines)} curves with bands cannot be told apart; name up to {BANDED} by --model.")
    half = dkw_half_width(view.board.n)
    areas = [
        Area("", line.x, np.clip(line.y - half, 0, 1), np.clip(line.y + half, 0, 1), line.style) for line in chart.lines
    ]
    return replace(chart, areas=areas)


def _many(database: Database, board: Board, models: Sequence[str], threat: str, kind: str, *, bands: bool) -> Chart:
    view = _view(database, _chosen(board, models))
    if threat not in view.axes:
        raise UnknownNameError("threat of this board", threat, view.axes)
    if not view.rankings[threat].rows:
        raise InputError(f"None of these models was attacked in {threat} on all samples.")
    chart = curves_chart(view, threat) if kind == "curves" else ranks_chart(view, threat)
    if bands:
        chart = _banded(view, threat, chart)
    return replace(chart, title=f"{board_title(board)}: {chart.title}")


def _facts(database: Database, board: Board) -> list[RowFacts]:
    with database.read() as session:
        axis_of = board_axes(session, board)
        found = [(row, row_data(session, row, row.done)) for row in board.rows]
    return [row_facts(row, data, n=board.n, axes=axis_of) for row, data in found]


def _view(database: Database, board: Board) -> BoardView:
    facts = _facts(database, board)
    with database.read() as session:
        axis_of, changes = board_axes(session, board), queries.changes(session)
    return board_view(board, [unbuilt_row(one, changes) for one in facts], axis_of)
