"""``curveboard init``: make a workspace."""

from __future__ import annotations

from pathlib import Path

import click

from benchmark.workspace import Workspace


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@click.option("--database", metavar="URL", help="A database other than the SQLite file in the folder.")
def command(directory: Path, database: str | None) -> None:
    """Make a workspace in DIRECTORY (default: here).

    It gets curveboard.toml, a database at the newest migration, and folders for evidence, models and protocols.
    """
    from db.migrate import upgrade
    from db.session import Database

    workspace = Workspace.create(directory, database_url=database)
    upgrade(Database(workspace.database_url))
    click.echo(f"Made a workspace in {workspace.root}. Next: curveboard evaluate --plan")
