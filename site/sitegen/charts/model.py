"""The charts of a model's page: the curve between its bounds, single samples, single classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import RobustnessCurve, proportion_interval
from db.queries import DatasetInfo
from sitegen import words
from sitegen.axes import nice
from sitegen.charts.base import Area, Chart, Line, Point, eps_chart
from sitegen.charts.steps import drawn
from sitegen.facts import ThreatFacts
from sitegen.panels import panel_of
from sitegen.records import Share

COARSE: Final = 40
"""Steps of a curve in a small chart."""

MULTIPLES: Final = 12
"""Classes that get a curve of their own."""

SAMPLES: Final = 240
"""Samples in the chart of single samples."""


@dataclass(frozen=True)
class ClassFigure:
    """One class of a dataset under one threat."""

    name: str
    samples: int
    accuracy: float
    median: float
    chart: Chart


def share_of(count: float, n: int) -> Share:
    """``count`` of ``n`` as a share with its Clopper–Pearson interval (95 %)."""
    low, high = proportion_interval(count, n)
    return Share(count / n, float(low), float(high))


def curve_chart(title: str, facts: ThreatFacts) -> Chart:
    """The curve between its bounds, with the confidence band, and whatever else speaks of its threat."""
    axis = facts.axis
    x, y = drawn(facts.curve.distances, axis)
    band = facts.curve.band(eps=x)
    areas = [Area("95 % confidence band of the sampling", x, band.low, band.high, "s0")]
    lines: list[Line] = []
    points: list[Point] = []
    for found in facts.beside:
        if (panel := panel_of(found)) is not None:
            more_lines, more_points = panel.on_curve(found, facts)
            lines += more_lines
            points += more_points
    if facts.lower is not None and not any(found.output.kind == "lower" for found in facts.beside):
        lines.append(Line("proven: at least so robust", *drawn(facts.lower, axis), "s2 dash"))
    lines.append(Line("attacked: at most so robust", x, y, style="s0 thick"))
    said = ", ".join(f"{words.percent(facts.curve.robust_accuracy(eps))} % at ε = {eps:g}" for eps in axis.published)
    return replace(
        eps_chart(axis),
        title=f"{title} in {axis.symbol}",
        description=f"Robust accuracy falls from {words.percent(facts.curve.clean_accuracy)} % at ε = 0 to {said}.",
        lines=lines,
        areas=areas,
        points=_joined(points),
    )


def _joined(points: Sequence[Point]) -> list[Point]:
    """Points of one name and style as one kind, so that the legend names them once."""
    kinds: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for point in points:
        kinds.setdefault((point.label, point.style), []).extend(point.points)
    return [Point(label, places, style) for (label, style), places in kinds.items()]


def curve_table(facts: ThreatFacts) -> list[list[str]]:
    """The curve as a table, at the ticks and the published budgets."""
    positions = sorted({*facts.axis.ticks, *facts.axis.published})
    rows = [["ε", "robust accuracy %", "95 % interval", "certified %"]]
    for eps in positions:
        found = facts.curve.interval(eps)
        share = facts.curve.robust_accuracy(eps)
        ends = f"{words.percent(found.low)}–{words.percent(found.high)}"
        rows.append([f"{eps:g}", words.percent(share), ends, words.percent(facts.certified(eps))])
    return rows


def sample_chart(facts: ThreatFacts) -> Chart | None:
    """Certificate, CLEVER, exact and attack of the same samples on one axis, ordered by the attacks' distance."""
    distances = facts.curve.distances
    known = np.flatnonzero(distances > 0)
    if not len(known):
        return None
    order = known[np.argsort(distances[known], kind="stable")]
    order = order[np.unique(np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).astype(int))]
    marks = ("s2 square", "s1", "s3 big", "s4", "s6")
    of_samples = [found for found in facts.beside if found.output.kind in {"lower", "estimate"}]
    shown = [(found.output.title, found.values[order], marks[k % len(marks)]) for k, found in enumerate(of_samples)]
    everything = np.concatenate([distances[order], *(values for _, values, _ in shown)])
    top = min(
        facts.axis.maximum, 1.05 * float(everything[np.isfinite(everything)].max(initial=facts.axis.published[0]))
    )
    xs = (np.arange(len(order)) + 0.5) / len(order)
    points = [
        [(float(x), float(min(v, top))) for x, v in zip(xs, values, strict=True) if np.isfinite(v)]
        for _, values, _ in shown
    ]
    step = nice(top / 5, whole=facts.axis.whole)
    return Chart(
        title="Sample by sample",
        description="For each sample: proven bounds below, the attack's distance above, estimates anywhere.",
        x_label="samples, ordered by the distance of their nearest adversarial example",
        y_label="distance",
        x_range=(0.0, 1.0),
        y_range=(0.0, top),
        y_ticks=[(round(k * step, 10), f"{round(k * step, 10):g}") for k in range(int(top / step) + 1)],
        lines=[Line("attack (verified)", xs, np.minimum(distances[order], top), style="s0 thick", step=False)],
        points=[Point(label, found, style) for (label, _, style), found in zip(shown, points, strict=True) if found],
    )


def class_figures(facts: ThreatFacts, labels: NDArray[np.int64], dataset: DatasetInfo) -> list[ClassFigure]:
    """Each class with its curve over that of all samples, the weakest at the reference budget first."""
    names = dataset.card.get("classes") or []
    eps = facts.axis.published[0]
    everyone = Line("", *drawn(facts.curve.distances, facts.axis, points=COARSE), style="faint")
    found = []
    for label in map(int, np.unique(labels)):
        own = RobustnessCurve(facts.curve.distances[labels == label], "linf")
        name = str(names[label]) if label < len(names) else str(label)
        chart = replace(
            eps_chart(facts.axis),
            title=f"Class {name}",
            description=f"{words.percent(own.robust_accuracy(eps))} % robust at ε = {eps:g}.",
            x_ticks=(0.0, facts.axis.published[-1]),
            y_ticks=((0, "0"), (1, "100 %")),
            marks=(eps,),
            lines=[everyone, Line("", *drawn(own.distances, facts.axis, points=COARSE), style="s0 thick")],
            css="small",
        )
        found.append(ClassFigure(name, len(own), own.robust_accuracy(eps), own.median, chart))
    found.sort(key=lambda c: (c.accuracy, c.median, c.name))
    return found[:MULTIPLES]
