"""``curveboard db``: the database's schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmark.cli.options import Place, echo_json, json_option, place_options
from benchmark.workspace import absolute_url

if TYPE_CHECKING:
    from db.session import Database


@click.group()
def command() -> None:
    """Upgrade, check and copy the database."""


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
    """Compare the database's tables with the schema, and read all that is in them; exit code 4 if anything is off.

    Found are damaged pages, references to nothing, values of another kind than their column's, distances below 0,
    arrays of another shape than was declared, and lower bounds above verified distances.
    """
    from db.migrate import differences

    database = place.database
    found = [str(d) for d in differences(database)]
    off = faults(database)
    if as_json:
        echo_json({"database": str(database), "differences": found, "damage": off})
    else:
        click.echo("\n".join(found) or f"{database}: the tables are as the schema says.")
        click.echo("\n".join(off) or "All that is in them can be read, and can be so.")
    if found or off:
        click.get_current_context().exit(4)


@command.command()
@click.argument("url")
@place_options
def copy(place: Place, url: str) -> None:
    """Copy the workspace's database to URL, an empty database; both stay as they are.

    From SQLite to PostgreSQL (postgresql+psycopg://user@host/name) or back. Then point curveboard.toml, or the
    variable CURVEBOARD_DATABASE_URL, to it.
    """
    from db.copy import copy_database
    from db.migrate import upgrade as migrate
    from db.session import Database

    target = Database(absolute_url(url, Path.cwd()))
    if target.revision() is None:
        migrate(target)
    counts = copy_database(place.database, target, report=lambda name, rows: click.echo(f"{name:<20} {rows}"))
    click.echo(f"{sum(counts.values())} rows are now in {target}.")


def faults(database: Database) -> list[str]:
    """What the database holds and cannot hold."""
    from benchmark.board.soundness import unsound
    from db.check import damage
    from db.errors import DatabaseError

    found = damage(database)
    try:
        with database.read() as session:
            return found + [str(fault) for fault in unsound(session)]
    except DatabaseError as error:
        return found or [str(error)]


def _unchecked(place: Place) -> Database:
    """The database, whatever migration it stands at."""
    from db.session import Database

    return Database(place.database_url)
