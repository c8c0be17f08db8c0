"""What a grid says beside the curves of the same models: a scatter a threat, and what its correlation is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.correlation import FEWEST, Correlation, kendall
from sitegen.axes import nice
from sitegen.board_view import BoardView
from sitegen.charts.base import Chart, Line, Mark
from sitegen.grid_view import GridRanking
from sitegen.rows import BuiltRow
from sitegen.threats import UNION
from sitegen.words import number, percent

Floats = NDArray[np.float64]

MOST: Final = 4
"""Threats that are shown."""


@dataclass(frozen=True)
class Scatter:
    """Models by the area under their curve and by the grid.

    Attributes:
        chart: The chart.
        sentence: Kendall's τ with its interval, and what it is worth.
        table: The chart as a table.
    """

    chart: Chart
    sentence: str
    table: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Against:
    """The scatters, and the board whose curves they show; None with the reason in ``why`` where there are none."""

    board: BoardView | None
    scatters: Sequence[Scatter]
    why: str = ""


def against(views: Sequence[BoardView], view: BoardView, ranked: GridRanking, letters: Mapping[int, str]) -> Against:
    """Find the board of the same dataset on which most of the models have curves, and lay the grid beside them."""
    values = {
        ranked.rows[p.index].row.model.digest: (p.index, p.mean.value) for p in ranked.sections[0].places if p.mean
    }
    if len(values) < FEWEST:
        return Against(None, (), f"Fewer than {FEWEST} models have every cell, so that there is no mean to compare.")
    best: tuple[int, int] = (0, 0)
    board: BoardView | None = None
    for other in views:
        if other.board.dataset.digest == view.board.dataset.digest and other.axes:
            shared = sum(built.row.model.digest in values for built in other.rows)
            if (shared, other.board.n) > best:
                best, board = (shared, other.board.n), other
    if board is None or best[0] < FEWEST:
        return Against(None, (), f"Fewer than {FEWEST} of these models have curves on a board of the same images.")
    found = [_scatter(board, threat, ranked, values, letters) for threat in list(board.axes)[:MOST]]
    return Against(board, [scatter for scatter in found if scatter is not None])


def _scatter(
    board: BoardView,
    threat: str,
    ranked: GridRanking,
    values: Mapping[str, tuple[int, float]],
    letters: Mapping[int, str],
) -> Scatter | None:
    own = [b for b in board.rows if threat in b.record.threats and b.row.model.digest in values]
    if len(own) < FEWEST:
        return None
    output = ranked.grid.output
    errors = output.unit == "share" and output.direction == "higher"
    area = np.array([b.record.threats[threat].area.value for b in own])
    given = np.array([values[b.row.model.digest][1] for b in own])
    y = 1 - given if errors else given
    name = "mean error" if errors else f"mean {output.title.lower()}"
    symbol = "the union of norms" if threat == UNION else board.axes[threat].symbol
    tau = kendall(area, y, resamples=1000)
    write = percent if output.unit == "share" else number
    marks = [letters.get(values[b.row.model.digest][0], "") for b in own]
    chart = _chart(own, area, y, marks, symbol=symbol, name=name, share=output.unit == "share")
    rows = sorted(zip(own, area.tolist(), y.tolist(), marks, strict=True), key=lambda r: -r[1])
    table = [["model", "", f"area, {symbol}", name]]
    table += [[b.title, letter, number(a), write(e)] for b, a, e, letter in rows]
    return Scatter(chart, _worth(tau, symbol, name), table)


def _worth(tau: Correlation, symbol: str, name: str) -> str:
    """τ in words: nothing is claimed where the interval holds 0."""
    if not np.isfinite(tau.value):
        return f"Kendall’s τ is not defined: a figure does not vary among the {tau.models} models."
    if not np.isfinite(tau.low):
        return f"Kendall’s τ = {_signed(tau.value)}: {tau.models} models are too few for an interval."
    told = f"Kendall’s τ = {_signed(tau.value)} ({_signed(tau.low)} to {_signed(tau.high)}, {tau.models} models)"
    if not (tau.low > 0 or tau.high < 0):
        return f"{told}: the interval holds 0, so that robustness in {symbol} does not tell the {name} of these models."
    way = "higher" if tau.value > 0 else "lower"
    return f"{told}: of two of these models, the more robust one in {symbol} tends to have the {way} {name}."


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _chart(
    own: Sequence[BuiltRow], x: Floats, y: Floats, marks: Sequence[str], *, symbol: str, name: str, share: bool
) -> Chart:
    x_ticks, y_ticks = _ticks(x), _ticks(y)
    style = {letter: f"s{ord(letter) - ord('A')}" for letter in marks if letter}
    return Chart(
        title=f"Area in {symbol} and {name}",
        description=f"{len(own)} models; to the right the more robust, further up the larger {name}.",
        x_label=f"area under the robust-accuracy curve, {symbol}",
        y_label=name,
        x_range=(x_ticks[0], x_ticks[-1]),
        y_range=(y_ticks[0], y_ticks[-1]),
        x_ticks=x_ticks,
        y_ticks=[(v, f"{100 * v:.4g} %" if share else f"{v:.4g}") for v in y_ticks],
        lines=[
            Line("", np.array([a]), np.array([b]), style[letter], badge=letter, badge_at=(float(a),))
            for a, b, letter in zip(x, y, marks, strict=True)
            if letter
        ],
        crossings=[
            Mark(float(a), float(b), built.title)
            for built, a, b, letter in zip(own, x, y, marks, strict=True)
            if not letter
        ],
        legend=False,
    )


def _ticks(values: Floats) -> list[float]:
    """Round values that span the data and some room about it, so that no mark lies on the frame."""
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 1e-3 * max(abs(high), 1.0))
    step = nice(span / 4)
    low, high = (low if low == 0 else low - 0.06 * span), high + 0.06 * span
    first, last = int(np.floor(low / step)), int(np.ceil(high / step))
    return [round(k * step, 12) for k in range(first, max(last, first + 1) + 1)]
