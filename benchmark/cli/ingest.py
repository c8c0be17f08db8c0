"""``curveboard ingest``: a bundle into this database."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options, time_limit_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--device", default="cpu", metavar="cpu|cuda", help="Where the model runs.", show_default=True)
@click.option("--trust-code", is_flag=True, help="Let the bundle's Python code run, in a process of its own.")
@click.option("--fetch", is_flag=True, help="Download weights that the bundle lacks from the addresses that it names.")
@time_limit_option("Stop what the bundle's model needs longer for.")
@place_options
@json_option
def command(
    *, place: Place, file: Path, device: str, trust_code: bool, fetch: bool, time_limit: float, as_json: bool
) -> None:
    """Verify the bundle FILE, then take into this board what is new in it.

    Nothing is believed that forward passes can check. Scores that they cannot (CLEVER, certificates) are taken as the
    bundle gives them, their provenance naming it. That nothing nearer was found cannot be proven: the row is shown as
    reported by another board, and ranked after curveboard recheck. Exit code 4, and nothing is changed, where something
    is off.
    """
    from benchmark.apart import Limits
    from benchmark.board.dataset_facts import store_dataset_facts
    from benchmark.cli.evaluate import check_device
    from benchmark.cli.verify import print_report
    from benchmark.evidence.ingest import ingest
    from benchmark.evidence.store import EvidenceStore

    check_device(device)
    workspace = place.workspace
    outcome = ingest(
        place.database,
        EvidenceStore(workspace.artifacts),
        workspace.models,
        file,
        device=device,
        trust_code=trust_code,
        fetch=fetch,
        limits=Limits(seconds=time_limit),
    )
    store_dataset_facts(place.database, report=lambda text: click.echo(text, err=True))
    if as_json:
        echo_json(
            {
                "model": outcome.slug,
                "entered": outcome.entered,
                "known": outcome.known,
                "notes": outcome.notes,
                "problems": [str(problem) for problem in outcome.report.problems],
            }
        )
    else:
        print_report(outcome.report, as_json=False)
        for note in outcome.notes:
            click.echo(f"Note: {note}")
        if outcome.report.problems:
            click.echo("Nothing was changed.")
        else:
            click.echo(f"{outcome.slug}: {outcome.entered} evaluations entered, {outcome.known} were here already.")
            if outcome.entered:
                click.echo(f"Search yourself, so that it is ranked: curveboard recheck {outcome.slug}")
    if outcome.report.problems:
        click.get_current_context().exit(4)
