"""Charts as data: what is drawn, whatever it is drawn as."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from benchmark.curve import Floats
from sitegen.axes import Axis

WIDTH: Final = 2000
HEIGHT: Final = 1000
"""Resolution of the stretched SVG: half a pixel on the widest screens."""


@dataclass(frozen=True, eq=False)
class Line:
    """A curve.

    Attributes:
        label: Its name in the legend; empty for one that is context only.
        x: Shape (k,), rising.
        y: Shape (k,); NaN breaks the line.
        style: CSS classes; ``s0`` to ``s7`` are the series' colours, ``dash``, ``dots``,
            ``dashdot``, ``faint``, ``thick`` the strokes.
        step: Whether the value holds until the next x.
        badge: A letter put on the line, to know it by without its colour.
        badge_at: Where (in x): one place or several.
        key: Identifies the line to scripts.
    """

    label: str
    x: Floats
    y: Floats
    style: str = "s0"
    step: bool = True
    badge: str = ""
    badge_at: tuple[float, ...] = ()
    key: str = ""


@dataclass(frozen=True, eq=False)
class Area:
    """The area between two functions on the same positions: step functions, or straight from position to position."""

    label: str
    x: Floats
    low: Floats
    high: Floats
    style: str = "s0"
    step: bool = True


@dataclass(frozen=True)
class Point:
    """Single points of one kind."""

    label: str
    points: Sequence[tuple[float, float]]
    style: str = "s0"


@dataclass(frozen=True)
class Letter:
    """A letter that stands by itself, not on a line."""

    badge: str
    x: float
    y: float
    style: str = "s0"
    key: str = ""


@dataclass(frozen=True)
class Mark:
    """A small dot where something happens; the title says what, and is empty where that is not worth its bytes.

    ``keys`` are those of the lines that meet there, so that scripts hide it with either of them.
    """

    x: float
    y: float
    title: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart, whatever it is drawn as.

    Attributes:
        title: What it shows.
        description: What is to be seen in it, for those who cannot see it.
        x_label: What is on the x axis.
        y_label: What is on the y axis.
        x_range: Ends of the x axis.
        y_range: Ends of the y axis; the first is at the bottom.
        x_ticks: Labelled positions.
        x_texts: Their labels; the numbers themselves if empty.
        y_ticks: Labelled positions with their labels.
        marks: Published budgets: vertical lines.
        lines: The curves, those in front last.
        areas: Drawn behind the lines.
        points: Drawn on top.
        letters: Letters that no line carries.
        crossings: Drawn on top of everything.
        css: Further classes of the figure.
        legend: Whether its series are named below it.
        context: What its unnamed lines are called in the legend; empty if they are not.
        ids: Begins the fragment of each line that has a key, for panels that show it again; empty for no fragments.
        backdrop: A picture of lines that are too many for the page, drawn behind everything.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float] = (0.0, 1.0)
    x_ticks: Sequence[float] = ()
    x_texts: Sequence[str] = ()
    y_ticks: Sequence[tuple[float, str]] = (
        (0, "0"),
        (0.25, "25 %"),
        (0.5, "50 %"),
        (0.75, "75 %"),
        (1, "100 %"),
    )
    marks: Sequence[float] = ()
    lines: Sequence[Line] = ()
    areas: Sequence[Area] = ()
    points: Sequence[Point] = ()
    letters: Sequence[Letter] = ()
    crossings: Sequence[Mark] = ()
    css: str = ""
    legend: bool = True
    context: str = ""
    ids: str = ""
    backdrop: str = ""

    @property
    def x_labels(self) -> list[tuple[float, str]]:
        """The labelled positions with their labels."""
        texts = self.x_texts or [f"{x:g}" for x in self.x_ticks]
        return list(zip(self.x_ticks, texts, strict=True))

    def fx(self, x: float) -> float:
        """Where an x lies, from 0 (left) to 1 (right)."""
        low, high = self.x_range
        return (x - low) / (high - low)

    def fy(self, y: float) -> float:
        """Where a y lies, from 0 (top) to 1 (bottom)."""
        low, high = self.y_range
        return 1 - (y - low) / (high - low)


def eps_chart(axis: Axis) -> Chart:
    """An empty chart of robust accuracy over an ε axis, its published budgets marked; for ``dataclasses.replace``."""
    return Chart(
        title="",
        description="",
        x_label=axis.label,
        y_label="robust accuracy",
        x_range=(0.0, axis.maximum),
        x_ticks=axis.ticks,
        marks=axis.published,
    )


def path(chart: Chart, x: Floats, y: Floats, *, step: bool, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The ``d`` of a curve: whole numbers, relative moves, points that fall on one pixel joined."""
    xs, ys = pixels(chart, x, y, width, height)
    pieces: list[str] = []
    px = py = run = 0  # run: how far right a step function has gone since it last fell
    pen = False
    for cx, cy in zip(xs.tolist(), ys.tolist(), strict=True):
        if math.isnan(cy):
            pen = False
            continue
        ix, iy = round(cx), round(cy)
        if not pen:
            pieces.append(f"h{run}M{ix} {iy}" if run else f"M{ix} {iy}")
            pen, run = True, 0
        elif step:
            run += ix - px
            if iy != py:
                pieces.append(f"h{run}v{iy - py}" if run else f"v{iy - py}")
                run = 0
        elif ix != px or iy != py:
            pieces.append(f"l{ix - px} {iy - py}")
        px, py = ix, iy
    if run:
        pieces.append(f"h{run}")
    return "".join(pieces)


def area_path(chart: Chart, area: Area, *, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The ``d`` of an area."""
    xs, high = pixels(chart, area.x, area.high, width, height)
    _, low = pixels(chart, area.x, area.low, width, height)
    if not area.step:
        ends = [*zip(xs, high, strict=True), *zip(xs[::-1], low[::-1], strict=True)]
        return "M" + "L".join(f"{round(x)} {round(y)}" for x, y in ends) + "Z"
    there = [f"H{round(x)}V{round(y)}" for x, y in zip(xs[1:], high[1:], strict=True)]
    back = [f"V{round(y)}H{round(x)}" for x, y in zip(xs[-2::-1], low[-2::-1], strict=True)]
    return f"M{round(xs[0])} {round(high[0])}{''.join(there)}V{round(low[-1])}{''.join(back)}Z"


def pixels(chart: Chart, x: Floats, y: Floats, width: float, height: float) -> tuple[Floats, Floats]:
    """Where points lie, in pixels from the top left; what lies outside is put just outside."""
    (x0, x1), (y0, y1) = chart.x_range, chart.y_range
    xs = (np.asarray(x, dtype=np.float64) - x0) / (x1 - x0) * width
    ys = (1 - (np.asarray(y, dtype=np.float64) - y0) / (y1 - y0)) * height
    return np.clip(xs, 0, width), np.clip(ys, -0.02 * height, 1.02 * height)


def badges(chart: Chart) -> Iterable[tuple[Line | Letter, float, float]]:
    """Every badge of a chart: what carries it, and where it is."""
    yield from ((letter, letter.x, letter.y) for letter in chart.letters)
    for line in chart.lines:
        for x in line.badge_at if line.badge else ():
            y = value_at(line, x)
            if math.isfinite(y):
                yield line, x, y


def value_at(line: Line, x: float) -> float:
    """A line's value at x (of a step function: that of the last step)."""
    if not line.step:
        return float(np.interp(x, line.x, line.y))
    return float(line.y[max(int(np.searchsorted(line.x, x, side="right")) - 1, 0)])
