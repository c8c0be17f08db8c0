"""The field at a glance: clean against robust accuracy, and the models that no other beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from sitegen.board_view import BoardView
from sitegen.charts.base import Chart, Line, Point

SHARES: Final = tuple((k / 4, f"{25 * k} %" if k else "0") for k in range(5))


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
    lettered = [
        Line("", np.array([x]), np.array([y]), view.style(slug), badge=view.letter(slug), badge_at=(x,), key=slug)
        for slug in view.highlighted
        if slug in places
        for x, y in (places[slug],)
    ]
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
        lines=[Line("", xs, ys, "faint front"), *lettered],
        points=[Point("", grey, "s6")] if grey else [],
        css="board",
        legend=False,
    )
