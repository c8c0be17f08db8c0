"""``curveboard db``: the database's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options

if TYPE_CHECKING:
    from db.session import Database


@click.group()
def command() -> None:
    """Upgrade and check the database's schema."""


@command.command()
@place_options
def upgrade(place: Place) -> None:
    """Create the tables or bring them to the newest migration."""
    from db.migrate import upgrade as migrate

    database = _unchecked(place)
    before = database.revision()
    migrate(database)
    click.echo(f"{database}: {before or 'empty'} → {database.revision()}")


@command.command()
@place_options
@json_option
def current(place: Place, as_json: bool) -> None:
    """Show the migration the database stands at, and the newest."""
    from db.session import HEAD

    database = _unchecked(place)
    revision = database.revision()
    if as_json:
        echo_json({"database": str(database), "current": revision, "head": HEAD})
    else:
        click.echo(f"{database}: {revision or 'empty'} (newest: {HEAD})")


@command.command()
@place_options
@json_option
def check(place: Place, as_json: bool) -> None:
    """Compare the database's tables with the schema; exit code 4 if they differ."""
    from db.migrate import differences

    database = place.database
    found = [str(d) for d in differences(database)]
    if as_json:
        echo_json({"database": str(database), "differences": found})
    else:
        click.echo("\n".join(found) or f"{database}: the tables are as the schema says.")
    if found:
        click.get_current_context().exit(4)


def _unchecked(place: Place) -> Database:
    """The database, whatever migration it stands at."""
    from db.session import Database

    return Database(place.database_url)
