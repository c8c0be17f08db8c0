"""``curveboard withdraw``: take what turned out to be wrong off the board."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options

if TYPE_CHECKING:
    from db.schema import Change


@click.command()
@click.option("--model", "-m", metavar="MODEL", help="This model; with --key, --measure or --attack only theirs of it.")
@click.option("--key", metavar="KEY", help="This evaluation (curveboard show MODEL --json gives the keys).")
@click.option("--measure", metavar="NAME", help="All of this measure, for instance challenge.")
@click.option("--attack", metavar="NAME", help="All of this attack.")
@click.option("--attack-version", type=click.IntRange(min=0), metavar="N", help="Only of this version of the attack.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; the changelog shows it.")
@place_options
@json_option
def command(
    *,
    place: Place,
    model: str | None,
    key: str | None,
    measure: str | None,
    attack: str | None,
    attack_version: int | None,
    reason: str,
    as_json: bool,
) -> None:
    """Withdraw a model, an evaluation, a challenge, or what an attack found.

    A withdrawn result leaves the ledger, and ranks follow; a withdrawn model leaves the ranking. Nothing is deleted:
    the changelog says what was withdrawn, and why. A withdrawn evaluation runs again only with --rerun failed.
    """
    from benchmark.board.withdraw import withdraw_evaluations, withdraw_model

    changes: list[Change] = []
    with place.database.write() as session:
        if model is not None and key is None and measure is None and attack is None:
            changes += withdraw_model(session, model, reason)
        else:
            changes += withdraw_evaluations(
                session,
                reason,
                key=key,
                measure=measure,
                attack=attack,
                attack_version=attack_version,
                model=model,
            )
        said = [str(change.detail["what"]) for change in changes]
    if as_json:
        echo_json({"withdrawn": said, "reason": reason})
        return
    for what in said:
        click.echo(f"Withdrawn: {what}")
