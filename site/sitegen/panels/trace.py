"""A number over work: what had been found after how much of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.curve import Floats
from sitegen.axes import nice
from sitegen.charts.base import Area, Chart, Line
from sitegen.facts import RowFacts
from sitegen.findings import Found
from sitegen.panels import Panel
from sitegen.panels.grid import table_json
from sitegen.records import Cell
from sitegen.threats import symbol
from sitegen.words import number, percent


@dataclass(frozen=True)
class Trace:
    """A trace's chart, and its numbers as a table; no chart where nothing is known of it."""

    title: str
    chart: Chart | None
    help: str
    table: Sequence[Sequence[str]]


class TracePanel(Panel):
    """A number over work."""

    name = "trace"
    template = "panels/trace.html"

    def show(self, found: Sequence[Found], row: RowFacts) -> list[Trace]:
        """A chart each."""
        return [_trace(one) for one in found if one.table is not None and len(one.output.axes) == 1]

    def cell(self, found: Found, row: RowFacts) -> Cell:
        """Where it ends."""
        fields = self.fields(found, row)
        write = percent if found.output.unit == "share" else number
        low, high = fields["_last_low"], fields["_last_high"]
        interval = "" if low is None or high is None else f"{write(low)}–{write(high)}"
        return Cell(write(fields["_last"]), interval, fields["_last"])

    def fields(self, found: Found, row: RowFacts) -> Mapping[str, float | None]:
        """Its first and its last value, and the interval of the last."""
        names = ("_first", "_last", "_last_low", "_last_high")
        known = np.flatnonzero(np.isfinite(found.table.values)) if found.table else np.empty(0)
        if found.table is None or not len(known):
            return dict.fromkeys(names)
        table, first, last = found.table, known[0], known[-1]
        values = (table.values[first], table.values[last], table.low[last], table.high[last])
        return {name: float(v) if np.isfinite(v) else None for name, v in zip(names, values, strict=True)}

    def value(self, found: Found, row: RowFacts) -> Mapping[str, Any]:
        """The whole trace."""
        return table_json(found)


def _trace(found: Found) -> Trace:
    output, axis = found.output, found.output.axes[0]
    assert found.table is not None
    values, low, high = found.table.values, found.table.low, found.table.high
    title = f"{output.title}, {symbol(output.threat)}" if output.threat else output.title
    if not np.isfinite(values).any():
        return Trace(title, None, output.help, [])
    work = _amounts(axis.labels)
    shares, both = output.unit == "share", output.unit == axis.unit == "share"
    x, logarithmic = (work, False) if both else _scaled(work)
    write = percent if shares else number
    finite = np.concatenate([part[np.isfinite(part)] for part in (values, low, high)])
    y_range, y_ticks = _heights(finite, shares=shares)
    seen = values[np.isfinite(values)]
    ends = f"{write(float(seen[0]))} to {write(float(seen[-1]))}"
    unit = axis.unit if axis.unit != axis.name else ""
    known = np.isfinite(low) & np.isfinite(high)
    places = _labelled(x)
    # Two shares of one thing, such as confidence and accuracy: where they are equal.
    same = [Line("", x, x, "dash faint", step=False)] if both else []
    chart = Chart(
        title=title,
        description=f"From {ends} over {axis.labels[0]} to {axis.labels[-1]} {axis.unit or axis.name}.",
        x_label=f"{axis.name}{f' ({unit})' if unit else ''}{', logarithmic' if logarithmic else ''}",
        y_label=output.title if len(output.title) < 24 else output.unit or "value",
        x_range=(float(x[0]), float(x[-1]) if x[-1] > x[0] else float(x[0]) + 1),
        y_range=y_range,
        x_ticks=[float(x[k]) for k in places],
        x_texts=[axis.labels[k] for k in places],
        y_ticks=y_ticks,
        areas=[Area("interval", x[known], low[known], high[known], "s0", step=False)] if known.sum() > 1 else [],
        lines=[*same, Line("", x, values, "s0 thick", step=False)],
    )
    table = [[axis.name, output.title, "interval"]]
    for label, v, a, b in zip(axis.labels, values, low, high, strict=True):
        table.append([label, write(float(v)), f"{write(float(a))}–{write(float(b))}" if np.isfinite(a + b) else "–"])
    return Trace(title, chart, output.help, table)


def _amounts(labels: Sequence[str]) -> Floats:
    """The amounts of work; their places where they are no rising numbers."""
    try:
        work = np.array([float(label) for label in labels])
    except ValueError:
        return np.arange(len(labels), dtype=np.float64)
    return work if np.isfinite(work).all() and (np.diff(work) > 0).all() else np.arange(len(labels), dtype=np.float64)


def _scaled(work: Floats) -> tuple[Floats, bool]:
    """The amounts as drawn, and whether that is logarithmic: where they span more than a factor of twenty."""
    above = work[work > 0]
    if len(above) < 3 or above[-1] < 20 * above[0]:
        return work, False
    return np.log10(np.maximum(work, above[0] / 2)), True


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


PANEL = TracePanel()
