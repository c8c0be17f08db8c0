"""Certified radii: no adversarial example is nearer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.curve import proportion_interval
from sitegen.charts.base import Line, Point
from sitegen.charts.steps import beside
from sitegen.facts import RowFacts, ThreatFacts
from sitegen.findings import Found
from sitegen.panels import Panel, facts_of
from sitegen.records import Cell
from sitegen.threats import symbol
from sitegen.words import number, percent

STYLES = ("s2 dash", "s3 dashdot", "s6 dash")


@dataclass(frozen=True)
class LowerLine:
    """A certificate in the table: on how many samples, its mean radius, the share proven at the reference budget."""

    title: str
    help: str
    symbol: str
    samples: int
    mean: float | None
    proven: float | None
    eps: float | None


class Lower(Panel):
    """Proven lower bounds of single samples."""

    name = "lower"
    template = "panels/lower.html"

    def show(self, found: Sequence[Found], row: RowFacts) -> list[LowerLine]:
        """A line a certificate."""
        return [self._line(one, row) for one in found]

    def _line(self, found: Found, row: RowFacts) -> LowerLine:
        fields, facts = self.fields(found, row), facts_of(found, row)
        return LowerLine(
            title=found.output.title,
            help=found.output.help,
            symbol=symbol(found.output.threat or ""),
            samples=int(fields["_samples"] or 0),
            mean=fields["_mean"],
            proven=fields.get("_certified"),
            eps=facts.axis.published[0] if facts else None,
        )

    def on_curve(self, found: Found, facts: ThreatFacts) -> tuple[Sequence[Line], Sequence[Point]]:
        """The share of samples whose certificate exceeds ε."""
        place = [f for f in facts.beside if f.output.kind == self.name].index(found)
        return [beside(found, facts, f"{found.output.title}: at least so robust", STYLES[place % len(STYLES)])], ()

    def cell(self, found: Found, row: RowFacts) -> Cell:
        """The share of all samples that is certified at the reference budget, or the mean radius without an axis."""
        fields = self.fields(found, row)
        share = fields.get("_certified")
        if share is None:
            return Cell(number(fields["_mean"]), "", fields["_mean"])
        low, high = fields.get("_certified_low"), fields.get("_certified_high")
        return Cell(percent(share), "" if low is None else f"{percent(low)}–{percent(high)}", share)

    def fields(self, found: Found, row: RowFacts) -> Mapping[str, float | None]:
        """Samples, mean radius, and the share of all samples that is certified at the reference budget.

        The share has an interval where all samples were measured: of the others nothing is known.
        """
        known = found.values[np.isfinite(found.values)]
        fields: dict[str, float | None] = {
            "_samples": float(found.measured.sum()),
            "_mean": float(known.mean()) if len(known) else None,
        }
        if (facts := facts_of(found, row)) is not None:
            certified = int((np.nan_to_num(found.values, nan=0.0) > facts.axis.published[0]).sum())
            fields["_certified"] = certified / found.n
            if found.measured.all():
                low, high = proportion_interval(certified, found.n)
                fields |= {"_certified_low": float(low), "_certified_high": float(high)}
        return fields


PANEL = Lower()
