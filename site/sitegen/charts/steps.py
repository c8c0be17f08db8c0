"""Step functions as they are drawn."""

from __future__ import annotations

from typing import Final

import numpy as np

from benchmark.curve import Floats, RobustnessCurve
from sitegen.axes import Axis
from sitegen.charts.base import Line
from sitegen.facts import ThreatFacts
from sitegen.findings import Found

POINTS: Final = 300
"""Steps of a curve that are drawn."""


def drawn(distances: Floats, axis: Axis, *, points: int = POINTS) -> tuple[Floats, Floats]:
    """Positions and shares above them, thinned for drawing without moving a marked budget; within ``1 / points``."""
    curve = RobustnessCurve(distances, "linf")  # the norm has no part in any of the figures
    steps = curve.thin(points, keep=axis.published)
    inside = steps.eps <= axis.maximum
    x, y = steps.eps[inside], steps.robust_accuracy[inside]
    return np.append(x, axis.maximum), np.append(y, y[-1])


def beside(found: Found, facts: ThreatFacts, label: str, style: str) -> Line:
    """The share of the measured samples whose bound or estimate exceeds ε, as a line beside the curve."""
    known = np.maximum(found.values[np.isfinite(found.values)], 0.0)
    if not len(known):
        nothing = np.array([np.nan, np.nan])
        return Line(f"{label}, on no sample", np.array([0.0, facts.axis.maximum]), nothing, style)
    some = "" if len(known) == found.n else f", on {len(known)} samples"
    return Line(f"{label}{some}", *drawn(known, facts.axis), style)
