"""Single numbers with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sitegen.facts import RowFacts
from sitegen.findings import Found
from sitegen.panels import Panel
from sitegen.records import Cell
from sitegen.threats import symbol
from sitegen.words import number, percent, quantity


@dataclass(frozen=True)
class ScalarLine:
    """A number in the table; ``warning`` is the message of the flag of its name, if its measure raised one."""

    measure: str
    title: str
    help: str
    threat: str
    text: str
    interval: str
    unit: str
    direction: str
    warning: str


class Scalar(Panel):
    """A number with its interval."""

    name = "scalar"
    template = "panels/scalar.html"

    def show(self, found: Sequence[Found], row: RowFacts) -> list[ScalarLine]:
        """A line a number."""
        return [self._line(one) for one in found if one.score is not None]

    def _line(self, found: Found) -> ScalarLine:
        output, fields = found.output, _fields(found)
        code = output.name.replace("_", "-")
        flags = [flag.message for flag in found.data.detail.flags if flag.code in {code, output.name}]
        return ScalarLine(
            measure=found.evaluation.measure,
            title=output.title,
            help=output.help,
            threat=symbol(output.threat) if output.threat else "",
            text=quantity(fields[""], output.unit),
            interval=_interval(fields, output.unit),
            unit="" if output.unit == "share" else output.unit,
            direction=output.direction,
            warning=flags[0] if flags else "",
        )

    def cell(self, found: Found, row: RowFacts) -> Cell:
        """The number."""
        fields, share = _fields(found), found.output.unit == "share"
        text = percent(fields[""]) if share else number(fields[""])
        return Cell(text, _interval(fields, found.output.unit), fields[""])

    def fields(self, found: Found, row: RowFacts) -> Mapping[str, float | None]:
        """Value and ends of its interval."""
        return _fields(found)


def _fields(found: Found) -> dict[str, float | None]:
    score = found.score
    return {
        "": _finite(score.value if score else None),
        "_low": _finite(score.low if score else None),
        "_high": _finite(score.high if score else None),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _interval(fields: Mapping[str, float | None], unit: str) -> str:
    low, high = fields["_low"], fields["_high"]
    if low is None or high is None:
        return ""
    write = percent if unit == "share" else number
    return f"{write(low)}–{write(high)}"


PANEL = Scalar()
