"""Distances with evidence: they make the curve itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmark.curve import proportion_interval
from sitegen.facts import RowFacts
from sitegen.findings import Found
from sitegen.panels import Panel, facts_of
from sitegen.records import Cell
from sitegen.words import number, percent


class Upper(Panel):
    """One attack's own distances: what it alone would have found."""

    name = "upper"

    def cell(self, found: Found, row: RowFacts) -> Cell:
        """Its own robust accuracy at the reference budget, or its median distance where there is no axis."""
        fields = self.fields(found, row)
        share = fields.get("_robust")
        if share is None:
            return Cell(number(fields["_median"]), "", fields["_median"])
        low, high = fields["_robust_low"], fields["_robust_high"]
        return Cell(percent(share), f"{percent(low)}–{percent(high)}", share)

    def fields(self, found: Found, row: RowFacts) -> Mapping[str, float | None]:
        """Median distance, and robust accuracy at the reference budget on the samples that it attacked."""
        values = found.values[found.measured]
        if not len(values):
            return {"_median": None}
        median = float(np.sort(values)[(len(values) - 1) // 2])
        fields: dict[str, float | None] = {"_median": median if np.isfinite(median) else None}
        if (facts := facts_of(found, row)) is not None:
            robust = int((values > facts.axis.reference_limit).sum())
            low, high = proportion_interval(robust, len(values))
            fields |= {"_robust": robust / len(values), "_robust_low": float(low), "_robust_high": float(high)}
        return fields


PANEL = Upper()
