"""Estimates of the distance: neither proven nor certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sitegen.charts.base import Line, Point
from sitegen.charts.steps import beside
from sitegen.facts import RowFacts, ThreatFacts
from sitegen.findings import Found
from sitegen.panels import Panel, facts_of
from sitegen.records import Cell
from sitegen.threats import symbol
from sitegen.words import number

STYLES = ("s1 dots", "s4 dots", "s6 dots")


@dataclass(frozen=True)
class EstimateLine:
    """An estimate in the table; ``above`` is the share of samples whose estimate exceeds their verified distance."""

    title: str
    help: str
    symbol: str
    samples: int
    mean: float | None
    median: float | None
    above: float | None


class Estimate(Panel):
    """Estimated distances of single samples."""

    name = "estimate"
    template = "panels/estimate.html"

    def show(self, found: Sequence[Found], row: RowFacts) -> list[EstimateLine]:
        """A line an estimate."""
        lines = []
        for one in found:
            fields = self.fields(one, row)
            samples = int(fields["_samples"] or 0)
            told = fields["_mean"], fields["_median"], fields["_above"]
            output = one.output
            lines.append(EstimateLine(output.title, output.help, symbol(output.threat or ""), samples, *told))
        return lines

    def on_curve(self, found: Found, facts: ThreatFacts) -> tuple[Sequence[Line], Sequence[Point]]:
        """The share of samples whose estimate exceeds ε."""
        place = [f for f in facts.beside if f.output.kind == self.name].index(found)
        return [beside(found, facts, f"{found.output.title}: an estimate", STYLES[place % len(STYLES)])], ()

    def cell(self, found: Found, row: RowFacts) -> Cell:
        """The mean over the samples."""
        mean = self.fields(found, row)["_mean"]
        return Cell(number(mean), "", mean)

    def fields(self, found: Found, row: RowFacts) -> Mapping[str, float | None]:
        """Samples, mean and median; and the share of broken samples whose estimate exceeds their distance."""
        known = found.values[np.isfinite(found.values)]
        facts = facts_of(found, row)
        above = None
        if facts is not None:
            asked = np.isfinite(found.values) & (facts.curve.distances > 0)
            above = float((found.values[asked] > facts.curve.distances[asked]).mean()) if asked.any() else None
        return {
            "_samples": float(len(known)),
            "_mean": float(known.mean()) if len(known) else None,
            "_median": float(np.median(known)) if len(known) else None,
            "_above": above,
        }


PANEL = Estimate()
