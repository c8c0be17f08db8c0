"""Verdicts: robust or not at one ε, a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.curve import proportion_interval
from sitegen.charts.base import Line, Point
from sitegen.facts import RowFacts, ThreatFacts
from sitegen.findings import Found
from sitegen.panels import Panel, facts_of
from sitegen.records import Cell
from sitegen.threats import symbol
from sitegen.words import percent

STYLES = ("s7", "s3", "s4")


@dataclass(frozen=True)
class VerdictLine:
    """A verdict in the table: of how many samples, how many are robust, and how many of these are even certified."""

    title: str
    help: str
    symbol: str
    eps: float | None
    samples: int
    robust: int
    broken: int
    certified: int | None
    low: float
    high: float


class Verdict(Panel):
    """Robust or not at ε, a sample."""

    name = "verdict"
    template = "panels/verdict.html"

    def show(self, found: Sequence[Found], row: RowFacts) -> list[VerdictLine]:
        """A line a verdict."""
        return [self._line(one, row) for one in found if one.measured.any()]

    def _line(self, found: Found, row: RowFacts) -> VerdictLine:
        f = self.fields(found, row)
        certified = f["_certified"]
        return VerdictLine(
            title=f"{found.output.title} ({found.evaluation.measure})",
            help=found.output.help,
            symbol=symbol(found.output.threat or ""),
            eps=found.output.eps,
            samples=int(f["_samples"] or 0),
            robust=int(f["_robust"] or 0),
            broken=int(f["_broken"] or 0),
            certified=None if certified is None else int(certified),
            low=f["_low"] or 0.0,
            high=f["_high"] or 0.0,
        )

    def on_curve(self, found: Found, facts: ThreatFacts) -> tuple[Sequence[Line], Sequence[Point]]:
        """The share of robust samples at its ε."""
        if found.output.eps is None or not found.measured.any():
            return (), ()
        titles = list(dict.fromkeys(f.output.title for f in facts.beside if f.output.kind == self.name))
        style = STYLES[titles.index(found.output.title) % len(STYLES)]
        share = float(found.robust.mean())
        return (), [Point(_on_some(found), [(found.output.eps, share)], style)]

    def cell(self, found: Found, row: RowFacts) -> Cell:
        """The share of robust samples."""
        fields = self.fields(found, row)
        share, low, high = fields[""], fields["_low"], fields["_high"]
        return Cell(percent(share), f"{percent(low)}–{percent(high)}" if share is not None else "", share)

    def fields(self, found: Found, row: RowFacts) -> Mapping[str, float | None]:
        """Share with its interval; counts of robust, broken and certified samples."""
        judged = found.robust
        if not len(judged):
            return dict.fromkeys(("", "_low", "_high", "_samples", "_robust", "_broken", "_certified"))
        robust = int(judged.sum())
        low, high = proportion_interval(robust, len(judged))
        facts, certified = facts_of(found, row), None
        if facts is not None and facts.lower is not None and found.output.eps is not None:
            certified = float(np.count_nonzero((facts.lower > found.output.eps)[found.measured]))
        return {
            "": robust / len(judged),
            "_low": float(low),
            "_high": float(high),
            "_samples": float(len(judged)),
            "_robust": float(robust),
            "_broken": float(len(judged) - robust),
            "_certified": certified,
        }


def _on_some(found: Found) -> str:
    samples, name = int(found.measured.sum()), f"{found.output.title} ({found.evaluation.measure})"
    return name if samples == found.n else f"{name}, on {samples} samples"


PANEL = Verdict()
