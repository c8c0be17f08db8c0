"""``curveboard gc``: delete evidence that no ledger needs."""

from __future__ import annotations

import dataclasses

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be freed.")
@place_options
@json_option
def command(*, place: Place, dry_run: bool, as_json: bool) -> None:
    """Prune the evidence to what the ledgers need, and delete files that nothing refers to.

    All distances stay. Files younger than five minutes that nothing refers to are spared: an evaluator may be about to
    refer to them. What killed submissions left among the models goes after a day.
    """
    from benchmark.evidence.gc import collect
    from benchmark.evidence.store import EvidenceStore

    collected = collect(
        place.database, EvidenceStore(place.workspace.artifacts), models=place.workspace.models, dry_run=dry_run
    )
    if as_json:
        echo_json(dataclasses.asdict(collected) | {"dry_run": dry_run})
        return
    for note in collected.notes:
        click.echo(f"Left alone: {note}")
    verb = "Would delete" if dry_run else "Deleted"
    click.echo(
        f"{verb} {collected.files} files, pruned {collected.examples} examples, {collected.bytes:,} bytes in all."
    )
    if collected.spared:
        click.echo(f"Spared {collected.spared} files younger than five minutes; run it again later.")
