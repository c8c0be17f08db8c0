"""``curveboard verify``: the evidence re-checked against the weights."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options, time_limit_option

if TYPE_CHECKING:
    from benchmark.evidence.check import Report


@click.command()
@click.argument("model", required=False)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Only N random samples of each model.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Which random samples.", show_default=True)
@click.option("--device", default="cpu", metavar="cpu|cuda", help="Where the models run.", show_default=True)
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Verify this bundle instead of a board; needs no workspace."
)
@click.option("--trust-code", is_flag=True, help="Let a bundle's Python code run, in a process of its own.")
@click.option("--fetch", is_flag=True, help="Download weights that the bundle lacks from the addresses that it names.")
@time_limit_option("Stop what a bundle's model needs longer for.")
@place_options
@json_option
def command(
    *,
    place: Place,
    model: str | None,
    sample: int | None,
    seed: int,
    device: str,
    bundle: Path | None,
    trust_code: bool,
    fetch: bool,
    time_limit: float,
    as_json: bool,
) -> None:
    """Re-check the board's evidence, or that of one MODEL, with forward passes only.

    For every sample: the evidence file has its digest; the example lies in the box, changes the label, and is exactly
    as far as the ledger says; none is nearer; distance 0 means misclassified. Exit code 4, and the list, where
    something is off. Of rows that were checked whole, the database keeps when and by what: the site marks them.
    """
    from benchmark.cli.evaluate import check_device

    check_device(device)
    if bundle is not None:
        from benchmark.apart import Limits
        from benchmark.evidence.ingest import verify_apart

        if model is not None:
            raise click.UsageError("Give a MODEL or --bundle, not both.")
        report = verify_apart(
            bundle,
            limits=Limits(seconds=time_limit),
            samples=sample,
            seed=seed,
            device=device,
            trust_code=trust_code,
            fetch=fetch,
        )
    else:
        from benchmark.evidence.check import verify_board
        from benchmark.evidence.store import EvidenceStore

        workspace, begin = place.workspace, datetime.now(UTC)
        report = verify_board(
            place.database,
            EvidenceStore(workspace.artifacts, cached=False),
            [workspace.models],
            slug=model,
            samples=sample,
            seed=seed,
            device=device,
        )
        _record(place, report, device, begin)
    print_report(report, as_json=as_json)
    if report.problems or not report.samples:  # an empty check is no success
        click.get_current_context().exit(4)


def _record(place: Place, report: Report, device: str, begin: datetime) -> None:
    """Write down which rows were sound; a database that may only be read is verified all the same."""
    from benchmark.board.verified import record_verified
    from benchmark.jobs.provenance import provenance
    from db.errors import UnavailableError

    found = provenance(device)
    versions = found["packages"]
    by = f"curveboard {versions['curveboard']}, torch {versions['torch']}, {found['device']}"
    try:
        with place.database.write() as session:
            for row in report.sound:
                detail = {"by": by, "samples": row.samples, "examples": row.examples}
                record_verified(session, model_id=row.model_id, dataset_id=row.dataset_id, at=begin, detail=detail)
    except UnavailableError as error:
        report.notes.append(f"what was checked is not written down: {error}")


def print_report(report: Report, *, as_json: bool) -> None:
    """Print what was checked and what is off."""
    if as_json:
        echo_json({name: value for name, value in dataclasses.asdict(report).items() if name != "sound"})
        return
    for note in report.notes:
        click.echo(f"Note: {note}")
    for problem in report.problems:
        click.echo(f"OFF  {problem}")
    checked = f"{report.models} models, {report.files} evidence files, {report.examples} adversarial examples"
    verdict = f"{len(report.problems)} things are off" if report.problems else "all as the ledger says"
    if not report.samples and not report.problems:
        verdict = "nothing could be checked"
    click.echo(f"Checked {checked}, {report.samples} clean images: {verdict}.")
