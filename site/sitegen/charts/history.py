"""Records over time: who was the most robust of all models that were published up to a year."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.curve import proportion_interval
from sitegen import words
from sitegen.board_view import BoardView
from sitegen.charts.badges import spread
from sitegen.charts.base import Chart, Letter, Line, Point
from sitegen.charts.field import NAMED, SHARES, TICKS, year_of
from sitegen.records import Share
from sitegen.rows import BuiltRow


@dataclass(frozen=True)
class HandOver:
    """A model that was more robust than all of the years before, and the best of its own."""

    year: int
    built: BuiltRow
    share: Share


@dataclass(frozen=True)
class History:
    """The records at one ε.

    Attributes:
        place: At which ε, in words.
        records: Who took them over, the oldest first.
        lacking: What is said of models without a year; empty if every model has one.
    """

    place: str
    records: Sequence[HandOver]
    lacking: str


def history(view: BoardView, threat: str, at: int) -> History:
    """The records at a position of the axis. A tie takes nothing over; where all are broken there is no record.

    Within a year the best has the record; equals by the area under their curves, then by slug.
    """
    ranking, n = view.rankings[threat], view.board.n
    counts = ranking.counts[:, at]
    areas = [row.record.threats[threat].area.value for row in ranking.rows]
    dated = [(year, i) for i, row in enumerate(ranking.rows) if (year := year_of(row)) is not None]
    dated.sort(key=lambda d: (d[0], -int(counts[d[1]]), -areas[d[1]], ranking.rows[d[1]].slug))
    records: list[HandOver] = []
    most = 0
    for year, i in dated:
        if counts[i] > most:
            most = int(counts[i])
            low, high = proportion_interval([most], n)
            records.append(HandOver(year, ranking.rows[i], Share(most / n, float(low[0]), float(high[0]))))
    undated = [row.title for row in ranking.rows if year_of(row) is None]
    return History(ranking.axis.place(float(ranking.axis.grid[at])), records, words.lacking(undated, "no year", NAMED))


def history_chart(view: BoardView, threat: str) -> Chart:
    """The record at the threat's reference budget over the years, above every model's year and robust accuracy."""
    ranking, axis = view.rankings[threat], view.axes[threat]
    at, n = axis.at_published[0], view.board.n
    dots = [
        (year, ranking.counts[i, at] / n) for i, row in enumerate(ranking.rows) if (year := year_of(row)) is not None
    ]
    found = history(view, threat, at)
    first, last = (min(x for x, _ in dots), max(x for x, _ in dots)) if dots else (0, 0)
    low, high = first - 0.5, last + 0.5
    xs = [float(record.year) for record in found.records]
    ys = [record.share.value for record in found.records]
    spots = spread([((x - low) / (high - low), 1 - y) for x, y in zip(xs, ys, strict=True)])
    step = -(-(last - first + 1) // TICKS)
    told = words.listed(f"{record.year} {record.built.title}" for record in found.records)
    return Chart(
        title=f"State of the art at {found.place}",
        description=f"Highest robust accuracy of all models up to each year: {told or 'none'}.",
        x_label="year of publication",
        y_label="robust accuracy",
        x_range=(low, high),
        x_ticks=range(first, last + 1, step),
        y_ticks=SHARES,
        lines=[Line("", np.array([*xs, high]), np.array([*ys, ys[-1]]), "s7 thick record")] if xs else [],
        points=[Point("", dots, "s6"), Point("", list(zip(xs, ys, strict=True)), "s7 own")] if dots else [],
        letters=[
            Letter(str(k + 1), low + across * (high - low), 1 - down, "s7") for k, (across, down) in enumerate(spots)
        ],
        css="board",
        legend=False,
    )
