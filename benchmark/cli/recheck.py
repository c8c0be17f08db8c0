"""``curveboard recheck``: this board's own search for rows that another board reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options

if TYPE_CHECKING:
    from benchmark.jobs.recheck import Recheck


@click.command()
@click.argument("model", required=False)
@click.option("--device", default="cpu", metavar="cpu|cuda", help="Where the models run.", show_default=True)
@place_options
@json_option
def command(*, place: Place, model: str | None, device: str, as_json: bool) -> None:
    """Search for adversarial examples in rows that another board reported (curveboard ingest), or in MODEL's alone.

    One quick run of the engine under each threat, targeted ones too, on all samples of the row: what it finds joins the
    ledger, and the row is ranked. To run all that the protocol wants instead: curveboard evaluate --rerun all -m MODEL.
    Exit code 3 when a search failed.
    """
    from benchmark.cli.evaluate import check_device
    from benchmark.jobs.recheck import reported_rows
    from db.queries import boards

    check_device(device)
    with place.database.read() as session:
        rows = reported_rows(boards(session), model)
    said = [_search(place, recheck, device) for recheck in rows]
    if as_json:
        echo_json(said)
    else:
        echo_table(said, empty="No row waits for a search of this board's own.")
    if any(row["failed"] for row in said):
        click.get_current_context().exit(3)


def _search(place: Place, recheck: Recheck, device: str) -> dict[str, Any]:
    from benchmark.cli.evaluate import setting_of
    from benchmark.data import get_dataset
    from benchmark.jobs.executors import run_jobs
    from benchmark.jobs.recheck import enter_searches
    from models_zoo import get_entry

    slug = recheck.row.model.slug
    entry, dataset = get_entry(slug, [place.workspace.models]), get_dataset(recheck.board.dataset.name)
    with place.database.write() as session:
        jobs = enter_searches(session, recheck, entry, dataset)
    outcome = run_jobs(jobs, setting_of(place, device, rerun="failed"), lambda _: None)
    by_hand = ", ".join(recheck.other) or ("" if recheck.threats else "all of it")
    return {
        "board": recheck.board.slug,
        "model": slug,
        "searched": ", ".join(recheck.threats) or None,
        "failed": outcome.failed,
        "left to evaluate --rerun all": by_hand or None,
    }
