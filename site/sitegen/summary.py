"""What a row costs, and whether what it rests on was checked again: said on the board and on the model's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from benchmark.board.verified import VERIFIED
from db.queries import ChangeInfo, Row
from sitegen.facts import RowFacts
from sitegen.findings import outputs_of
from sitegen.records import Verified

COSTS: Final = {"parameters": "parameters", "flops": "FLOPs/image", "latency": "s/image"}
"""What a model costs -> the unit of the scalar that says so, whichever measure gives it."""


def costs_of(facts: RowFacts) -> dict[str, Any]:
    """What the model costs, from the newest scalar of each unit."""
    scores = {f.output.unit: f.score for f in facts.of_kind("scalar") if f.score is not None}
    values = {name: scores[unit].value for name, unit in COSTS.items() if unit in scores}
    parameters = values.get("parameters")
    return {
        "parameters": None if parameters is None else int(parameters),
        "flops": values.get("flops"),
        "latency": values.get("latency"),
    }


def verified(row: Row, changes: Iterable[ChangeInfo]) -> Verified | None:
    """The newest whole check of the row's evidence, if nothing has brought evidence since."""
    own = [c for c in changes if c.kind == VERIFIED and c.model_id == row.model.id]
    brought = [e.finished_at for e in row.done if e.finished_at and any(o.kind == "upper" for o in outputs_of(e))]
    datasets = {e.dataset_id for e in row.cells}
    newest_check = max((c for c in own if c.dataset_id in datasets), key=lambda c: c.at, default=None)
    if newest_check is None or not brought or newest_check.at < max(brought):
        return None
    detail: Mapping[str, Any] = newest_check.detail
    return Verified(newest_check.at.isoformat(), str(detail.get("by", "")), int(detail.get("examples", 0)))
