"""The table's columns: those that the protocol names, or else one of each measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmark.results import Direction, Output
from sitegen.board_view import BoardView
from sitegen.findings import outputs_of
from sitegen.glossary import term_of
from sitegen.records import Cell
from sitegen.rows import BuiltRow
from sitegen.threats import UNION, symbol

MOST: Final = 6
"""Columns at most where the protocol names none."""
NOTHING: Final = Cell("–")


@dataclass(frozen=True)
class Column:
    """A declared output as a column.

    Attributes:
        id: ``measure.output``, or ``measure.output@threat`` for one threat whatever the table shows.
        title: Its heading.
        help: Its tooltip.
        unit: Of its numbers.
        direction: Which values are better.
        threats: Threats that the output speaks of; empty if of none.
    """

    id: str
    title: str
    help: str
    unit: str
    direction: Direction
    threats: frozenset[str]

    def cell(self, built: BuiltRow, threat: str) -> Cell:
        """A row's cell in the table of a threat."""
        name = self.id if "@" in self.id or not self.threats else f"{self.id}@{threat}"
        return built.record.cells.get(name, NOTHING)

    def shown_under(self, threat: str) -> bool:
        """Whether it says anything in the table of a threat."""
        return "@" in self.id or not self.threats or threat in self.threats

    @property
    def term(self) -> str:
        """Where the glossary explains it: a fragment, or empty."""
        return term_of(self.title)

    @property
    def tooltip(self) -> str:
        """What it is, and which values are better."""
        better = {"higher": "Higher is better.", "lower": "Lower is better.", "none": ""}[self.direction]
        return " ".join(filter(None, (self.help or self.title, better)))


def columns(view: BoardView) -> list[Column]:
    """The columns of a board, in order."""
    declared = _declared(view)
    named = view.board.protocol.spec.get("columns")
    wanted = [str(name) for name in named] if named else _leading(declared)
    return [column for name in wanted if (column := _column(name, declared)) is not None]


def _leading(declared: Mapping[str, Sequence[Output]]) -> list[str]:
    """The first scalar of each measure that has a direction: the others are to be looked up, not compared."""
    first: dict[str, str] = {}
    for name, (output, *_) in declared.items():
        if output.kind == "scalar" and output.direction != "none":
            first.setdefault(name.partition(".")[0], name)
    return list(first.values())[:MOST]


def _declared(view: BoardView) -> dict[str, list[Output]]:
    """``measure.output`` -> its declarations, one a threat, in the order in which evaluations declare them."""
    found: dict[str, dict[str | None, Output]] = {}
    for built in view.everyone:
        for cell in built.row.cells:
            for output in outputs_of(cell):
                found.setdefault(f"{cell.measure}.{output.name}", {}).setdefault(output.threat, output)
    return {name: list(outputs.values()) for name, outputs in found.items()}


def _column(name: str, declared: Mapping[str, list[Output]]) -> Column | None:
    base, _, threat = name.partition("@")
    outputs = [o for o in declared.get(base, ()) if not threat or o.threat == threat]
    if not outputs:
        return None
    first = outputs[0]
    title = f"{first.title} {symbol(threat)}" if threat else first.title
    spoken = frozenset(o.threat for o in outputs if o.threat)
    unit = "%" if first.unit == "share" else first.unit
    return Column(name, title, first.help, unit, first.direction, spoken - {UNION})
