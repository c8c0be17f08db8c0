"""``curveboard export``: the numbers, for other programs."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, place_options

if TYPE_CHECKING:
    from db.queries import Board
    from db.session import Database


@click.command()
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--what",
    type=click.Choice(["scores", "distances"]),
    default="scores",
    show_default=True,
    help="One line a score, or one line a sample and norm of the ledger.",
)
@click.option("--board", "name", metavar="BOARD", help="Only this board (curveboard status lists them).")
@place_options
def command(place: Place, form: str, as_json: bool, what: str, name: str | None) -> None:
    """Print the boards' scores, or the ledger's distances, as CSV or JSON.

    A distance that was not found is inf in CSV and null in JSON.
    """
    from db.queries import board_named, boards

    database = place.database
    with database.read() as session:
        chosen = [board_named(session, name)] if name else boards(session)
    rows = [row for board in chosen for row in (_scores if what == "scores" else _distances)(database, board)]
    if as_json or form == "json":
        echo_json(rows)
    elif rows:
        _print_csv(rows)


def _scores(database: Database, board: Board) -> list[dict[str, Any]]:
    from db.queries import row_data

    found: list[dict[str, Any]] = []
    with database.read() as session:
        for row in board.rows:
            cells = {cell.id: cell for cell in row.cells}
            for key, data in row_data(session, list(cells)).items():
                found.extend(
                    {
                        "board": board.slug,
                        "model": row.model.slug,
                        "row": row.status.value,
                        "measure": cells[key].measure,
                        "parameters": dict(cells[key].parameters),
                        "samples": data.detail.samples,
                        "score": score.name,
                        "value": score.value,
                        "low": score.low,
                        "high": score.high,
                        "confidence": score.confidence,
                        "unit": score.unit,
                    }
                    for score in data.detail.scores
                )
    return found


def _distances(database: Database, board: Board) -> list[dict[str, Any]]:
    from benchmark.board.ledger import ledger
    from benchmark.board.norms import ledger_norms

    found: list[dict[str, Any]] = []
    with database.read() as session:
        for row in board.rows:
            for norm in ledger_norms(session, dataset_id=board.dataset.id, model_id=row.model.id):
                entry = ledger(session, model_id=row.model.id, dataset_id=board.dataset.id, norm=norm, n=board.n)
                found.extend(
                    {"board": board.slug, "model": row.model.slug, "norm": norm, "sample": i, "distance": float(value)}
                    for i, value in enumerate(entry.distances)
                    if entry.covered[i]
                )
    return found


def _print_csv(rows: list[dict[str, Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v, sort_keys=True) if isinstance(v, dict) else v for k, v in row.items()})
    sys.stdout.write(buffer.getvalue())
