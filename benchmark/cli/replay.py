"""``curveboard replay``: every stored adversarial example tried on every other model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from benchmark.cli.options import Place, echo_json, echo_table, json_option, place_options, readable_models

if TYPE_CHECKING:
    from benchmark.jobs.brought import Replayed
    from models_zoo import Entry


@click.command()
@click.argument("model", required=False)
@click.option("--device", default="cpu", metavar="cpu|cuda", help="Where the models run.", show_default=True)
@click.option("--dry-run", is_flag=True, help="Only try; change nothing.")
@place_options
@json_option
def command(*, place: Place, model: str | None, device: str, dry_run: bool, as_json: bool) -> None:
    """Try every stored adversarial example on every other model of its dataset, or only on MODEL.

    It costs forward passes only, and an example that was tried before is not tried again. Where one lowers a distance,
    the changelog names the model it was made for.
    """
    from benchmark.cli.evaluate import check_device, setting_of
    from benchmark.data import get_dataset
    from benchmark.jobs.brought import replay

    check_device(device)
    setting = setting_of(place, device)
    found = [
        replay(setting, entry=entry, dataset=get_dataset(entry.dataset), dry_run=dry_run)
        for entry in _entries(place, model)
    ]
    if as_json:
        echo_json([_values(replayed) for replayed in found])
        return
    echo_table(list(_rows(found)), empty="There is no model on this board.")
    if dry_run:
        click.echo("Nothing was changed.")


def _entries(place: Place, slug: str | None) -> list[Entry]:
    """The models of the board whose weights are here, or the one asked for."""
    from benchmark.errors import UnknownNameError
    from db.queries import find_models

    with place.database.read() as session:
        rows = {(found.slug, found.digest) for found in find_models(session)}
    entries = readable_models([place.workspace.models])
    known = {name: entry for name, entry in entries.items() if (name, entry.digest) in rows}
    if slug is not None and slug not in known:
        raise UnknownNameError("model on this board", slug, known)
    return [entry for name, entry in known.items() if slug in {None, name}]


def _values(replayed: Replayed) -> dict[str, Any]:
    return {
        "model": replayed.slug,
        "files": replayed.files,
        "tried": replayed.tried,
        "passed": replayed.passed,
        "wins": replayed.wins,
    }


def _rows(found: Sequence[Replayed]) -> Iterator[dict[str, Any]]:
    for replayed in found:
        wins = [
            f"{norm} {sum(sources.values())} ({', '.join(f'{count} of {slug}' for slug, count in sources.items())})"
            for norm, sources in replayed.wins.items()
        ]
        yield {
            "model": replayed.slug,
            "tried": replayed.tried,
            "passed": replayed.passed,
            "lowered": "; ".join(wins) or "nothing",
        }
