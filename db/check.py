"""What a database holds that it cannot hold: damaged pages, broken references, values of another kind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Float, Integer, String, TypeDecorator

from db.errors import DamagedError
from db.schema import Base
from db.session import Database, translated
from db.types import UtcDateTime

MOST: Final = 50
"""Findings told of one table."""

_KINDS: Final[tuple[tuple[type, tuple[type, ...]], ...]] = (
    (Integer, (int,)),
    (Float, (int, float)),
    (String, (str,)),
    (UtcDateTime, (datetime,)),
)


def damage(database: Database) -> list[str]:
    """Everything in the database that cannot be read, each in a line that names table, row and column."""
    found: list[str] = []
    with translated(database.url), database.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            found += _pages(connection)
        for table in Base.metadata.sorted_tables:
            try:
                found += [line for line, _ in zip(_rows(connection, table), range(MOST), strict=False)]
            except DBAPIError as error:
                found.append(f"{table.name}: cannot be read to its end: {str(error.orig).strip()}")
    return found


def _pages(connection: Connection) -> list[str]:
    try:
        said = [str(row[0]) for row in connection.exec_driver_sql(f"PRAGMA integrity_check({MOST})")]
        loose = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(MOST)
    except DBAPIError as error:
        return [f"the file is damaged: {str(error.orig).strip()}"]
    found = [f"the file is damaged: {' '.join(line.split())}" for line in said if line != "ok"]
    return found + [f"{row[0]}, row {row[1]}: refers to a row of {row[2]} that is not there" for row in loose]


def _rows(connection: Connection, table: Table) -> Iterator[str]:
    keys = list(table.primary_key.columns)
    for column in table.columns:
        if not isinstance(column.type, TypeDecorator | Integer | Float | String):
            continue
        try:
            for row in connection.execute(select(*keys, column.label("checked"))):
                if reason := _odd(column, row[-1]):
                    yield f"{_where(table, column, row[:-1])}: {reason}"
        except DamagedError:  # one of them; to find which, each alone
            for key in connection.execute(select(*keys)).all():
                this = [part == value for part, value in zip(keys, key, strict=True)]
                try:
                    connection.execute(select(column).where(*this)).first()
                except DamagedError as error:
                    yield f"{_where(table, column, key)}: {str(error.__cause__)[:200]}"


def _odd(column: Column[Any], value: Any) -> str:
    if value is None:
        return "" if column.nullable else "is missing"
    for kind, fitting in _KINDS:
        if isinstance(column.type, kind) and not isinstance(value, fitting):
            return f"holds {str(value)[:40]!r}, a {type(value).__name__}"
    return ""


def _where(table: Table, column: Column[Any], key: Any) -> str:
    return f"{table.name}, row {', '.join(str(part)[:64] for part in key)}, {column.name}"
