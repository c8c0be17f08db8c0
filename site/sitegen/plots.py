"""Charts, drawn once as responsive HTML (for pages) and once as a stand-alone SVG (for papers and downloads).

In a page the curves are an SVG stretched to the width it is given, with lines that keep their width, and everything
that is text is HTML laid over it: so a chart is as legible on a phone as on a wall, follows the page's light or dark
colours, and is whole without JavaScript. The stand-alone SVG has its own size, fonts and colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup, escape

from benchmark.curve import Floats
from sitegen.axes import Axis

WIDTH: Final = 2000
HEIGHT: Final = 1000
"""Resolution of the stretched SVG: half a pixel on the widest screens."""

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#000000")
"""Okabe & Ito's colour-blind-safe palette, without its yellow, which cannot be seen on white."""


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
    """The area between two step functions on the same positions."""

    label: str
    x: Floats
    low: Floats
    high: Floats
    style: str = "s0"


@dataclass(frozen=True)
class Point:
    """Single points of one kind."""

    label: str
    points: Sequence[tuple[float, float]]
    style: str = "s0"


@dataclass(frozen=True)
class Mark:
    """A small dot where something happens; the title says what, and is empty where that is not worth its bytes."""

    x: float
    y: float
    title: str = ""


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
        y_ticks: Labelled positions with their labels.
        marks: Published budgets: vertical lines.
        lines: The curves, those in front last.
        areas: Drawn behind the lines.
        points: Drawn on top.
        crossings: Drawn on top of everything.
        css: Further classes of the figure.
    """

    title: str
    description: str
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float] = (0.0, 1.0)
    x_ticks: Sequence[float] = ()
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
    crossings: Sequence[Mark] = ()
    css: str = ""
    legend: bool = True

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
    xs, ys = _pixels(chart, x, y, width, height)
    pieces: list[str] = []
    px = py = 0
    pen = False
    for cx, cy in zip(xs.tolist(), ys.tolist(), strict=True):
        if math.isnan(cy):
            pen = False
            continue
        ix, iy = round(cx), round(cy)
        if not pen:
            pieces.append(f"M{ix} {iy}")
            pen = True
        elif step:
            if ix != px:
                pieces.append(f"h{ix - px}")
            if iy != py:
                pieces.append(f"v{iy - py}")
        elif ix != px or iy != py:
            pieces.append(f"l{ix - px} {iy - py}")
        px, py = ix, iy
    return "".join(pieces)


def area_path(chart: Chart, area: Area, *, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The ``d`` of the area between two step functions."""
    xs, high = _pixels(chart, area.x, area.high, width, height)
    _, low = _pixels(chart, area.x, area.low, width, height)
    there = [f"H{round(x)}V{round(y)}" for x, y in zip(xs[1:], high[1:], strict=True)]
    back = [f"V{round(y)}H{round(x)}" for x, y in zip(xs[-2::-1], low[-2::-1], strict=True)]
    return f"M{round(xs[0])} {round(high[0])}{''.join(there)}V{round(low[-1])}{''.join(back)}Z"


def _pixels(chart: Chart, x: Floats, y: Floats, width: float, height: float) -> tuple[Floats, Floats]:
    (x0, x1), (y0, y1) = chart.x_range, chart.y_range
    xs = (np.asarray(x, dtype=np.float64) - x0) / (x1 - x0) * width
    ys = (1 - (np.asarray(y, dtype=np.float64) - y0) / (y1 - y0)) * height
    return np.clip(xs, 0, width), np.clip(ys, -0.02 * height, 1.02 * height)


def html(chart: Chart) -> Markup:
    """The chart for a page: a ``div`` to be put into a ``figure``."""
    parts = [
        f'<div class="chart {chart.css}">',
        f'<div class="ylabel">{escape(chart.y_label)}</div>',
        '<div class="plot">',
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(chart.title)}. {escape(chart.description)}">',
        f'<path class="grid" d="{_grid(chart)}"/>',
    ]
    if chart.marks:
        marks = "".join(f"M{round(chart.fx(m) * WIDTH)} 0V{HEIGHT}" for m in chart.marks)
        parts.append(f'<path class="marks" d="{marks}"/>')
    parts += [f'<path class="area {a.style}" d="{area_path(chart, a)}"/>' for a in chart.areas]
    for line in chart.lines:
        key = f' data-k="{escape(line.key)}"' if line.key else ""
        parts.append(f'<path class="line {line.style}"{key} d="{path(chart, line.x, line.y, step=line.step)}"/>')
    for point in chart.points:
        dots = "".join(f"M{round(chart.fx(x) * WIDTH)} {round(chart.fy(y) * HEIGHT)}h0" for x, y in point.points)
        parts.append(f'<path class="dot {point.style}" d="{dots}"/>')
    parts += _crossings(chart)
    parts.append("</svg>")
    parts += [f'<span class="xt" style="left:{_percent(chart.fx(x))}">{x:g}</span>' for x in chart.x_ticks]
    parts += [
        f'<span class="yt" style="top:{_percent(chart.fy(y))}">{escape(text)}</span>' for y, text in chart.y_ticks
    ]
    for line, x, y in _badges(chart):
        where = f"left:{_percent(chart.fx(x))};top:{_percent(chart.fy(y))}"
        parts.append(f'<span class="badge {line.style}" style="{where}" aria-hidden="true">{escape(line.badge)}</span>')
    parts.append(f'</div><div class="xlabel">{escape(chart.x_label)}</div>')
    if chart.legend:
        parts.append(_legend(chart))
    parts.append("</div>")
    return Markup("".join(parts))  # noqa: S704 - every text above went through escape()


def _crossings(chart: Chart) -> Iterable[str]:
    """Those without a title in one path, so that hundreds of them cost little."""
    dots = {
        mark: f"M{round(chart.fx(mark.x) * WIDTH)} {round(chart.fy(mark.y) * HEIGHT)}h0" for mark in chart.crossings
    }
    if silent := "".join(dict.fromkeys(d for mark, d in dots.items() if not mark.title)):
        yield f'<path class="cross" d="{silent}"/>'
    for mark, d in dots.items():
        if mark.title:
            yield f'<path class="cross" d="{d}"><title>{escape(mark.title)}</title></path>'


def _badges(chart: Chart) -> Iterable[tuple[Line, float, float]]:
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


def _grid(chart: Chart) -> str:
    across = "".join(f"M0 {round(chart.fy(y) * HEIGHT)}H{WIDTH}" for y, _ in chart.y_ticks)
    return across + "".join(f"M{round(chart.fx(x) * WIDTH)} {HEIGHT}v12" for x in chart.x_ticks)


def _legend(chart: Chart) -> str:
    items: list[tuple[str, str, Line | Area | Point]] = [
        *(("line", "M0 5H24", line) for line in chart.lines),
        *(("area", "M0 0H24V10H0Z", area) for area in chart.areas),
        *(("dot", "M12 5h0", point) for point in chart.points),
    ]
    entries = [
        f'<li><svg class="swatch" viewBox="0 0 24 10" aria-hidden="true"><path class="{kind} {item.style}" d="{d}"/>'
        f"</svg>{escape(item.label)}</li>"
        for kind, d, item in items
        if item.label
    ]
    return f'<ul class="legend">{"".join(entries)}</ul>' if entries else ""


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


_ONE_FACE: Final = str.maketrans("₁₂", "12")
"""Characters that the figures' typeface lacks: a second face makes PDFs larger, slower and their bytes vary."""
_STROKES: Final = {"dash": "6 4", "dots": "1.5 3.5", "dashdot": "7 3 1.5 3"}


def svg(chart: Chart, *, width: int = 640, height: int = 400) -> str:
    """The chart as a stand-alone SVG with its own fonts, colours and legend, for papers."""
    left, right, top = 58, 14, 30
    everything: list[Line | Area | Point] = [*chart.lines, *chart.areas, *chart.points]
    labelled = [item for item in everything if item.label]
    rows = _legend_rows([item.label for item in labelled], width - left - right)
    bottom = 46 + 16 * len(rows)
    w, h = width - left - right, height - top - 46
    total = height - 46 + bottom
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{width}" height="{total}" '
        'font-family="Liberation Sans, Arial, Helvetica, sans-serif" font-size="11" fill="#222">',
        f"<title>{escape(chart.title)}</title><desc>{escape(chart.description)}</desc>",
        f'<rect width="{width}" height="{total}" fill="#fff"/>',
        f'<text x="{left}" y="18" font-size="14">{escape(chart.title)}</text>',
        f'<g transform="translate({left},{top})">',
    ]
    out += _svg_frame(chart, w, h)
    for area in chart.areas:
        d = area_path(chart, area, width=10 * w, height=10 * h)
        out.append(f'<path d="{d}" transform="scale(.1)" fill="{_tint(area.style)}"/>')
    for line in chart.lines:
        d = path(chart, line.x, line.y, step=line.step, width=10 * w, height=10 * h)
        out.append(f'<path d="{d}" transform="scale(.1)" fill="none" {_stroke(line.style, 10)}/>')
    for point in chart.points:
        for x, y in point.points:
            at = f'cx="{chart.fx(x) * w:.1f}" cy="{chart.fy(y) * h:.1f}"'
            out.append(f'<circle {at} r="3.5" fill="#fff" stroke-width="1.5" stroke="{colour(point.style)}"/>')
    for mark in chart.crossings:
        at = f'cx="{chart.fx(mark.x) * w:.1f}" cy="{chart.fy(mark.y) * h:.1f}"'
        out.append(f'<circle {at} r="1.4" fill="#222"/>')
    for line, at_x, at_y in _badges(chart):
        cx, cy = chart.fx(at_x) * w, chart.fy(at_y) * h
        out.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="7" fill="{colour(line.style)}"/>')
        out.append(
            f'<text x="{cx:.1f}" y="{cy + 3.5:.1f}" text-anchor="middle" font-size="10" '
            f'fill="#fff">{escape(line.badge)}</text>'
        )
    out.append("</g>")
    out += _svg_legend(labelled, rows, left=left, top=height)
    out.append("</svg>\n")
    return "".join(out).translate(_ONE_FACE)


def _svg_frame(chart: Chart, w: int, h: int) -> Iterable[str]:
    for y, text in chart.y_ticks:
        at = chart.fy(y) * h
        yield f'<path d="M0 {at:.1f}H{w}" stroke="#ddd" fill="none"/>'
        yield f'<text x="-8" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>'
    for x in chart.marks:
        at = chart.fx(x) * w
        yield f'<path d="M{at:.1f} 0V{h}" stroke="#999" stroke-dasharray="2 3" fill="none"/>'
    for x in chart.x_ticks:
        at = chart.fx(x) * w
        yield f'<path d="M{at:.1f} {h}v4" stroke="#888" fill="none"/>'
        yield f'<text x="{at:.1f}" y="{h + 17}" text-anchor="middle">{x:g}</text>'
    yield f'<text x="{w / 2:.0f}" y="{h + 35}" text-anchor="middle">{escape(chart.x_label)}</text>'
    turned = f'transform="translate(-44,{h / 2:.0f}) rotate(-90)" text-anchor="middle"'
    yield f"<text {turned}>{escape(chart.y_label)}</text>"


def _legend_rows(labels: Sequence[str], width: float) -> list[list[int]]:
    rows: list[list[int]] = []
    used = width
    for i, label in enumerate(labels):
        need = 40 + 6.2 * len(label)
        if used + need > width:
            rows.append([])
            used = 0.0
        rows[-1].append(i)
        used += need
    return rows


def _svg_legend(
    items: Sequence[Line | Area | Point], rows: Sequence[Sequence[int]], *, left: int, top: int
) -> Iterable[str]:
    for r, row in enumerate(rows):
        x, y = float(left), top + 10 + 16 * r
        for i in row:
            item = items[i]
            if isinstance(item, Line):
                yield f'<path d="M{x:.0f} {y - 4}h24" fill="none" {_stroke(item.style, 1)}/>'
            elif isinstance(item, Area):
                yield f'<path d="M{x:.0f} {y - 9}h24v10h-24z" fill="{_tint(item.style)}"/>'
            else:
                yield f'<circle cx="{x + 12:.0f}" cy="{y - 4}" r="3.5" fill="#fff" stroke="{colour(item.style)}"/>'
            badge = f"{item.badge}  " if isinstance(item, Line) and item.badge else ""
            yield f'<text x="{x + 30:.0f}" y="{y}">{escape(badge + item.label)}</text>'
            x += 40 + 6.2 * len(item.label)


def colour(style: str) -> str:
    """The printed colour of a series' CSS classes."""
    if "faint" in style.split():
        return "#bbbbbb"
    series = next((c for c in style.split() if c[0] == "s" and c[1:].isdigit()), "s7")
    return COLOURS[int(series[1:]) % len(COLOURS)]


def _tint(style: str) -> str:
    """The series' colour at 15 % on white, opaque: PDFs without transparency are the same bytes each time."""
    channels = (int(colour(style)[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.15 * (255 - channel)):02x}" for channel in channels)


def _stroke(style: str, scale: int) -> str:
    names = style.split()
    width = 0.8 if "faint" in names else 2.4 if "thick" in names else 1.7
    pattern = next((_STROKES[name] for name in names if name in _STROKES), None)
    dashes = ""
    if pattern is not None:
        dashes = ' stroke-dasharray="' + " ".join(f"{float(d) * scale:g}" for d in pattern.split()) + '"'
    return f'stroke="{colour(style)}" stroke-width="{width * scale:g}"{dashes}'
