"""A row's figures for its board, from its facts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from db.queries import ChangeInfo
from db.schema import State
from sitegen.charts.model import share_of
from sitegen.facts import RowFacts, ThreatFacts, credits_of
from sitegen.findings import newest
from sitegen.model.page import flags_of, published_of
from sitegen.panels import panel_of
from sitegen.records import Cell, CreditRecord, Problem, RowRecord, Share, ThreatRecord
from sitegen.scripts_data import falls
from sitegen.summary import costs_of, verified


def record_of(facts: RowFacts, *, changes: Iterable[ChangeInfo] = (), damaged: str = "") -> RowRecord:
    """The row's figures for its board.

    Args:
        facts: The row.
        changes: The changelog's entries about the model.
        damaged: Why its results cannot be read.
    """
    row = facts.row
    details = [facts.data[evaluation.id].detail for evaluation in row.done]
    finished = max((e.finished_at for e in row.done if e.finished_at), default=None)
    cells, fields = _outputs(facts)
    return RowRecord(
        clean=None if facts.correct is None else share_of(facts.correct, facts.n),
        flags=tuple(flag.code for flag in flags_of(facts)),
        problems=tuple(
            Problem(e.measure, e.norm or "", e.state.value, e.reason or "")
            for e in row.cells
            if e.state is not State.DONE
        ),
        threats={threat: _threat(found) for threat, found in facts.threats.items()},
        missing=dict(facts.missing),
        crossing=facts.crossing.text if facts.crossing is not None else "",
        damaged=damaged,
        cells=cells,
        fields=fields,
        **costs_of(facts),
        seconds=sum(detail.seconds for detail in details),
        passes=sum(detail.forward_passes + detail.backward_passes for detail in details),
        finished=finished.isoformat() if finished else "",
        architecture=str(row.model.card.get("architecture") or ""),
        verified=verified(row, changes),
        reported=len(row.reported),
    )


def _outputs(facts: RowFacts) -> tuple[dict[str, Cell], dict[str, float | None]]:
    """The newest value of every output, as a cell and as columns of the CSV."""
    cells: dict[str, Cell] = {}
    fields: dict[str, float | None] = {}
    for name, found in newest(facts.found).items():
        if (panel := panel_of(found)) is not None:
            cells[name] = panel.cell(found, facts)
            fields |= {f"{name}{part}": value for part, value in panel.fields(found, facts).items()}
    return cells, fields


def _threat(facts: ThreatFacts) -> ThreatRecord:
    top = facts.axis.maximum
    area = facts.curve.area_interval(up_to=top)
    return ThreatRecord(
        published=tuple(published_of(facts)),
        area=Share(facts.curve.area(up_to=top), _finite(area.low) or 0.0, min(area.high, top)),
        median=_finite(facts.curve.median),
        censored=facts.curve.censored,
        decided=facts.decided(),
        falls=falls(facts.counts),
        credits=tuple(
            CreditRecord(
                slug=c.source.slug,
                title=c.source.title,
                about=c.source.about,
                paper=c.source.paper,
                decided=c.decided,
                alone=c.alone,
                lowered=c.lowered,
                optimality=c.optimality,
                seconds=c.seconds,
                passes=c.passes,
            )
            for c in credits_of(facts)
        ),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
