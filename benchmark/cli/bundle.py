"""``curveboard bundle``: a row of the board as one file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options


@click.command()
@click.argument("model")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The file to write (default: MODEL.bundle).")
@click.option("--no-weights", is_flag=True, help="Leave the model's files out; the other machine must fetch them.")
@place_options
@json_option
def command(*, place: Place, model: str, output: Path | None, no_weights: bool, as_json: bool) -> None:
    """Pack MODEL's card, weights, scores, evidence and provenance into one file.

    Verify it on another machine, offline: curveboard verify --bundle FILE. Take it into another database: curveboard
    ingest FILE.
    """
    from benchmark.evidence.bundle import write_bundle
    from benchmark.evidence.store import EvidenceStore

    workspace = place.workspace
    bundled = write_bundle(
        place.database,
        EvidenceStore(workspace.artifacts),
        [workspace.models],
        model,
        output or Path(f"{model}.bundle"),
        weights=not no_weights,
    )
    if as_json:
        echo_json(dataclasses.asdict(bundled))
        return
    parts = ["the model's files" if bundled.weights else "", "the images" if bundled.dataset else ""]
    also = " and ".join(part for part in parts if part)
    click.echo(
        f"{bundled.path}: {bundled.evaluations} evaluations, {bundled.evidence} evidence files"
        f"{f', with {also}' if also else ''}; {bundled.bytes:,} bytes."
    )
    click.echo(f"Check it: curveboard verify --bundle {bundled.path}")
