"""``curveboard backup``: the whole board in one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@place_options
@json_option
def command(*, place: Place, file: Path, as_json: bool) -> None:
    """Write settings, database, evidence and submitted models into FILE, consistent with each other.

    Evaluators may be at work meanwhile. Nothing is written if evidence is missing or damaged. A database on a server is
    backed up by its own tools (pg_dump), then the evidence.
    """
    from benchmark.evidence.backup import backup

    done = backup(place.workspace, place.database, file)
    if as_json:
        echo_json(dataclasses.asdict(done))
        return
    click.echo(f"{done.path}: the database, {done.evidence} evidence files, {done.files} others; {done.bytes:,} bytes.")
    click.echo(f"Restore it: curveboard restore {done.path} FOLDER")
