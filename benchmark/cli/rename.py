"""``curveboard rename``: another name for a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--reason", default="", metavar="TEXT", help="Why; the changelog shows it.")
@place_options
@json_option
def command(*, place: Place, old: str, new: str, reason: str, as_json: bool) -> None:
    """Give the workspace's model OLD the name NEW.

    Its results, evidence and history stay with it. The changelog says so, and tells of it by the old name until then.
    No other model can have the old name afterwards. Interrupted, it is finished by the same command.
    """
    from benchmark.board.names import rename_model
    from db.queries import find_models, former_names
    from models_zoo.renaming import named_anew

    _refuse_names(old, new)
    models = place.workspace.models
    with named_anew(models, old, new) as moved, place.database.write() as session:
        known = bool(find_models(session, old))
        finished = former_names(session).get(old) == new
        if known or not (moved or finished):
            rename_model(session, old, new, reason)
    if as_json:
        echo_json({"from": old, "to": new, "reason": reason, "folder": str(_folder(models, new))})
    else:
        click.echo(f"{old} is called {new} now.")


def _refuse_names(old: str, new: str) -> None:
    from benchmark.errors import InputError
    from models_zoo import catalogue
    from models_zoo.cards import check_slug

    if old == new:
        raise InputError(f"The model is called {old!r} already.")
    if old in catalogue():
        raise InputError(f"The model {old!r} comes with the package, which names it; only the workspace's are renamed.")
    check_slug(new)
    if new in catalogue():
        raise InputError(f"The zoo has a model called {new!r}; choose another name.")


def _folder(models: Path, slug: str) -> Path | None:
    found = models / slug
    return found if found.is_dir() else None
