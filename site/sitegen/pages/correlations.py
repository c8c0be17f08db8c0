"""Which figure of the models tells another: Kendall's τ between all numbers of a board, on a page of its own."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.correlation import FEWEST, TELLING, Correlation, conditional, grouped, kendall, pearson, spearman
from benchmark.results import Output
from sitegen.board_view import BoardView
from sitegen.findings import outputs_of
from sitegen.pages import Page, Site
from sitegen.render import Frame, render
from sitegen.threats import UNION, symbol, titled
from sitegen.words import number

Floats = NDArray[np.float64]

MOST: Final = 60
"""Figures that the matrix shows at most."""
RESAMPLES: Final = 300
OWN: Final = ("robust@", "area@")
"""How the names of the figures begin that are the board's own."""


@dataclass(frozen=True, eq=False)
class Figure:
    """One number of every model.

    Attributes:
        name: ``measure.output`` or ``measure.output@threat``; of the curves ``robust@threat`` and ``area@threat``.
        title: For people.
        help: One sentence.
        threat: The threat it speaks of; empty if of none.
        values: One a model, NaN where it has none, shape (m,).
    """

    name: str
    title: str
    help: str
    threat: str
    values: Floats


@dataclass(frozen=True)
class Tau:
    """A cell: τ with its interval.

    Attributes:
        text: τ, or ``–``.
        interval: Its ends, or empty.
        tint: Class of its colour: ``p3`` to ``p0`` for positive, ``n0`` to ``n3`` for negative; empty where the
            interval holds 0.
        title: Both figures and the number of models, in words.
    """

    text: str
    interval: str
    tint: str
    title: str


@dataclass(frozen=True)
class Line:
    """A figure against all others, or against one, setting by setting."""

    figure: Figure
    cells: Sequence[Tau]


@dataclass(frozen=True)
class Against:
    """A measure against a figure of robustness.

    Attributes:
        title: The measure's.
        tau: Kendall's τ.
        spearman: Spearman's ρ.
        pearson: Pearson's r.
        mean: Ψ, or empty without training settings.
        psi: ψ of each setting.
        pi: π of each setting.
    """

    title: str
    tau: Tau
    spearman: str
    pearson: str
    mean: str
    psi: Sequence[str]
    pi: Sequence[str]


@dataclass(frozen=True)
class Explained:
    """What tells one figure of robustness.

    Attributes:
        figure: The figure.
        sentence: Which measures tell it, in words.
        settings: Training settings that vary among the models.
        lines: Each measure against it.
    """

    figure: Figure
    sentence: str
    settings: Sequence[str]
    lines: Sequence[Against]


@dataclass(frozen=True)
class Correlations:
    """The page of one board."""

    view: BoardView
    models: int
    figures: Sequence[Figure]
    lines: Sequence[Line]
    explained: Sequence[Explained]
    left_out: int

    @property
    def first(self) -> list[Explained]:
        """What tells the board's own figures of robustness; of a board that has none, every figure."""
        return [e for e in self.explained if e.figure.name.startswith(OWN)] or list(self.explained)

    @property
    def further(self) -> list[Explained]:
        """What tells the others."""
        first = {e.figure.name for e in self.first}
        return [e for e in self.explained if e.figure.name not in first]


def _make(site: Site) -> dict[str, bytes]:
    """A page for each board that has enough models and numbers, with its data, and their list."""
    files: dict[str, bytes] = {}
    found = []
    for view in site.views:
        figures = figures_of(view)
        if len(view.rows) < FEWEST or len(figures) < 2:
            continue
        made = _correlations(view, figures)
        found.append(made)
        files |= _board_files(made, site)
    frame = Frame(
        "Correlations",
        "Which measure of a model tells how robust it is, board by board.",
        "../",
        "Correlations",
        as_of=site.as_of,
    )
    return files | {"correlations/index.html": render("correlations_index.html", frame, found=found)}


def _board_files(made: Correlations, site: Site) -> dict[str, bytes]:
    name = f"correlations/{made.view.board.slug}"
    frame = Frame(
        f"Correlations, {made.view.title}",
        f"Kendall's τ between all figures of {made.models} models.",
        "../",
        "Correlations",
        crumbs=(("Correlations", "index.html"),),
        as_of=site.as_of,
        wide=True,
    )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["model", *(figure.name for figure in made.figures)])
    for k, row in enumerate(made.view.rows):
        writer.writerow([row.slug, *("" if math.isnan(v := float(f.values[k])) else repr(v) for f in made.figures)])
    return {
        f"{name}.html": render("correlations.html", frame, page=made),
        f"{name}.csv": table.getvalue().encode(),
    }


def figures_of(view: BoardView) -> list[Figure]:
    """Every number that the board's models have: of the curves, and the declared scalars; those that vary."""
    found: list[Figure] = []
    for threat in (t for t in view.axes if t != UNION):
        records = [row.record.threats.get(threat) for row in view.rows]
        reference = view.axes[threat].published[0] if len(view.axes[threat].published) else None
        at = [r.published[0].accuracy.value if r and r.published else math.nan for r in records]
        areas = [r.area.value if r else math.nan for r in records]
        name = symbol(threat)
        if reference is not None:
            told = f"Robust accuracy at ε = {number(reference)} in {name}."
            found.append(
                Figure(f"robust@{threat}", f"Robust accuracy, {name} {number(reference)}", told, threat, np.array(at))
            )
        told = f"Area under the robust-accuracy curve in {name}."
        found.append(Figure(f"area@{threat}", f"Area, {name}", told, threat, np.array(areas)))
    for name, output in _scalars(view).items():
        cells = [row.record.cells.get(name) for row in view.rows]
        values = np.array([math.nan if cell is None or cell.sort is None else cell.sort for cell in cells])
        title = titled(output)
        found.append(Figure(name, title, output.help, output.threat or "", values))
    return [figure for figure in found if _varies(figure.values)]


def _varies(values: Floats) -> bool:
    known = values[np.isfinite(values)]
    return len(known) >= FEWEST and float(np.ptp(known)) > 0


def _scalars(view: BoardView) -> dict[str, Output]:
    """The declared scalars of the rows' evaluations, by `sitegen.findings.Found.name`."""
    found: dict[str, Output] = {}
    for row in view.rows:
        for cell in row.row.cells:
            for output in outputs_of(cell):
                if output.kind == "scalar":
                    name = f"{cell.measure}.{output.name}"
                    found.setdefault(f"{name}@{output.threat}" if output.threat else name, output)
    return found


def _correlations(view: BoardView, figures: Sequence[Figure]) -> Correlations:
    shown = figures[:MOST]
    taus = {
        (i, j): kendall(a.values, b.values, resamples=RESAMPLES)
        for i, a in enumerate(shown)
        for j, b in enumerate(shown)
        if i < j
    }
    lines = []
    for i, figure in enumerate(shown):
        cells = [_tau(taus[min(i, j), max(i, j)] if i != j else None, figure, b) for j, b in enumerate(shown)]
        lines.append(Line(figure, cells))
    settings = varying_settings([row.row.model.card for row in view.rows])
    explained = [_explained(i, shown, taus, settings) for i, figure in enumerate(shown) if figure.threat]
    return Correlations(view, len(view.rows), shown, lines, explained, len(figures) - len(shown))


def _tau(found: Correlation | None, one: Figure, other: Figure) -> Tau:
    if found is None:
        return Tau("1", "", "self", one.title)
    title = f"{one.title} and {other.title}: {found.models} models"
    if math.isnan(found.value):
        return Tau("–", "", "", title)
    sure = found.low > 0 or found.high < 0
    strength = min(int(abs(found.value) * 4), 3)
    tint = f"{'p' if found.value > 0 else 'n'}{strength}" if sure else ""
    return Tau(_signed(found.value), f"{_signed(found.low)} to {_signed(found.high)}", tint, title)


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def _explained(
    i: int,
    figures: Sequence[Figure],
    taus: Mapping[tuple[int, int], Correlation],
    settings: Sequence[Mapping[str, str]] | None,
) -> Explained:
    target = figures[i]
    others = [(j, figure) for j, figure in enumerate(figures) if not figure.threat]
    found = {figure.title: taus[min(i, j), max(i, j)] for j, figure in others}
    names = [name.replace("_", " ") for name in settings[0]] if settings else []
    lines = [_against(figure, target, taus[min(i, j), max(i, j)], settings) for j, figure in others]
    return Explained(target, _sentence(target, found), names, lines)


def _against(figure: Figure, target: Figure, tau: Correlation, settings: Sequence[Mapping[str, str]] | None) -> Against:
    both = np.isfinite(figure.values) & np.isfinite(target.values)
    x, y = figure.values[both], target.values[both]
    mean = ""
    psi: tuple[str, ...] = ()
    pi: tuple[str, ...] = ()
    if settings:
        within = grouped(figure.values, target.values, settings)
        fixed = conditional(figure.values, target.values, settings)
        mean = _signed(within.mean)
        psi, pi = tuple(map(_signed, within.psi.values())), tuple(map(_signed, fixed.values()))
    rho, r = spearman(x, y, resamples=2), pearson(x, y, resamples=2)
    return Against(figure.title, _tau(tau, figure, target), _signed(rho.value), _signed(r.value), mean, psi, pi)


def _sentence(target: Figure, found: Mapping[str, Correlation]) -> str:
    """Which measures tell the figure, as far as the interval says so."""
    sure = {t: c for t, c in found.items() if c.low > 0 or c.high < 0}
    most = max((c.models for c in found.values()), default=0)
    if most < TELLING:
        return f"{most} models are too few to say: with fewer than {TELLING} any order may be chance."
    if not sure:
        return f"No measure tells the {_lower(target.title)} of these models: every interval holds 0."
    best = sorted(sure, key=lambda title: -abs(sure[title].value))[:3]
    told = "; ".join(
        f"{_lower(title)} (τ = {_signed(sure[title].value)}, {_signed(sure[title].low)} to {_signed(sure[title].high)})"
        for title in best
    )
    rest = len(found) - len(sure)
    silent = f" For {rest} of {len(found)} measures the interval holds 0." if rest else ""
    return f"What tells the {_lower(target.title)} best: {told}.{silent}"


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def varying_settings(cards: Sequence[Mapping[str, Any]]) -> list[dict[str, str]] | None:
    """For each model the training settings that differ among them; None unless all were trained by the training zoo."""
    runs = [card.get("training_run") for card in cards]
    if not runs or not all(runs):
        return None
    flat = [_flat(run) | _architecture(card) for run, card in zip(runs, cards, strict=True) if run]
    names = sorted(set().union(*flat))
    varying = [name for name in names if len({one.get(name, "") for one in flat}) > 1]
    return [{name: one.get(name, "–") for name in varying} for one in flat] if varying else None


def _architecture(card: Mapping[str, Any]) -> dict[str, str]:
    return {"architecture": f"{card.get('architecture')} {json.dumps(card.get('arguments'), sort_keys=True)}"}


_ONLY_WITH: Final = {("schedule", "steps"): ("milestones", "gamma"), ("optimiser", "sgd"): ("momentum", "nesterov")}
"""Settings that have an effect only where another has that value: elsewhere they tell no two runs apart."""


def _flat(run: Mapping[str, Any]) -> dict[str, str]:
    """Recipe with its parameters, seed, and each setting, as text."""
    stated = run.get("settings") or {}
    idle = {name for (chooser, value), names in _ONLY_WITH.items() if stated.get(chooser) != value for name in names}
    settings = {name: json.dumps(value) for name, value in stated.items() if name not in idle}
    keep = settings.pop("keep", ""), settings.pop("validation", "")
    awp = settings.pop("awp", "0")
    recipe = f"{run.get('recipe')} {json.dumps(run.get('parameters') or {}, sort_keys=True)} awp {awp}"
    return {"recipe": recipe, "seed": str(run.get("seed")), "early stopping": " ".join(keep)} | settings


PAGE = Page("correlations", _make, menu="Correlations", address="correlations/index.html", order=35)
