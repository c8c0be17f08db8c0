"""``curveboard credit``: what each attack contributed, and at what cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options

if TYPE_CHECKING:
    from benchmark.board.credit import AttackCredit
    from db.queries import Board


@click.command()
@click.option("--model", "-m", "slugs", multiple=True, metavar="MODEL", help="Only on this model; may be repeated.")
@click.option("--dataset", "-d", metavar="DATASET", help="Only boards of this dataset.")
@place_options
@json_option
def command(*, place: Place, slugs: tuple[str, ...], dataset: str | None, as_json: bool) -> None:
    """Show for each attack how many samples it alone decided, how much it lowered the curves, and its cost.

    "alone" counts samples whose distance would be larger by more than 1 % without it, "first" those for which nothing
    else found any example, "area" what it took off the area under the robust-accuracy curve up to the largest published
    eps, "drop" what it took off the robust accuracy at the smallest.
    """
    from benchmark.board.credit import credit
    from db.queries import boards

    with place.database.read() as session:
        found = [board for board in boards(session) if dataset in {None, board.dataset.name}]
        _refuse_unknown(found, slugs, dataset)
        credits = {
            board.slug: credit(
                session,
                dataset_id=board.dataset.id,
                n=board.n,
                model_ids=[row.model.id for row in board.ranked if not slugs or row.model.slug in slugs],
            )
            for board in found
        }
    if as_json:
        echo_json({name: [dataclasses.asdict(c) for c in given] for name, given in credits.items()})
        return
    for name, given in credits.items():
        click.echo(f"{name}:")
        echo_table(list(_rows(given)), empty="No complete row of this board was attacked.")


def _refuse_unknown(found: list[Board], slugs: tuple[str, ...], dataset: str | None) -> None:
    from benchmark.errors import InputError, UnknownNameError

    if dataset is not None and not found:
        raise InputError(f"There is no board of a dataset called {dataset!r}.")
    known = {row.model.slug for board in found for row in board.rows}
    for slug in slugs:
        if slug not in known:
            raise UnknownNameError("model on this board", slug, known)


def _rows(given: list[AttackCredit]) -> Iterator[dict[str, Any]]:
    for c in given:
        drop = next(iter(c.robust_accuracy.items()), None)
        yield {
            "norm": c.norm,
            "by": c.contributor,
            "models": c.models,
            "alone": f"{c.decided} of {c.samples}",
            "first": c.found,
            "area": c.area,
            "drop": None if drop is None else f"{drop[1]:.1%} at {drop[0]:g}",
            "seconds": c.seconds,
            "passes": f"{c.forward_passes:,} + {c.backward_passes:,}",
        }
