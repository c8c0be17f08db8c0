"""Numbers over named axes: a heat map that is a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.results import Direction, GridAxis
from sitegen.charts.along import chart_along, line_along, measures
from sitegen.charts.base import Chart
from sitegen.facts import RowFacts
from sitegen.findings import Found
from sitegen.grids import existing, mean_of
from sitegen.panels import Panel
from sitegen.records import Cell
from sitegen.suites import SuiteSheet, sheet_of
from sitegen.threats import titled
from sitegen.words import number, percent

MOST_LINES: Final = 12
"""Rows up to which they are drawn as lines, too."""


@dataclass(frozen=True)
class HeatCell:
    """A cell: its text, its interval in words, and how strong its shade is, from 0 to 10 (10 is best)."""

    text: str
    interval: str
    shade: int


@dataclass(frozen=True)
class HeatMap:
    """A table of two axes.

    Attributes:
        title: What it shows.
        help: One sentence about it.
        unit: Of its numbers.
        across: Name of the axis across, with its unit.
        down: Name of the axis down; empty for a single row.
        heads: Positions across.
        rows: Position down, its cells, and their mean; empty where a cell is missing.
        direction: Which values are better.
        sheet: Pictures of its cells, if there are any.
        chart: Its rows as lines, where the axis across is one of numbers and the lines are few.
    """

    title: str
    help: str
    unit: str
    across: str
    down: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[HeatCell], str]]
    direction: Direction
    sheet: SuiteSheet | None = None
    chart: Chart | None = None

    @property
    def has_means(self) -> bool:
        """Whether any row has a mean."""
        return any(mean for _, _, mean in self.rows)


class Grid(Panel):
    """A number over named axes."""

    name = "grid"
    template = "panels/grid.html"

    def show(self, found: Sequence[Found], row: RowFacts) -> list[HeatMap]:
        """A heat map each; of more than two axes one for each position of the first ones."""
        return [
            replace(made, sheet=sheet_of(row.sheets, one.evaluation.parameters, one.output))
            for one in found
            for made in _maps(one)
        ]

    def cell(self, found: Found, row: RowFacts) -> Cell:
        """The mean over all cells; none where one is missing."""
        mean = self.fields(found, row)["_mean"]
        return Cell(percent(mean) if found.output.unit == "share" else number(mean), "", mean)

    def fields(self, found: Found, row: RowFacts) -> Mapping[str, float | None]:
        """The mean (of the labels that one is over; none where a cell is missing) and the ends of the values."""
        known = found.table.values[np.isfinite(found.table.values)] if found.table else np.empty(0)
        if found.table is None or not len(known):
            return {"_mean": None, "_smallest": None, "_largest": None}
        mean = _mean(found.table.values, found.output.axes)
        return {"_mean": mean, "_smallest": float(known.min()), "_largest": float(known.max())}

    def value(self, found: Found, row: RowFacts) -> Mapping[str, Any]:
        """The axes and the whole table, None where a cell is missing."""
        return table_json(found)


def _mean(values: NDArray[np.float64], axes: Sequence[GridAxis]) -> float | None:
    """Over the labels of each axis that are not kept apart; None where a cell is missing: never a smaller mean."""
    real = existing(axes, [values])
    chosen = [[k for k, label in enumerate(axis.labels) if label not in axis.apart] for axis in axes]
    part, cells = values[np.ix_(*chosen)], real[np.ix_(*chosen)]
    return float(mean_of(part, cells)) if cells.any() and np.isfinite(part[cells]).all() else None


def table_json(found: Found) -> dict[str, Any]:
    """A table with its axes, as JSON values."""
    axes = [{"name": a.name, "labels": list(a.labels), "unit": a.unit} for a in found.output.axes]
    if found.table is None:
        return {"axes": axes, "value": None}
    table = found.table
    ends = {"value": _plain(table.values), "low": _plain(table.low), "high": _plain(table.high)}
    return {"axes": axes, "confidence": table.confidence, **ends}


def _plain(values: NDArray[np.float64]) -> Any:
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


def _maps(found: Found) -> list[HeatMap]:
    output = found.output
    if found.table is None or not output.axes:
        return []
    title = titled(output)
    whole = np.stack([found.table.values, found.table.low, found.table.high])
    finite = whole[0][np.isfinite(whole[0])]
    ends = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    ends = (0.0, 1.0) if output.unit == "share" and ends[0] >= 0 and ends[1] <= 1 else ends
    front = output.axes[:-2]
    made = []
    for place in product(*(range(len(axis.labels)) for axis in front)):
        data = np.stack([part[place] for part in whole])
        told = ", ".join(f"{axis.name} {axis.labels[k]}" for axis, k in zip(front, place, strict=True))
        made.append(_map(found, f"{title}: {told}" if told else title, data, ends))
    return made


def _map(found: Found, title: str, data: NDArray[np.float64], ends: tuple[float, float]) -> HeatMap:
    output = found.output
    across, down = output.axes[-1], output.axes[-2] if len(output.axes) > 1 else None
    table = data if down is not None else data[:, None, :]
    labels = down.labels if down is not None else (output.title,)
    write = percent if output.unit == "share" else number
    rows = []
    for k, label in enumerate(labels):
        cells = [heat_cell(table[:, k, j], ends, output.direction, write) for j in range(len(across.labels))]
        mean = _mean(table[0, k], [across])
        rows.append((label, cells, "" if mean is None else write(mean)))
    return HeatMap(
        title=title,
        help=output.help,
        unit="%" if output.unit == "share" else output.unit,
        across=f"{across.name} ({across.unit})" if across.unit else across.name,
        down=down.name if down is not None else "",
        heads=across.labels,
        rows=rows,
        direction=output.direction,
        chart=_chart(found, title, labels, table[0]),
    )


def _chart(found: Found, title: str, labels: Sequence[str], values: NDArray[np.float64]) -> Chart | None:
    """A line for each row; the rows that no mean is over are those of several together, and drawn thick."""
    output = found.output
    apart = output.axes[-2].apart if len(output.axes) > 1 else ()
    drawn = [k for k in range(len(labels)) if np.isfinite(values[k]).any()]
    if not measures(output.axes[-1]) or not 1 < len(drawn) <= MOST_LINES:
        return None
    lines = []
    for k in drawn:
        style = "front thick" if labels[k] in apart else f"s{k % 8}{' dash' if k >= 8 else ''}"
        lines.append(line_along(output, values[k], label=labels[k].replace("_", " "), style=style))
    return chart_along(output, title, lines, ends=f"{len(lines)} lines")


def heat_cell(values: NDArray[np.float64], ends: tuple[float, float], direction: Direction, write: Any) -> HeatCell:
    """A cell of value, low and high; ``ends`` are the smallest and the largest value that it is shaded between."""
    value, low, high = map(float, values)
    if not np.isfinite(value):
        return HeatCell("–", "", 0)
    length = ends[1] - ends[0]
    place = (value - ends[0]) / length if length > 0 else 0.5
    shade = round(10 * (1 - place if direction == "lower" else place))
    interval = f"{write(low)}–{write(high)}" if np.isfinite(low) and np.isfinite(high) else ""
    return HeatCell(write(value), interval, int(np.clip(shade, 0, 10)))


PANEL = Grid()
