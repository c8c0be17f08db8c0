"""The site's figures on demand, as SVG, PDF or PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import vl_convert

from benchmark.errors import InputError, UnknownNameError
from db import queries
from db.queries import Board
from db.session import Database
from sitegen.board_view import BoardView, board_title, board_view
from sitegen.build import board_axes
from sitegen.charts.base import Chart
from sitegen.charts.board import curves_chart, ranks_chart
from sitegen.charts.model import curve_chart
from sitegen.charts.pdf import pdf
from sitegen.charts.svg import svg
from sitegen.facts import RowFacts, row_facts
from sitegen.rows import unbuilt_row


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
    """
    chosen = _board(database, board)
    chart = _band(database, chosen, models, norm) if kind == "band" else _many(database, chosen, models, norm, kind)
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


def _many(database: Database, board: Board, models: Sequence[str], threat: str, kind: str) -> Chart:
    view = _view(database, _chosen(board, models))
    if threat not in view.axes:
        raise UnknownNameError("threat of this board", threat, view.axes)
    if not view.rankings[threat].rows:
        raise InputError(f"None of these models was attacked in {threat} on all samples.")
    chart = curves_chart(view, threat) if kind == "curves" else ranks_chart(view, threat)
    return replace(chart, title=f"{board_title(board)}: {chart.title}")


def _facts(database: Database, board: Board) -> list[RowFacts]:
    with database.read() as session:
        axis_of = board_axes(session, board)
        found = [(row, queries.row_data(session, [evaluation.id for evaluation in row.done])) for row in board.rows]
    return [row_facts(row, data, n=board.n, axes=axis_of) for row, data in found]


def _view(database: Database, board: Board) -> BoardView:
    facts = _facts(database, board)
    with database.read() as session:
        axis_of = board_axes(session, board)
    return board_view(board, [unbuilt_row(one) for one in facts], axis_of)
