"""Boards ranked by a grid: models × first axis at each position of the second, and over all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from sitegen.board_view import LETTERS, BoardView
from sitegen.charts.along import chart_along, fractions, line_along, measures, table_along
from sitegen.charts.base import Chart, Line
from sitegen.grid_against import Against, against
from sitegen.grid_ranks import Interval, Place, over, worst_position
from sitegen.grid_view import GridRanking, Section
from sitegen.model.files import tex
from sitegen.pages import Page, Site
from sitegen.panels.grid import HeatCell, heat_cell
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow
from sitegen.scripts_data import push, words16
from sitegen.suites import SuiteSheet, sheet_of, suite_sheets
from sitegen.words import listed, number, percent

MOST_ROWS: Final = 100
"""Rows of a table; the rest are in the files."""
_WHOLE16: Final = 65535


@dataclass(frozen=True)
class Row:
    """A row of a table, ready to be written."""

    place: Place
    built: BuiltRow
    letter: str
    style: str
    ranks: str
    mean: str
    mean_interval: str
    behind: str
    behind_interval: str
    worst: str
    cells: Sequence[HeatCell]


@dataclass(frozen=True)
class Table:
    """A section with its rows and what it says in words."""

    section: Section
    sentence: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class GridPage:
    """The context of the template.

    Attributes:
        view: The board.
        ranked: The ranking.
        tables: One a section.
        unit: Of the numbers.
        over: The labels that means are over, in words where they are not all.
        worst_at: Of each model that has all cells: the worst position of the second axis.
        against: Beside the curves of the same models.
        latex: The rows for a paper.
        hidden: Rows that the tables leave to the files.
        sheet: Pictures of the cells, if there are any.
        chart: The lettered models' means over the second axis, where that is one of numbers.
        chart_table: The same as a table.
    """

    view: BoardView
    ranked: GridRanking
    tables: Sequence[Table]
    unit: str
    over: str
    worst_at: Sequence[tuple[BuiltRow, str]]
    against: Against
    latex: str
    hidden: int
    sheet: SuiteSheet | None
    chart: Chart | None
    chart_table: Sequence[Sequence[str]]

    @property
    def surveyed(self) -> bool:
        """Whether any mean has an interval: answers to single images may not be stored."""
        return any(row.mean_interval for table in self.tables for row in table.rows)


@dataclass(frozen=True)
class Standing:
    """Who is first by a grid, in a sentence, and the page that says more."""

    title: str
    address: str
    sentence: str


def standings(site: Site, view: BoardView) -> Sequence[Standing]:
    """Who is first by each grid of a board that ranks by no attack; nothing for the others, whose curves say it."""
    return [
        Standing(r.grid.title, f"{view.folder}/{r.grid.stem}.html", sentence)
        for r in ([] if view.axes else site.grids[view.board.slug])
        if (sentence := _sentence(r, r.sections[0]))
    ]


def _make(site: Site) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for view in site.views:
        for ranked in site.grids[view.board.slug]:
            files |= _files(site, view, ranked)
    return files


def _files(site: Site, view: BoardView, ranked: GridRanking) -> dict[str, bytes]:
    sheets = suite_sheets(site.session, view.board.dataset)
    page = grid_page(
        site.views, view, ranked, sheet_of(sheets, json.loads(ranked.grid.key.parameters), ranked.grid.output)
    )
    stem, title = f"{view.folder}/{ranked.grid.stem}", ranked.grid.title
    frame = Frame(
        title=f"{title}, {view.title}",
        description=f"{len(ranked.rows)} models by {title.lower()}, position by position, on {view.title}.",
        root="../../",
        section="Boards",
        crumbs=(("Boards", "../index.html"), (view.title, "index.html")),
        scripts=("../../static/grid.js", f"{ranked.grid.stem}.js"),
        as_of=site.as_of,
        wide=True,
    )
    return {
        f"{stem}.html": render("grid.html", frame, page=page),
        f"{stem}.js": _script(page),
        f"{stem}.csv": _csv(ranked),
        f"{stem}.json": _json(view, ranked),
        f"{stem}.tex": page.latex.encode(),
    }


def grid_page(
    views: Sequence[BoardView], view: BoardView, ranked: GridRanking, sheet: SuiteSheet | None = None
) -> GridPage:
    """Everything the page says."""
    output = ranked.grid.output
    kept = over(output)
    labels = [output.axes[0].labels[k] for k in kept]
    few = f"{len(labels)} of {len(output.axes[0].labels)}: without {listed(output.axes[0].apart)}"
    letters = {p.index: LETTERS[k] for k, p in enumerate(ranked.sections[0].places[: len(LETTERS)])}
    order = [p.index for p in ranked.sections[0].places]
    worst = [(ranked.rows[i], worst_position(ranked.numbers[i], output)) for i in order[:MOST_ROWS]]
    write = _writer(ranked)
    lines = _lines(ranked, letters) if measures(output.axes[1]) else []
    return GridPage(
        view=view,
        ranked=ranked,
        tables=[_table(ranked, section, letters) for section in ranked.sections],
        unit="%" if output.unit == "share" else output.unit,
        over=few if output.axes[0].apart else "",
        worst_at=[(b, f"{w[0]} ({write(w[1])})") for b, w in worst if w is not None],
        against=against(views, view, ranked, letters),
        latex=_latex(ranked),
        hidden=max(len(ranked.rows) - MOST_ROWS, 0),
        sheet=sheet,
        chart=_chart(ranked, lines) if lines else None,
        chart_table=table_along(output, lines),
    )


def _lines(ranked: GridRanking, letters: dict[int, str]) -> list[Line]:
    """The means over the first axis of each lettered model that has all cells, along the second."""
    output = ranked.grid.output
    kept, found = over(output), []
    for place in ranked.sections[0].places:
        if place.index in letters and place.mean is not None:
            letter, title = letters[place.index], ranked.rows[place.index].title
            means = ranked.numbers[place.index].values[kept].mean(axis=0)
            style = f"s{LETTERS.index(letter)}"
            found.append(line_along(output, means, label=title, style=style, badge=letter))
    return found


def _chart(ranked: GridRanking, lines: Sequence[Line]) -> Chart:
    output = ranked.grid.output
    first, second = output.axes
    averaged = f", mean over {first.name}" if len(over(output)) > 1 else ""
    title = f"{ranked.grid.title} along {second.name}{averaged}"
    return chart_along(output, title, lines, ends=f"{len(lines)} models")


def _writer(ranked: GridRanking) -> Callable[[float | None], str]:
    return percent if ranked.grid.output.unit == "share" else number


def _table(ranked: GridRanking, section: Section, letters: dict[int, str]) -> Table:
    rows = [_row(ranked, section, place, letters) for place in section.places[:MOST_ROWS]]
    return Table(section, _sentence(ranked, section), rows)


def _row(ranked: GridRanking, section: Section, place: Place, letters: dict[int, str]) -> Row:
    write, grid = _writer(ranked), ranked.numbers[place.index]
    letter = letters.get(place.index, "")
    low, high = (
        (part[:, section.at[0]] for part in (grid.low, grid.high))
        if len(section.at) == 1
        else (np.full(len(place.cells), np.nan),) * 2
    )
    ends = _ends(ranked)
    cells = [
        heat_cell(np.array(values), ends, ranked.grid.output.direction, write)
        for values in zip(place.cells, low, high, strict=True)
    ]
    ranks = "" if place.best is None else str(place.best) if place.best == place.last else f"{place.best}–{place.last}"
    return Row(
        place=place,
        built=ranked.rows[place.index],
        letter=letter,
        style=f"s{LETTERS.index(letter)}" if letter else "faint",
        ranks=ranks,
        mean=write(place.mean.value) if place.mean else "–",
        mean_interval=_ends_text(place.mean, write),
        behind="–" if place.behind is None else write(place.behind.value) if place.behind.value else "",
        behind_interval=_ends_text(place.behind, write) if place.behind and place.behind.value else "",
        worst=f"{_plain(place.worst[0])} {write(place.worst[1])}" if place.worst else "",
        cells=cells,
    )


def _plain(label: str) -> str:
    return label.replace("_", " ")


def _ends_text(interval: Interval | None, write: Callable[[float | None], str]) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return ""
    low, high = write(interval.low).replace("-", "−"), write(interval.high)
    return f"{low} to {high}" if interval.low < 0 else f"{low}–{high}"


def _ends(ranked: GridRanking) -> tuple[float, float]:
    """What the shades span: all values of the page, or 0 to 1 for shares."""
    values = np.concatenate([g.values.ravel() for g in ranked.numbers]) if ranked.numbers else np.empty(0)
    finite = values[np.isfinite(values)]
    if ranked.grid.output.unit == "share" or not len(finite):
        return (0.0, 1.0)
    return float(finite.min()), float(finite.max())


def _sentence(ranked: GridRanking, section: Section) -> str:
    """Who is first, by how much, and whether that is more than the sampling of images can explain."""
    placed = [p for p in section.places if p.rank is not None]
    if not placed:
        gone = sorted({name for p in section.places for name in p.missing})
        return f"No model is ranked: {listed(map(_plain, gone))} could not be measured." if gone else ""
    first = [ranked.rows[p.index].title for p in placed if p.rank == 1]
    if len(first) > 1:
        return f"{listed(first)} share the first place."
    if len(placed) == 1:
        return f"{first[0]} is the only model that is ranked."
    second = placed[1]
    write, unit = _writer(ranked), " points" if ranked.grid.output.unit == "share" else ""
    gap = f"{write(second.behind.value)}{unit}" if second.behind else ""
    ends = _ends_text(second.behind, write)
    told = f"{first[0]} is first, {gap}{f' ({ends})' if ends else ''} ahead of {ranked.rows[second.index].title}"
    if placed[0].last is None:
        return f"{told}; the answers to the single images are not stored, so there is no interval."
    clear = placed[0].last == 1
    return f"{told}: {'clearly' if clear else 'within the sampling error of the images'}."


def _latex(ranked: GridRanking) -> str:
    """A row a model: rank and mean over all, the means along the first axis."""
    output, write = ranked.grid.output, _writer(ranked)
    heads = ["Model", "Rank", "Mean", *map(_plain, output.axes[0].labels)]
    lines = ["% " + " & ".join(heads)]
    for place in ranked.sections[0].places:
        mean = write(place.mean.value) if place.mean else "--"
        cells = [write(float(v)).replace("–", "--") for v in place.cells]
        head = [tex(ranked.rows[place.index].title), str(place.rank or "--"), mean]
        lines.append(" & ".join(head + cells) + " \\\\")
    return "\n".join(lines) + "\n"


def _csv(ranked: GridRanking) -> bytes:
    """A line a model and cell."""
    first, second = ranked.grid.output.axes
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", first.name, second.name, "value", "low", "high", "images"])
    for built, grid in zip(ranked.rows, ranked.numbers, strict=True):
        for i, label in enumerate(first.labels):
            for j, position in enumerate(second.labels):
                cell = (part[i, j] for part in (grid.values, grid.low, grid.high))
                numbers = ["" if not np.isfinite(v) else repr(float(v)) for v in cell]
                writer.writerow([built.slug, label, position, *numbers, grid.samples])
    return buffer.getvalue().encode()


def _json(view: BoardView, ranked: GridRanking) -> bytes:
    """Everything the page ranks by, None where a cell is missing."""
    output = ranked.grid.output
    value = {
        "board": view.board.slug,
        "output": ranked.grid.key.output,
        "parameters": json.loads(ranked.grid.key.parameters),
        "title": ranked.grid.title,
        "unit": output.unit,
        "direction": output.direction,
        "axes": [asdict(axis) for axis in output.axes],
        "sections": [
            {"position": section.label, "models": [_place_json(ranked, place) for place in section.places]}
            for section in ranked.sections
        ],
        "not_ranked": [{"model": built.slug, "reason": reason} for built, reason in ranked.apart],
    }
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def _place_json(ranked: GridRanking, place: Place) -> dict[str, Any]:
    return {
        "model": ranked.rows[place.index].slug,
        "rank": place.rank,
        "rank_interval": [place.best, place.last] if place.best is not None else None,
        "mean": asdict(place.mean) if place.mean else None,
        "behind_the_first": asdict(place.behind) if place.behind else None,
        "worst": place.worst,
        "missing": list(place.missing),
        "cells": [None if math.isnan(v) else float(v) for v in place.cells],
    }


def _script(page: GridPage) -> bytes:
    """What scripts need to compare any two models: cells, means, and the means' paired resamples in 16 bits."""
    ranked, kept = page.ranked, over(page.ranked.grid.output)
    sections = []
    for table in page.tables:
        shown = {}
        for row in table.rows:
            place, grid = row.place, ranked.numbers[row.place.index]
            drawn = ""
            if grid.drawn is not None and place.mean is not None:
                cells = grid.drawn[np.ix_(kept, table.section.at)]
                share = cells.sum(axis=(0, 1), dtype=np.int64) / (grid.samples * cells.shape[0] * cells.shape[1])
                drawn = words16(np.rint(share * _WHOLE16))
            values = [None if math.isnan(v) else round(float(v), 6) for v in place.cells]
            shown[row.built.slug] = {
                "mean": place.mean.value if place.mean else None, "cells": values, "drawn": drawn,
            }  # fmt: skip
        sections.append({"anchor": table.section.anchor, "models": shown})
    share = ranked.grid.output.unit == "share"
    n = ranked.numbers[0].samples if ranked.numbers else 0
    along = [0.0, *fractions(ranked.grid.output.axes[1])] if page.chart else []
    return push(
        "grid",
        {"share": share, "direction": ranked.grid.output.direction, "n": n, "sections": sections, "along": along},
    )


PAGE = Page("grids", _make)
