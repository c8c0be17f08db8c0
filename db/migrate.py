"""Bring a database to the newest schema, and compare the two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from db.errors import DatabaseError, UnavailableError
from db.schema import Base
from db.session import Database, translated
from db.urls import sqlite_file


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The newest migration in the package."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def upgrade(database: Database) -> None:
    """Create or migrate the tables to the newest schema; SQLite's file is made if need be, and put into WAL mode."""
    if database.is_missing and (path := sqlite_file(database.url)) is not None:
        try:
            path.touch(exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"The database {database} cannot be made: {error.strerror or error}.") from error
    with translated(database.url):
        if database.engine.dialect.name == "sqlite":
            raw = database.engine.raw_connection()  # a PRAGMA that cannot run inside a transaction
            try:
                cursor = raw.cursor()
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.close()
            finally:
                raw.close()
        with database.engine.connect() as connection, _keys_unchecked(connection), connection.begin():
            command.upgrade(_config(connection), "head")
            if connection.dialect.name == "sqlite":
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                if broken:  # the transaction is undone
                    raise DatabaseError(f"After the migration {len(broken)} rows would refer to rows that are missing.")


@contextmanager
def _keys_unchecked(connection: Connection) -> Iterator[None]:
    """SQLite changes a column by making its table anew, and would delete what refers to the old one."""
    if connection.dialect.name != "sqlite":
        yield
        return
    raw = connection.connection.cursor()
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        raw.execute("PRAGMA foreign_keys = ON")
        raw.close()


def differences(database: Database) -> list[Any]:
    """What the database's tables lack or have too much against the schema; empty when they agree."""
    with translated(database.url), database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))
