"""Charts as stand-alone SVGs with their own size, fonts, colours and legend, for papers and downloads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from markupsafe import escape

from sitegen.charts.base import Area, Chart, Line, Point, area_path, badges, path

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#000000")
"""Okabe & Ito's colour-blind-safe palette, without its yellow, which cannot be seen on white."""

_ONE_FACE: Final = str.maketrans("₁₂", "12")
"""Characters that the figures' typeface lacks: a second face makes PDFs larger, slower and their bytes vary."""
_STROKES: Final = {"dash": "6 4", "dots": "1.5 3.5", "dashdot": "7 3 1.5 3"}


def svg(chart: Chart, *, width: int = 640, height: int = 400) -> str:
    """The chart as a stand-alone SVG with its own fonts, colours and legend, for papers."""
    left, right, top = 58, 14, 30 if chart.title else 10
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
        f'<text x="{left}" y="18" font-size="14">{escape(chart.title)}</text>' if chart.title else "",
        f'<g transform="translate({left},{top})">',
    ]
    out += _svg_frame(chart, w, h)
    for area in chart.areas:
        d = area_path(chart, area, width=10 * w, height=10 * h)
        out.append(f'<path d="{d}" transform="scale(.1)" fill="{_tint(area.style)}"{_seen_through(chart)}/>')
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
    for lettered, at_x, at_y in badges(chart):
        before = isinstance(lettered, Line) and at_x == chart.x_range[0]
        cx, cy = chart.fx(at_x) * w - (9 if before else 0), chart.fy(at_y) * h
        out.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="7" fill="{colour(lettered.style)}"/>')
        out.append(
            f'<text x="{cx:.1f}" y="{cy + 3.5:.1f}" text-anchor="middle" font-size="10" '
            f'fill="#fff">{escape(lettered.badge)}</text>'
        )
    out.append("</g>")
    out += _svg_legend(labelled, rows, left=left, top=height)
    out.append("</svg>\n")
    return "".join(out).translate(_ONE_FACE)


def _svg_frame(chart: Chart, w: int, h: int) -> Iterable[str]:
    beside = (
        -20 if any(isinstance(of, Line) and x == chart.x_range[0] for of, x, _ in badges(chart)) else -8
    )  # letters stand before the axis
    for y, text in chart.y_ticks:
        at = chart.fy(y) * h
        yield f'<path d="M0 {at:.1f}H{w}" stroke="#ddd" fill="none"/>'
        yield f'<text x="{beside}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>'
    for x in chart.marks:
        at = chart.fx(x) * w
        yield f'<path d="M{at:.1f} 0V{h}" stroke="#999" stroke-dasharray="2 3" fill="none"/>'
    for x, text in chart.x_labels:
        at = chart.fx(x) * w
        yield f'<path d="M{at:.1f} {h}v4" stroke="#888" fill="none"/>'
        yield f'<text x="{at:.1f}" y="{h + 17}" text-anchor="middle">{escape(text)}</text>'
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


def _seen_through(chart: Chart) -> str:
    """Areas of several curves lie over each other."""
    return ' style="mix-blend-mode:multiply"' if len(chart.areas) > 1 else ""


def _stroke(style: str, scale: int) -> str:
    names = style.split()
    width = 0.8 if "faint" in names else 2.4 if "thick" in names else 1.7
    pattern = next((_STROKES[name] for name in names if name in _STROKES), None)
    dashes = ""
    if pattern is not None:
        dashes = ' stroke-dasharray="' + " ".join(f"{float(d) * scale:g}" for d in pattern.split()) + '"'
    return f'stroke="{colour(style)}" stroke-width="{width * scale:g}"{dashes}'
