"""The compare page of each board: chosen by script; without one, the highlighted models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from benchmark.curve import Floats
from benchmark.differences import paired_difference
from db import queries
from sitegen.axes import Axis
from sitegen.board_view import BoardView
from sitegen.charts.badges import letter_places
from sitegen.charts.base import Area, Chart, Line, Mark, eps_chart
from sitegen.charts.html import panel
from sitegen.columns import Column, columns
from sitegen.crossings import CrossingLine, crossing_lines
from sitegen.grid_view import SharedGrid
from sitegen.pages import Page, Site
from sitegen.pages.datasets import dataset_page_name
from sitegen.pairs import Pair, pairs
from sitegen.render import Frame, render
from sitegen.rows import BuiltRow
from sitegen.scripts_data import push
from sitegen.sheets import COLUMNS, PER_SHEET, shown_images
from sitegen.words import number, percent

MOST: Final = 4
"""Models that are compared where there is no script."""
SIDE: Final = 64
"""Pixels that a picture's larger side has about, on the page."""
REACHES: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Where the axis of a difference may end: ends whose halves are round."""


@dataclass(frozen=True)
class Comparison:
    """The chosen models under one threat."""

    axis: Axis
    chosen: Sequence[BuiltRow]
    figures: Sequence[Sequence[str]]
    curves: Chart
    difference: Chart
    crossings: Sequence[CrossingLine]
    pairs: Sequence[Pair]
    panels: Sequence[tuple[Line, Markup]]
    sheets: Sequence[str]


@dataclass(frozen=True)
class Tiles:
    """Where the pictures of a dataset's samples are.

    Attributes:
        folder: Of the dataset's sheets, from the board's folder.
        shown: How many samples have a picture.
        width: Of an image in pixels.
        height: Of an image in pixels.
        scale: By how much it is enlarged.
        columns: Images in a row of a sheet.
        per: Images of a sheet of clean images.
    """

    folder: str
    shown: int
    width: int
    height: int
    scale: int
    columns: int = COLUMNS
    per: int = PER_SHEET

    def style(self, file: str, place: int, count: int) -> str:
        """How a page shows the picture at a place of a sheet of ``count`` pictures."""
        w, h = self.width * self.scale, self.height * self.scale
        x, y = place % self.columns * w, place // self.columns * h
        wide = min(count, self.columns) * w
        return f"width:{w}px;height:{h}px;background:url({file}) -{x}px -{y}px/{wide}px auto"

    def clean(self, sample: int) -> str:
        """The style of a sample's clean image; empty if it has no picture."""
        if sample >= self.shown:
            return ""
        number, place = divmod(sample, self.per)
        return self.style(f"{self.folder}/sheet-{number}.png", place, min(self.per, self.shown - number * self.per))


def _make(site: Site) -> dict[str, bytes]:
    """The compare page of each board, and its script that says where the pictures are."""
    pages: dict[str, bytes] = {}
    for view in site.views:
        images = queries.dataset_array(site.session, view.board.dataset.id, "images")
        tiles = None if images is None or len(images) < view.board.n else _tiles(view, site.views, images)
        grids = [] if view.axes else [ranked.grid for ranked in site.grids[view.board.slug]]
        pages[f"{view.folder}/compare.html"] = _page(view, tiles, grids, site.as_of)
        pages[f"{view.folder}/tiles.js"] = push("tiles", tiles and asdict(tiles))
    return pages


def _tiles(view: BoardView, views: Sequence[BoardView], images: NDArray[np.uint8]) -> Tiles:
    height, width = images.shape[2:]
    return Tiles(
        folder=f"../../datasets/{dataset_page_name(view.board.dataset, views)}",
        shown=shown_images(images),
        width=width,
        height=height,
        scale=max(1, round(SIDE / max(height, width))),
    )


def _page(view: BoardView, tiles: Tiles | None, grids: Sequence[SharedGrid], as_of: datetime | None) -> bytes:
    by_slug = {built.slug: built for built in view.rows}
    chosen = [by_slug[slug] for slug in view.highlighted[:MOST]]
    scripts = (
        "charts.js",
        "intervals.js",
        "chart-zoom.js",
        "chart-picture.js",
        "crossings.js",
        "compare-pairs.js",
        "compare-curves.js",
        "compare.js",
    )
    frame = Frame(
        title=f"Compare, {view.title}",
        description=f"Two to six models of {view.title} over each other: curves, differences, crossings, samples.",
        root="../../",
        section="Boards",
        crumbs=(("Boards", "../index.html"), (view.title, "index.html")),
        scripts=(*(f"../../static/{name}" for name in scripts), "models.js", "tiles.js") if view.axes else (),
        as_of=as_of,
        wide=True,
    )
    shown = columns(view)
    found = [_comparison(view, threat, chosen, shown) for threat in view.axes] if len(chosen) > 1 else []
    comparisons = [comparison for comparison in found if comparison is not None]
    context = {"view": view, "chosen": chosen, "comparisons": comparisons, "tiles": tiles}
    return render("compare.html", frame, **context, grids=grids)


def _comparison(
    view: BoardView, threat: str, everyone: Sequence[BuiltRow], shown: Sequence[Column]
) -> Comparison | None:
    axis, n = view.axes[threat], view.board.n
    chosen = [built for built in everyone if threat in built.numbers]
    if len(chosen) < 2:
        return None
    first, second = chosen[:2]
    counts = np.stack([built.numbers[threat].counts for built in chosen])
    places = letter_places(counts, n, axis.grid)
    lines = []
    for built, own, place in zip(chosen, counts, places, strict=True):
        letter, style = view.letter(built.slug), f"{view.style(built.slug)} thick"
        at = (float(axis.grid[place]),)
        lines.append(Line(built.title, axis.grid, own / n, style, badge=letter, badge_at=at, key=built.slug))
    crossings = crossing_lines(chosen, axis)
    curves = replace(
        eps_chart(axis),
        title=f"Curves in {axis.symbol}",
        description=f"Robust accuracy of {len(chosen)} models against ε.",
        lines=lines,
        crossings=[_mark(x, threat, n) for x in crossings],
        css="board",
        ids=f"{threat}-",
    )
    a, b = first.distances(threat), second.distances(threat)
    return Comparison(
        axis=axis,
        chosen=chosen,
        figures=_figures(view, axis, chosen, shown),
        curves=curves,
        difference=difference_chart(first.title, second.title, a, b, axis),
        crossings=crossings,
        pairs=pairs(chosen, axis),
        panels=[(line, panel(curves, line)) for line in lines],
        sheets=[b.slug for b in chosen if threat in b.files.sheets],
    )


def _mark(x: CrossingLine, threat: str, n: int) -> Mark:
    share = int(x.ahead.numbers[threat].counts[x.crossing.position]) / n
    return Mark(x.eps, share, f"{x.ahead.title} overtakes {x.behind.title} at ε = {number(x.eps)}")


def _figures(view: BoardView, axis: Axis, chosen: Sequence[BuiltRow], shown: Sequence[Column]) -> list[list[str]]:
    """The models' figures as a table: robust accuracy at the marked budgets, area, median, declared outputs."""
    own = [column for column in shown if column.shown_under(axis.threat)]
    budgets = [f"ε {number(eps)} %" for eps in axis.published]
    table = [["model", *budgets, "area", "median", *(column.title for column in own)]]
    for built in chosen:
        figures = built.record.threats[axis.threat]
        shares = [
            f"{percent(p.accuracy.value)} ({percent(p.accuracy.low)}–{percent(p.accuracy.high)})"
            for p in figures.published
        ]
        cells = [column.cell(built, axis.threat).text for column in own]
        table.append([built.title, *shares, number(figures.area.value), number(figures.median), *cells])
    return table


def difference_chart(first: str, second: str, a: Floats, b: Floats, axis: Axis) -> Chart:
    """How much more robust the first of two models is, with its band."""
    eps = axis.grid
    gap, low, high = paired_difference(a, b, eps)
    largest = float(np.maximum(-low, high).max(initial=0))
    reach = next((step for step in REACHES if step >= largest), 1.0)
    tick = reach / 2
    return replace(
        eps_chart(axis),
        title=f"{first} minus {second}",
        description=f"Difference of robust accuracies in {axis.symbol}; above zero the first is more robust.",
        y_label="difference in points",
        y_range=(-reach, reach),
        y_ticks=[(k * tick, f"{100 * k * tick:+.3g}".replace("-", "−") if k else "0") for k in range(-2, 3)],
        areas=[Area("95 % interval, point by point, paired", eps, low, high, "s6")],
        lines=[Line("", eps, gap, "s7 thick")],
        css="board",
    )


PAGE = Page("compare", _make)
