"""The charts of a model's page: the curve between its bounds, single samples, single classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats, RobustnessCurve, proportion_interval
from db.queries import DatasetInfo
from sitegen import words
from sitegen.axes import nice
from sitegen.facts import NormFacts
from sitegen.plots import Area, Chart, Line, Point, eps_chart

Triple = tuple[float, float, float]
"""A share with the ends of its 95 % interval."""

POINTS: Final = 160
"""Steps of a curve that are drawn."""

COARSE: Final = 40
"""Steps of a curve in a small chart."""

MULTIPLES: Final = 12
"""Classes that get a curve of their own."""

SAMPLES: Final = 240
"""Samples in the chart of single samples."""


@dataclass(frozen=True)
class ClassFigure:
    """One class of a dataset in one norm."""

    name: str
    samples: int
    accuracy: float
    median: float
    chart: Chart


def triple(count: float, n: int) -> Triple:
    """``count`` of ``n`` as a share with its Clopper–Pearson interval (95 %)."""
    low, high = proportion_interval(count, n)
    return count / n, float(low), float(high)


def _drawn(curve: RobustnessCurve, facts: NormFacts, *, points: int = POINTS) -> tuple[Floats, Floats]:
    """Positions and robust accuracies of a curve, thinned for drawing without moving a published point."""
    steps = curve.thin(points, keep=facts.axis.published)
    inside = steps.eps <= facts.axis.maximum
    x, y = steps.eps[inside], steps.robust_accuracy[inside]
    return np.append(x, facts.axis.maximum), np.append(y, y[-1])


def curve_chart(title: str, facts: NormFacts) -> Chart:
    """The curve between its bounds: certificate, CLEVER, exact, attacks, with the confidence band."""
    axis, n = facts.axis, len(facts.curve)
    x, y = _drawn(facts.curve, facts)
    band = facts.curve.band(eps=x)
    areas = [Area("95 % confidence band of the sampling", x, band.low, band.high, "s0")]
    lines: list[Line] = []
    if facts.certificate is not None:
        radii = RobustnessCurve(np.nan_to_num(facts.certificate, nan=0.0), "linf")
        lines.append(Line("certified: at least so robust", *_drawn(radii, facts), style="s2 dash"))
    if facts.clever is not None and (kept := facts.clever[np.isfinite(facts.clever)]).size:
        scores = RobustnessCurve(np.maximum(kept, 0), "linf")
        some = "" if kept.size == n else f", {kept.size} samples"
        lines.append(Line(f"CLEVER: an estimate{some}", *_drawn(scores, facts), style="s1 dots"))
    if facts.exact is not None and (measured := facts.exact.upper[np.isfinite(facts.exact.upper)]).size:
        exact = RobustnessCurve(measured, "linf")
        some = "" if measured.size == n else f", on {measured.size} samples"
        lines.append(Line(f"exact distances{some}", *_drawn(exact, facts), style="s3 dashdot"))
    lines.append(Line("attacked: at most so robust", x, y, style="s0 thick"))
    points = [Point("AutoAttack", facts.points, "s7")] if facts.points else []
    said = ", ".join(f"{words.percent(facts.curve.robust_accuracy(eps))} % at ε = {eps:g}" for eps in axis.published)
    return replace(
        eps_chart(axis),
        title=f"{title} in {axis.symbol}",
        description=f"Robust accuracy falls from {words.percent(facts.curve.clean_accuracy)} % at ε = 0 to {said}.",
        lines=lines,
        areas=areas,
        points=points,
    )


def curve_table(facts: NormFacts) -> list[list[str]]:
    """The curve as a table, at the ticks and the published budgets."""
    positions = sorted({*facts.axis.ticks, *facts.axis.published})
    rows = [["ε", "robust accuracy %", "95 % interval", "certified %"]]
    for eps in positions:
        found = facts.curve.interval(eps)
        share = facts.curve.robust_accuracy(eps)
        ends = f"{words.percent(found.low)}–{words.percent(found.high)}"
        rows.append([f"{eps:g}", words.percent(share), ends, words.percent(facts.certified(eps))])
    return rows


def sample_chart(facts: NormFacts) -> Chart | None:
    """Certificate, CLEVER, exact and attack of the same samples on one axis, ordered by the attacks' distance."""
    distances = facts.curve.distances
    known = np.flatnonzero(distances > 0)
    if not len(known):
        return None
    order = known[np.argsort(distances[known], kind="stable")]
    order = order[np.unique(np.linspace(0, len(order) - 1, min(SAMPLES, len(order))).astype(int))]
    kinds = [
        ("certificate", facts.certificate, "s2 square"),
        ("CLEVER", facts.clever, "s1"),
        ("exact", facts.exact.upper if facts.exact else None, "s3 big"),
    ]
    shown = [(label, values[order], style) for label, values, style in kinds if values is not None]
    everything = np.concatenate([distances[order], *(values for _, values, _ in shown)])
    top = min(
        facts.axis.maximum, 1.05 * float(everything[np.isfinite(everything)].max(initial=facts.axis.published[0]))
    )
    xs = (np.arange(len(order)) + 0.5) / len(order)
    points = [
        [(float(x), float(min(v, top))) for x, v in zip(xs, values, strict=True) if np.isfinite(v)]
        for _, values, _ in shown
    ]
    step = nice(top / 5)
    return Chart(
        title="Sample by sample",
        description="For each sample: certificate below, attack above, CLEVER between or across them.",
        x_label="samples, ordered by the distance of their nearest adversarial example",
        y_label="distance",
        x_range=(0.0, 1.0),
        y_range=(0.0, top),
        y_ticks=[(round(k * step, 10), f"{round(k * step, 10):g}") for k in range(int(top / step) + 1)],
        lines=[Line("attack (verified)", xs, np.minimum(distances[order], top), style="s0 thick", step=False)],
        points=[Point(label, found, style) for (label, _, style), found in zip(shown, points, strict=True) if found],
    )


def class_figures(facts: NormFacts, labels: NDArray[np.int64], dataset: DatasetInfo) -> list[ClassFigure]:
    """Each class with its curve over that of all samples, the weakest at the reference budget first."""
    names = dataset.card.get("classes") or []
    eps = facts.axis.published[0]
    everyone = Line("", *_drawn(facts.curve, facts, points=COARSE), style="faint")
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
            lines=[everyone, Line("", *_drawn(own, facts, points=COARSE), style="s0 thick")],
            css="small",
        )
        found.append(ClassFigure(name, len(own), own.robust_accuracy(eps), own.median, chart))
    found.sort(key=lambda c: (c.accuracy, c.median, c.name))
    return found[:MULTIPLES]
