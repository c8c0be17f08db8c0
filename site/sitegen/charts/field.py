"""The field at a glance: robust accuracy against accuracy, and the models that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sitegen import words
from sitegen.board_view import BoardView
from sitegen.charts.badges import spread
from sitegen.charts.base import Chart, Letter, Line, Point
from sitegen.rows import BuiltRow

SHARES: Final = tuple((k / 4, f"{25 * k} %" if k else "0") for k in range(5))
TICKS: Final = 8
"""Years that are labelled at most."""
NAMED: Final = 4
"""Models without a value that are named."""


@dataclass(frozen=True)
class Against:
    """What robust accuracy may be set against besides the accuracy at ε = 0.

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


def against_charts(view: BoardView, threat: str) -> list[tuple[Against, Chart, str]]:
    """For readers without scripts: what robust accuracy is set against, the chart, and which models have no value.

    Scripts draw the same in the place of `field_chart` (``board-field.js``), at any ε.
    """
    return [(a, _against_chart(view, threat, a), _lacking(view, threat, a)) for a in offered(view)]


def _lacking(view: BoardView, threat: str, against: Against) -> str:
    without = [row.title for row in view.rankings[threat].rows if _value(against, row) is None]
    return words.lacking(without, against.lacking, NAMED)


def _value(against: Against, row: BuiltRow) -> float | None:
    """A row's place on the axis; None where it has none."""
    value = against.of(row)
    if value is None or not against.log:
        return value
    return math.log10(value) if value > 0 else None


def _against_chart(view: BoardView, threat: str, against: Against) -> Chart:
    ranking, axis = view.rankings[threat], view.axes[threat]
    at, n = axis.at_published[0], view.board.n
    values = {i: value for i in ranking.order if (value := _value(against, ranking.rows[i])) is not None}
    places = {ranking.rows[i].slug: (value, float(ranking.counts[i, at]) / n) for i, value in values.items()}
    ends, ticks = _span(against, list(values.values()) or [0.0, 1.0])
    front = [(-x, y) for x, y in pareto([(-x, y) for x, y in places.values()])]  # less is better on all of these axes
    xs, ys = [x for x, _ in front], [y for _, y in front]
    line = Line("", np.array([*xs, ends[1]]), np.array([*ys, *ys[-1:]]), "faint front")
    own = [slug for slug in view.highlighted if slug in places]
    letters, leaders = lettered(view, own, [places[slug] for slug in own], *ends)
    grey = [place for slug, place in places.items() if not view.letter(slug)]
    best = [row.title for row in ranking.rows if places.get(row.slug) in front]
    return Chart(
        title=f"Robust accuracy at {axis.place(axis.published[0])} against {against.title}",
        description=f"{len(places)} models; {len(best)} of them no other beats in both: {', '.join(best[:6])}.",
        x_label=against.label,
        y_label="robust accuracy",
        x_range=ends,
        x_ticks=[x for x, _ in ticks],
        x_texts=[text for _, text in ticks],
        y_ticks=SHARES,
        lines=[*([line] if front else []), *leaders],
        points=[
            *([Point("", grey, "s6")] if grey else []),
            *(Point("", [places[slug]], f"{view.style(slug)} own") for slug in own),
        ],
        letters=letters,
        css="board",
        legend=False,
    )


def _span(against: Against, values: Sequence[float]) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """Where the axis begins and ends, in logarithms if it has them, and its ticks with their labels."""
    low, high = min(values), max(values)
    if not against.log:
        step = max(math.ceil((high - low + 1) / TICKS), 1)
        return (low - 0.5, high + 0.5), [(year, str(year)) for year in range(int(low), int(high) + 1, step)]
    margin = max((high - low) * 0.06, 0.05)
    left, right = low - margin, high + margin
    marks = [(p, f) for p in range(math.floor(left), math.floor(right) + 1) for f in (1, 2, 5)]
    close = right - left < 2
    places = [(p + math.log10(f), f * 10.0**p) for p, f in marks if f == 1 or close]
    return (left, right), [(x, _count(value)) for x, value in places if left <= x <= right]


def _count(value: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return words.number(value / size) + unit
    return words.number(value)


def lettered(
    view: BoardView, slugs: Sequence[str], places: Sequence[tuple[float, float]], left: float, right: float = 1.0
) -> tuple[list[Letter], list[Line]]:
    """Letters of points on an axis, apart from each other; a line to each that had to move."""
    width = right - left
    spots = spread([((x - left) / width, 1 - y) for x, y in places])
    letters, leaders = [], []
    for slug, (x, y), (across, down) in zip(slugs, places, spots, strict=True):
        at = (left + across * width, 1 - down)
        letters.append(Letter(view.letter(slug), *at, view.style(slug), slug))
        if (across, down) != ((x - left) / width, 1 - y):
            leaders.append(Line("", np.array([x, at[0]]), np.array([y, at[1]]), f"{view.style(slug)} leader", False))
    return letters, leaders
