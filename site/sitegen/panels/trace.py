"""A number over work: what had been found after how much of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sitegen.charts.along import chart_along, line_along
from sitegen.charts.base import Chart
from sitegen.facts import RowFacts
from sitegen.findings import Found
from sitegen.panels import Panel
from sitegen.panels.grid import table_json
from sitegen.records import Cell
from sitegen.threats import titled
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
    title = titled(output)
    if not np.isfinite(values).any():
        return Trace(title, None, output.help, [])
    write = percent if output.unit == "share" else number
    seen = values[np.isfinite(values)]
    ends = f"From {write(float(seen[0]))} to {write(float(seen[-1]))}"
    chart = chart_along(output, title, [line_along(output, values, style="s0 thick")], ends=ends, low=low, high=high)
    table = [[axis.name, output.title, "interval"]]
    for label, v, a, b in zip(axis.labels, values, low, high, strict=True):
        table.append([label, write(float(v)), f"{write(float(a))}–{write(float(b))}" if np.isfinite(a + b) else "–"])
    return Trace(title, chart, output.help, table)


PANEL = TracePanel()
