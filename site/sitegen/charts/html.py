"""Charts in pages: an SVG stretched to the width it is given, with everything that is text laid over it as HTML.

So a chart is as legible on a phone as on a wall, follows the page's light or dark colours, and is whole without
JavaScript.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from markupsafe import Markup, escape

from sitegen.charts.base import HEIGHT, WIDTH, Area, Chart, Line, Point, area_path, badges, path


def html(chart: Chart, *, scripted: bool = False) -> Markup:
    """The chart for a page: a ``div`` to be put into a ``figure``.

    Args:
        chart: The chart.
        scripted: Whether scripts draw what the backdrop shows, so that it is left out.
    """
    behind = "" if scripted else f'<img class="backdrop" src="{escape(chart.backdrop)}" alt="">'
    parts = [
        f'<div class="chart {chart.css}">',
        f'<div class="ylabel">{escape(chart.y_label)}</div>',
        '<div class="plot">',
        f'<div class="window">{behind}</div>' if chart.backdrop else "",
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
        key += f' id="{escape(chart.ids + line.key)}"' if chart.ids and line.key else ""
        parts.append(f'<path class="line {line.style}"{key} d="{path(chart, line.x, line.y, step=line.step)}"/>')
    for point in chart.points:
        dots = "".join(f"M{round(chart.fx(x) * WIDTH)} {round(chart.fy(y) * HEIGHT)}h0" for x, y in point.points)
        parts.append(f'<path class="dot {point.style}" d="{dots}"/>')
    parts += _crossings(chart)
    parts.append("</svg>")
    parts += [
        f'<span class="xt" style="left:{_percent(chart.fx(x))}">{escape(text)}</span>' for x, text in chart.x_labels
    ]
    parts += [
        f'<span class="yt" style="top:{_percent(chart.fy(y))}">{escape(text)}</span>' for y, text in chart.y_ticks
    ]
    for lettered, x, y in badges(chart):
        where = f"left:{_percent(chart.fx(x))};top:{_percent(chart.fy(y))}"
        key = f' data-k="{escape(lettered.key)}"' if lettered.key else ""
        css = f"badge {lettered.style}" + (" edge" if isinstance(lettered, Line) and x == chart.x_range[0] else "")
        parts.append(f'<span class="{css}"{key} style="{where}" aria-hidden="true">{escape(lettered.badge)}</span>')
    parts.append(f'</div><div class="xlabel">{escape(chart.x_label)}</div>')
    if chart.legend:
        parts.append(_legend(chart))
    parts.append("</div>")
    return Markup("".join(parts))  # noqa: S704 - every text above went through escape()


def panel(chart: Chart, line: Line) -> Markup:
    """A small chart of one of a chart's lines, the others pale behind it; it shows the chart's own paths again."""
    texts = {0, len(chart.x_labels) - 1}
    title = f"{line.label}. {chart.x_label}"
    parts = [
        '<div class="chart board small"><div class="plot">',
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(title)}">',
        f'<path class="grid" d="{_grid(chart)}"/>',
    ]
    for other in (*(o for o in chart.lines if o is not line), line):
        css = "" if other is line else ' class="pale"'
        parts.append(f'<use{css} href="#{escape(chart.ids + other.key)}"/>')
    parts.append("</svg>")
    parts += [
        f'<span class="xt" style="left:{_percent(chart.fx(x))}">{escape(text)}</span>'
        for k, (x, text) in enumerate(chart.x_labels)
        if k in texts
    ]
    parts += [
        f'<span class="yt" style="top:{_percent(chart.fy(y))}">{escape(text)}</span>' for y, text in chart.y_ticks[::2]
    ]
    parts.append("</div></div>")
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
            of = f' data-of="{escape(" ".join(mark.keys))}"' if mark.keys else ""
            yield f'<path class="cross"{of} d="{d}"><title>{escape(mark.title)}</title></path>'


def _grid(chart: Chart) -> str:
    across = "".join(f"M0 {round(chart.fy(y) * HEIGHT)}H{WIDTH}" for y, _ in chart.y_ticks)
    return across + "".join(f"M{round(chart.fx(x) * WIDTH)} {HEIGHT}v12" for x in chart.x_ticks)


def _legend(chart: Chart) -> str:
    items: list[tuple[str, str, Line | Area | Point]] = [
        *(("line", "M0 5H24", line) for line in sorted(chart.lines, key=lambda line: line.badge)),
        *(("area", "M0 0H24V10H0Z", area) for area in chart.areas),
        *(("dot", "M12 5h0", point) for point in chart.points),
    ]
    entries = [
        f"<li{_key(item)}>{_swatch(kind, d, item)}{escape(item.label)}</li>" for kind, d, item in items if item.label
    ]
    if chart.context:
        others = Line("", np.empty(0), np.empty(0), "faint")
        entries.append(f'<li data-k="*">{_swatch("line", "M0 5H24", others)}{escape(chart.context)}</li>')
    return f'<ul class="legend">{"".join(entries)}</ul>' if entries else ""


def _key(item: Line | Area | Point) -> str:
    return f' data-k="{escape(item.key)}"' if isinstance(item, Line) and item.key else ""


def _swatch(kind: str, d: str, item: Line | Area | Point) -> str:
    """How a series looks: its letter, where it has one."""
    if isinstance(item, Line) and item.badge:
        return f'<span class="badge {item.style}" aria-hidden="true">{escape(item.badge)}</span>'
    return (
        f'<svg class="swatch" viewBox="0 0 24 10" aria-hidden="true"><path class="{kind} {item.style}" d="{d}"/></svg>'
    )


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
