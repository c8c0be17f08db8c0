"""Charts over an axis of a grid or a trace: work, severity, confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from benchmark.curve import Floats
from benchmark.results import GridAxis, Output
from sitegen.axes import nice
from sitegen.charts.base import Area, Chart, Line
from sitegen.words import number, percent

_WIDE: Final = 20
"""How many times the smallest position the largest is, from which on the axis is logarithmic."""

_NOTHING: Final = np.empty(0)

_LONG: Final = 24
"""Letters from which on a title does not fit beside the axis."""


def measures(axis: GridAxis) -> bool:
    """Whether an axis's positions are rising numbers, three at least, so that a line over them means something."""
    return len(axis.labels) > 2 and _numbers(axis.labels) is not None


def line_along(output: Output, values: Floats, *, label: str = "", style: str, badge: str = "") -> Line:
    """A line over the last axis of an output, through values of the shape (positions,)."""
    return Line(label, positions(output.axes[-1])[0], values, style, step=False, badge=badge)


def chart_along(
    output: Output, title: str, lines: Sequence[Line], *, ends: str, low: Floats = _NOTHING, high: Floats = _NOTHING
) -> Chart:
    """A chart over the last axis of an output.

    Args:
        output: A trace or grid.
        title: What the chart shows.
        lines: Of `line_along`; each badge is given a place of its own, as lines may lie over each other.
        ends: What is to be seen, in words.
        low: Lower ends of the interval of a single line, NaN where none is known; empty for none.
        high: Upper ends.
    """
    axis, shares = output.axes[-1], output.unit == "share"
    both = shares and axis.unit == "share"  # two shares of one thing, such as confidence and accuracy
    x, logarithmic = positions(axis)
    finite = np.concatenate([part[np.isfinite(part)] for part in (*(line.y for line in lines), low, high)])
    y_range, y_ticks = _heights(finite, shares=shares)
    known = np.isfinite(low) & np.isfinite(high)
    labelled = _labelled(x)
    unit = axis.unit if axis.unit != axis.name else ""
    same = [Line("", x, x, "dash faint", step=False)] if both else []  # where they are equal
    places = [float(x[0] + (k + 1) / (len(lines) + 1) * (x[-1] - x[0])) for k in range(len(lines))]
    return Chart(
        title=title,
        description=f"{ends} over {axis.labels[0]} to {axis.labels[-1]} {axis.unit or axis.name}.",
        x_label=f"{axis.name}{f' ({unit})' if unit else ''}{', logarithmic' if logarithmic else ''}",
        y_label=output.title if len(output.title) < _LONG else output.unit or "value",
        x_range=(float(x[0]), float(x[-1]) if x[-1] > x[0] else float(x[0]) + 1),
        y_range=y_range,
        x_ticks=[float(x[k]) for k in labelled],
        x_texts=[axis.labels[k] for k in labelled],
        y_ticks=y_ticks,
        areas=[Area("interval", x[known], low[known], high[known], "s0", step=False)] if known.sum() > 1 else [],
        lines=[*same, *(replace(line, badge_at=(at,)) for line, at in zip(lines, places, strict=True))],
    )


def table_along(output: Output, lines: Sequence[Line]) -> list[list[str]]:
    """The same as a table: a row a position."""
    axis, write = output.axes[-1], percent if output.unit == "share" else number
    rows = [[label, *(write(float(line.y[k])) for line in lines)] for k, label in enumerate(axis.labels)]
    return [[axis.name, *(line.label for line in lines)], *rows]


def fractions(axis: GridAxis) -> list[float]:
    """Where each position lies in such a chart, from 0 (left) to 1 (right)."""
    x, _ = positions(axis)
    return [float((at - x[0]) / max(x[-1] - x[0], 1e-12)) for at in x]


def positions(axis: GridAxis) -> tuple[Floats, bool]:
    """The positions as drawn, and whether that is logarithmic; their places in the list where they are no numbers."""
    amounts = _numbers(axis.labels)
    if amounts is None:
        return np.arange(len(axis.labels), dtype=np.float64), False
    above = amounts[amounts > 0]
    if axis.unit == "share" or len(above) < 3 or above[-1] < _WIDE * above[0]:
        return amounts, False
    return np.log10(np.maximum(amounts, above[0] / 2)), True


def _numbers(labels: Sequence[str]) -> Floats | None:
    try:
        found = np.array([float(label) for label in labels])
    except ValueError:
        return None
    return found if np.isfinite(found).all() and (np.diff(found) > 0).all() else None


def _labelled(x: Floats) -> list[int]:
    """Places whose labels fit: at least an eighth of the axis apart."""
    chosen = [0]
    for k in range(1, len(x)):
        if x[k] - x[chosen[-1]] >= (x[-1] - x[0]) / 8:
            chosen.append(k)
    return chosen


def _heights(finite: Floats, *, shares: bool) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    if shares and (not len(finite) or (finite.min() >= 0 and finite.max() <= 1)):
        return (0.0, 1.0), [(k / 4, f"{25 * k} %" if k else "0") for k in range(5)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    low, high = min(low, 0.0), high if high > min(low, 0.0) else low + 1
    step = nice((high - low) / 4)
    first = int(np.floor(low / step))
    ticks = [round(k * step, 12) for k in range(first, int(np.ceil(high / step - 1e-9)) + 1)]
    return (ticks[0], ticks[-1]), [(tick, f"{tick:g}") for tick in ticks]
