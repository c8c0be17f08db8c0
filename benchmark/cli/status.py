"""``curveboard status``: how the workspace stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from db.queries import Board


SHOWN = 4
"""How much of what a row lacks is named; ``--json`` has all."""


@click.command()
@place_options
@json_option
def command(place: Place, as_json: bool) -> None:
    """Show the boards, their rows, and what is queued, running or failed."""
    from benchmark.board.names import GONE, gone
    from db.queries import boards, overview
    from models_zoo import present

    with place.database.read() as session:
        counts = overview(session)
        found = boards(session)
    lost = gone(found, present([place.workspace.models]))
    rows = [row for board in found for row in _rows(board, lost)]
    evaluations = {state.value: count for state, count in counts.evaluations.items()}
    if as_json:
        echo_json(
            {
                "workspace": str(place.workspace.root),
                "database": str(place.database),
                "models": counts.models,
                "evaluations": evaluations,
                "evidence": {"files": counts.evidence_files, "bytes": counts.evidence_bytes},
                "newest": counts.newest.isoformat() if counts.newest else None,
                "rows": rows,
            }
        )
        return
    click.echo(f"Workspace {place.workspace.root}, database {place.database}")
    shown = ", ".join(f"{count} {state}" for state, count in evaluations.items() if count)
    click.echo(f"Evaluations: {shown or 'none yet; run: curveboard evaluate'}")
    click.echo(f"Evidence: {counts.evidence_files} files, {counts.evidence_bytes / 1e6:.1f} MB")
    if rows:
        click.echo()
        echo_table([{k: v for k, v in row.items() if k != "missing"} for row in rows], empty="")
    for slug in sorted(lost.values()):
        click.echo(f"{slug}: {GONE}.")
    for row in rows:
        if row["missing"] and row["status"] == "incomplete":
            click.echo(f"{row['board']}, {row['model']} lacks: {_shortened(row['missing'])}")


def _shortened(missing: list[str]) -> str:
    more = f", and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return ", ".join(missing[:SHOWN]) + more


def _rows(board: Board, lost: Mapping[int, str]) -> list[dict[str, Any]]:
    from db.schema import State

    return [
        {
            "board": board.slug,
            "model": row.model.slug,
            "status": row.status.value,
            "files": "gone" if row.model.id in lost else None,
            "done": f"{sum(cell.state in (State.DONE, State.UNSUPPORTED) for cell in row.cells)}/{len(row.cells)}",
            "missing": list(row.missing),
            "reported": len(row.reported) or None,
            "failed": sum(cell.state == State.FAILED for cell in row.cells) or None,
        }
        for row in board.rows
    ]
