"""Copy a whole database to another server or file: SQLite to PostgreSQL and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Table, func, insert, select, text

from db.errors import DatabaseError
from db.schema import Base, Evaluation, State
from db.session import Database, translated

ROWS: Final = 500
"""Rows that are held and written at once."""


def copy_database(
    source: Database, target: Database, *, report: Callable[[str, int], None] = lambda _name, _rows: None
) -> Mapping[str, int]:
    """Copy every table, keys and all, in one transaction of the target: it is whole or untouched.

    Args:
        source: At the newest migration; nothing is written to it. It is read as it stood when the copy began.
        target: At the newest migration, with no rows.
        report: Told each table's name and number of rows once it is copied.

    Returns:
        Rows copied, by table.

    Raises:
        DatabaseError: If the two are one database, the target holds rows, an evaluator is at work in the source, or
            the numbers of rows differ in the end.
        db.errors.RevisionError: If one of them is of another version.
    """
    source.require_head()
    target.require_head()
    if source.url == target.url:
        raise DatabaseError(f"{source} cannot be copied onto itself; give another URL.")
    tables = Base.metadata.sorted_tables
    with (
        translated(source.url),
        source.engine.connect() as reader,
        translated(target.url),
        target.engine.begin() as writer,
    ):
        _one_state(reader)
        _refuse_running(reader, source)
        _refuse_full(writer, target, tables)
        counts = {}
        for table in tables:
            for rows in _rows(reader, table):
                writer.execute(insert(table), rows)
            counts[table.name] = _count(writer, table)
            if counts[table.name] != (wanted := _count(reader, table)):
                raise DatabaseError(f"{table.name}: {counts[table.name]} rows arrived of {wanted}; nothing was kept.")
            _continue_numbering(writer, table)
            report(table.name, counts[table.name])
    return counts


def _one_state(reader: Connection) -> None:
    """Every table as of one moment. SQLite's read transaction is that already."""
    if reader.dialect.name == "postgresql":
        reader.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


def _refuse_running(reader: Connection, source: Database) -> None:
    query = select(func.count()).select_from(Evaluation).where(Evaluation.state == State.RUNNING)
    if running := reader.scalar(query):
        raise DatabaseError(
            f"{running} evaluations are running in {source}: what they commit later would be lost. Stop the evaluators "
            "(Ctrl-C lets them finish their chunk); of evaluators that died, run curveboard evaluate once."
        )


def _refuse_full(writer: Connection, target: Database, tables: list[Table]) -> None:
    if full := next((table.name for table in tables if _count(writer, table)), None):
        raise DatabaseError(f"{target} holds rows already (in {full}); copy into an empty one (curveboard db upgrade).")


def _rows(reader: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    found = reader.execute(select(table).order_by(*table.primary_key.columns))
    for part in found.mappings().partitions(ROWS):
        yield [dict(row) for row in part]


def _count(connection: Connection, table: Table) -> int:
    return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def _continue_numbering(writer: Connection, table: Table) -> None:
    """Let PostgreSQL number new rows after the copied ones; SQLite does so by itself."""
    if writer.dialect.name != "postgresql" or "id" not in table.primary_key.columns:
        return
    last = writer.scalar(select(func.max(table.c.id)))
    if last is not None:
        sequence = writer.scalar(select(func.pg_get_serial_sequence(table.name, "id")))
        writer.execute(select(func.setval(sequence, last)))
