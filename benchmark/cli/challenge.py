"""``curveboard challenge``: adversarial examples that somebody else found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import NormName, Place, echo_json, json_option, place_options

if TYPE_CHECKING:
    from benchmark.evidence.challenge import Verdict
    from benchmark.jobs.brought import Answer

SHOWN = 40
"""Verdicts printed one by one; ``--json`` gives all."""


@click.command()
@click.argument("model")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dataset", metavar="NAME", help="The dataset the indices count (default: the model's).")
@click.option("--norm", type=NormName(), help="The norm they were made for; recorded.")
@click.option("--author", default="", metavar="NAME", help="Who found them; credited on the board.")
@click.option("--paper", default="", metavar="TEXT", help="Where the attack is described.")
@click.option("--device", default="cpu", metavar="cpu|cuda", help="Where they are checked.", show_default=True)
@click.option("--dry-run", is_flag=True, help="Check and answer; change nothing.")
@place_options
@json_option
def command(
    *,
    place: Place,
    model: str,
    file: Path,
    dataset: str | None,
    norm: str | None,
    author: str,
    paper: str,
    device: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Check the adversarial examples in FILE against MODEL and merge those that lower a distance.

    FILE is an .npz, .safetensors or .pt file with two arrays: "indices" (m,), positions in the dataset, and "examples"
    (m, c, h, w), floats in [0, 1]. Every example is re-checked with a forward pass, and the answer says what became of
    it. Whatever lowers a distance, in any norm, joins the board. Exit code 4 when no example holds; nothing is changed
    then.
    """
    from benchmark.cli.evaluate import check_device, setting_of
    from benchmark.data import get_dataset
    from benchmark.errors import InputError
    from benchmark.evidence.challenge import Credentials
    from benchmark.evidence.challenge_file import read_file
    from benchmark.jobs.brought import challenge
    from models_zoo import get_entry

    credentials = Credentials(norm, author, paper)
    entry = get_entry(model, [place.workspace.models])
    if dataset not in {None, entry.dataset}:
        raise InputError(f"The model {model!r} is for the dataset {entry.dataset!r}, not {dataset!r}.")
    data = get_dataset(entry.dataset)
    check_device(device)
    answer = challenge(
        setting_of(place, device),
        entry=entry,
        dataset=data,
        file=read_file(file, data),
        credentials=credentials,
        dry_run=dry_run,
    )
    if as_json:
        echo_json(_values(answer, dry_run=dry_run))
    else:
        _print(answer, dry_run=dry_run)
    if not answer.holding:
        click.get_current_context().exit(4)


def _values(answer: Answer, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "known": answer.known,
        "counts": answer.counts,
        "merged": answer.merged,
        "change": answer.change.detail if answer.change else None,
        "verdicts": [
            {
                "position": v.position,
                "index": v.index,
                "verdict": v.verdict,
                "detail": v.detail,
                "lowers": {norm: {"before": b, "after": a} for norm, (b, a) in v.lowers.items()},
            }
            for v in answer.verdicts
        ],
    }


def _print(answer: Answer, *, dry_run: bool) -> None:
    # What does not hold comes first: it is what the challenger can repair.
    ordered = sorted(answer.verdicts, key=lambda v: (v.verdict == "holds", not v.lowers, v.position))
    for verdict in ordered[:SHOWN]:
        click.echo(_line(verdict))
    if len(ordered) > SHOWN:
        click.echo(f"… and {len(ordered) - SHOWN} more; --json lists all.")
    lowering = sum(bool(v.lowers) for v in answer.verdicts)
    click.echo(f"{answer.holding} of {len(ordered)} examples hold, {lowering} lower a distance.")
    if answer.known:
        click.echo("This file was accepted before; nothing was changed.")
    elif dry_run or not answer.merged:
        click.echo("Nothing was changed.")
    else:
        click.echo(f"Merged {answer.merged} into the board. See: curveboard history")


def _line(verdict: Verdict) -> str:
    start = f"sample {verdict.index}: "
    if verdict.verdict != "holds":
        return f"{start}does not count: {verdict.verdict} ({verdict.detail})"
    if not verdict.lowers:
        return f"{start}holds, lowers nothing ({verdict.detail})"
    moves = ", ".join(f"{norm} {before:.6g} → {after:.6g}" for norm, (before, after) in verdict.lowers.items())
    return f"{start}holds, lowers {moves}"
