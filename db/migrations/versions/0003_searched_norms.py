"""the changelog tells of accuracies only in the norms in which a row was attacked

Until now an entry held a robust accuracy and a rank at every published budget, in norms too that the row's protocol
does not attack in: nothing found was told as robust.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SEARCHED = sa.text(
    "SELECT c.model_id, c.dataset_id, p.name, p.version, c.n, e.outputs FROM cells c "
    "JOIN protocols p ON p.id = c.protocol_id LEFT JOIN evaluations e ON e.id = c.evaluation_id"
)


def upgrade() -> None:
    bind = op.get_bind()
    searched: dict[tuple[Any, ...], set[str]] = {}
    for *row, outputs in bind.execute(_SEARCHED):
        listed = json.loads(outputs) if isinstance(outputs, str) else outputs or []
        threats = searched.setdefault(tuple(row), set())
        threats.update(str(output.get("threat")) for output in listed if output.get("kind") == "upper")
    changes = sa.table(
        "changes", *(sa.column(name) for name in ("id", "model_id", "dataset_id")), sa.column("detail", sa.JSON)
    )
    for change in bind.execute(sa.select(changes)).all():
        boards = [_told(board, change, searched) for board in (change.detail or {}).get("boards", ())]
        if boards and boards != change.detail["boards"]:
            detail = {**change.detail, "boards": boards}
            bind.execute(changes.update().where(changes.c.id == change.id).values(detail=detail))


def _told(board: dict[str, Any], change: Any, searched: dict[tuple[Any, ...], set[str]]) -> dict[str, Any]:
    row = (change.model_id, change.dataset_id, board["protocol"], board["version"], board["n"])
    if row not in searched:
        return board
    return {**board, "norms": {norm: points for norm, points in board["norms"].items() if norm in searched[row]}}


def downgrade() -> None:
    """Nothing to take back: what was dropped was never measured."""
