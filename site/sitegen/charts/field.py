"""The field at a glance: robust accuracy against accuracy, and the models that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sitegen.board_view import BoardView
from sitegen.charts.badges import spread
from sitegen.charts.base import Chart, Letter, Line, Point
from sitegen.rows import BuiltRow

SHARES: Final = tuple((k / 4, f"{25 * k} %" if k else "0") for k in range(5))


@dataclass(frozen=True)
class Against:
    """What robust accuracy may be set against, where scripts draw the chart.

    Attributes:
        id: Its name in the data of scripts.
        title: In the chooser.
        label: On the axis.
        log: Whether the axis is logarithmic.
        better: Which values are better.
        lacking: What is said of models that have no value.
        of: A model's value, or None.
    """

    id: str
    title: str
    label: str
    log: bool
    better: str
    lacking: str
    of: Callable[[BuiltRow], float | None]


def _parameters(built: BuiltRow) -> float | None:
    return built.record.parameters


def _flops(built: BuiltRow) -> float | None:
    return built.record.flops


def _latency(built: BuiltRow) -> float | None:
    return built.record.latency


def _passes(built: BuiltRow) -> float | None:
    return built.record.passes or None


def year_of(built: BuiltRow) -> int | None:
    """The year that a model's card names."""
    year = built.row.model.card.get("year")
    return int(year) if isinstance(year, int | float) else None


_COST: Final = "passes of its evaluations, in images"

AGAINST: Final = (
    Against("size", "parameters", "parameters", True, "lower", "no number of parameters", _parameters),
    Against("flops", "operations of an image", "FLOPs an image", True, "lower", "no number of operations", _flops),
    Against(
        "latency", "time of an image", "seconds an image, where it was evaluated", True, "lower", "no time", _latency
    ),
    Against("passes", "cost of the evaluation", _COST, True, "lower", "no passes", _passes),
    Against("year", "year", "year of publication", False, "lower", "no year", year_of),
)
"""After the accuracy at ε = 0, which is the server's default."""


def offered(view: BoardView) -> list[Against]:
    """Those on which at least two models differ."""
    return [a for a in AGAINST if len({a.of(built) for built in view.rows} - {None}) > 1]


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in one value without losing in the other, by falling first value."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (-point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def field_chart(view: BoardView, threat: str) -> Chart:
    """Clean against robust accuracy at the threat's reference budget, with the Pareto front as a line."""
    ranking, axis = view.rankings[threat], view.axes[threat]
    at, n = axis.at_published[0], view.board.n
    places = {row.slug: (ranking.counts[i, 0] / n, ranking.counts[i, at] / n) for i, row in enumerate(ranking.rows)}
    front = pareto(list(places.values()))
    # Along the front the robust accuracy of a clean accuracy is that of the next point to its right.
    xs = np.array([0.0, *(x for x, _ in reversed(front))])
    ys = np.array([*(y for _, y in reversed(front)), front[0][1]])
    left = max(math.floor((min(x for x, _ in places.values()) - 0.01) * 20) / 20, 0.0)
    grey = [place for slug, place in places.items() if not view.letter(slug)]
    own = [slug for slug in view.highlighted if slug in places]
    dots = [Point("", [places[slug]], f"{view.style(slug)} own") for slug in own]
    letters, leaders = lettered(view, own, [places[slug] for slug in own], left)
    best = [row.title for row in ranking.rows if places[row.slug] in front]
    ticks = [x for x in (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0) if x >= left]
    return Chart(
        title=f"Clean against robust accuracy at {axis.place(axis.published[0])}",
        description=f"{len(places)} models; {len(best)} of them no other beats in both: {', '.join(best[:6])}.",
        x_label="accuracy at ε = 0",
        y_label="robust accuracy",
        x_range=(left, 1.0),
        x_ticks=ticks,
        x_texts=[f"{100 * x:g} %" for x in ticks],
        y_ticks=SHARES,
        lines=[Line("", xs, ys, "faint front"), *leaders],
        points=[*([Point("", grey, "s6")] if grey else []), *dots],
        letters=letters,
        css="board",
        legend=False,
    )


def lettered(
    view: BoardView, slugs: Sequence[str], places: Sequence[tuple[float, float]], left: float
) -> tuple[list[Letter], list[Line]]:
    """Letters of points on an axis from ``left`` to 1, apart from each other; a line to each that had to move."""
    width = 1 - left
    spots = spread([((x - left) / width, 1 - y) for x, y in places])
    letters, leaders = [], []
    for slug, (x, y), (across, down) in zip(slugs, places, spots, strict=True):
        at = (left + across * width, 1 - down)
        letters.append(Letter(view.letter(slug), *at, view.style(slug), slug))
        if (across, down) != ((x - left) / width, 1 - y):
            leaders.append(Line("", np.array([x, at[0]]), np.array([y, at[1]]), f"{view.style(slug)} leader", False))
    return letters, leaders
