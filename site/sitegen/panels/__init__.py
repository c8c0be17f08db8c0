"""How each kind of output is shown, one kind a file.

To show a new kind, add a file here (or an entry point of the group ``curveboard.panels``) that holds a constant
``PANEL``, and a template ``panels/<kind>.html`` for its part of a model's page. Every kind of output appears on the
model's page, in the exports and as a column without anything else knowing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from benchmark.plugins import discover
from sitegen.charts.base import Line, Point
from sitegen.facts import RowFacts, ThreatFacts
from sitegen.findings import Found
from sitegen.records import Cell


class Panel:
    """How one kind of output is shown.

    Attributes:
        name: The kind.
        template: The template of its part of a model's page; empty if it has none there.
    """

    name: ClassVar[str]
    template: ClassVar[str] = ""

    def show(self, found: Sequence[Found], row: RowFacts) -> Any:
        """The template's context, as ``shown``: everything of this kind that a row has; None leaves the part out."""
        return None

    def on_curve(self, found: Found, facts: ThreatFacts) -> tuple[Sequence[Line], Sequence[Point]]:
        """What it adds to the chart of its threat's curve."""
        return (), ()

    def cell(self, found: Found, row: RowFacts) -> Cell:
        """It as a cell of the board's table."""
        raise NotImplementedError

    def fields(self, found: Found, row: RowFacts) -> Mapping[str, float | None]:
        """It as columns of the CSV, by what follows the output's name: ``""``, ``"_low"``, ``"_high"``."""
        raise NotImplementedError

    def value(self, found: Found, row: RowFacts) -> Mapping[str, Any]:
        """It as JSON values."""
        return {name.removeprefix("_") or "value": value for name, value in self.fields(found, row).items()}


def panels() -> Mapping[str, Panel]:
    """All panels, by the kind that they show."""
    return cast("Mapping[str, Panel]", discover(__name__, "PANEL"))


def panel_of(found: Found) -> Panel | None:
    """The panel of an output; None for a kind that this version does not know."""
    return panels().get(found.output.kind)


def facts_of(found: Found, row: RowFacts) -> ThreatFacts | None:
    """The facts of the threat that an output speaks of."""
    return row.threats.get(found.output.threat) if found.output.threat else None
