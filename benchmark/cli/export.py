"""``curveboard export``: the numbers, for other programs."""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, place_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from db.queries import Board, EvaluationData, EvaluationInfo
    from db.session import Database


@click.command()
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--what",
    type=click.Choice(["scores", "board", "distances", "tables", "samples"]),
    default="scores",
    show_default=True,
    help="One line a score; a model, as its board shows it; a sample and norm of the ledger; a cell of a grid or "
    "trace; or a sample and output.",
)
@click.option("--board", "name", metavar="BOARD", help="Only this board (curveboard status lists them).")
@place_options
def command(place: Place, form: str, as_json: bool, what: str, name: str | None) -> None:
    """Print the boards' scores, ledgers, tables, or whatever their measures say of each sample, as CSV or JSON.

    A distance that was not found is inf in CSV and null in JSON.
    """
    from db.queries import board_named, boards

    database = place.database
    with database.read() as session:
        chosen = [board_named(session, name)] if name else boards(session)
    wanted = {"scores": _scores, "board": _board, "distances": _distances, "tables": _tables, "samples": _samples}[what]
    rows = [row for board in chosen for row in wanted(database, board)]
    if as_json or form == "json":
        echo_json(rows)
    elif rows:
        _print_csv(rows)


def _scores(database: Database, board: Board) -> list[dict[str, Any]]:
    from benchmark.board.verdicts import row_data

    found: list[dict[str, Any]] = []
    with database.read() as session:
        for row in board.rows:
            cells = {cell.id: cell for cell in row.cells}
            for key, data in row_data(session, row, row.cells).items():
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


def _board(database: Database, board: Board) -> list[dict[str, Any]]:
    """A line a model: what its board shows of it, as in the site's CSV."""
    from sitegen.figures import board_figures

    return board_figures(database, board)


def _evaluations(database: Database, board: Board) -> Iterator[tuple[dict[str, Any], EvaluationInfo, EvaluationData]]:
    """Every evaluation of the board's rows, with what names it in a line."""
    from benchmark.board.verdicts import row_data

    for row in board.rows:
        cells = {cell.id: cell for cell in row.cells}
        with database.read() as session:
            found = row_data(session, row, row.cells)
        for key, data in found.items():
            named = {
                "board": board.slug,
                "model": row.model.slug,
                "measure": cells[key].measure,
                "parameters": dict(cells[key].parameters),
            }
            yield named, cells[key], data


def _tables(database: Database, board: Board) -> list[dict[str, Any]]:
    """A line for each cell of each grid and trace."""
    found: list[dict[str, Any]] = []
    for named, info, data in _evaluations(database, board):
        for output in info.outputs:
            table = next((table for table in data.detail.tables if table.name == output["name"]), None)
            if table is None:
                continue
            values, low, high = (part.ravel().tolist() for part in (table.values, table.low, table.high))
            cells = itertools.product(*(axis["labels"] for axis in output["axes"]))
            names = " × ".join(axis["name"] for axis in output["axes"])
            for i, labels in enumerate(cells):
                cell = {"output": output["name"], "axes": names, "cell": " × ".join(labels), "unit": output["unit"]}
                found.append(named | cell | {"value": values[i], "low": low[i], "high": high[i]})
    return found


def _samples(database: Database, board: Board) -> list[dict[str, Any]]:
    """A line for each sample and output of a kind that has a value a sample."""
    found: list[dict[str, Any]] = []
    for named, info, data in _evaluations(database, board):
        for output in info.outputs:
            if output["array"] in data.arrays:
                what = {"output": output["name"], "kind": output["kind"], "threat": output["threat"]}
                pairs = zip(data.samples[output["array"]], data.arrays[output["array"]].tolist(), strict=True)
                found.extend(named | what | {"sample": int(i), "value": value} for i, value in pairs)
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
