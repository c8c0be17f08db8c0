"""Alembic's environment: the connection is handed over by `db.migrate`."""

from typing import Any, Literal

from alembic import context

from db.schema import Base
from db.types import ArrayBlob, Json, StateName, UtcDateTime, Whole


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Write a column's plain type into a migration: what our decorators are named may change, history may not."""
    if kind == "type" and isinstance(item, ArrayBlob):
        return "sa.LargeBinary()"
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, Json):
        return "sa.JSON()"
    if kind == "type" and isinstance(item, Whole):
        return "sa.Integer()"
    if kind == "type" and isinstance(item, StateName):
        return "sa.String(length=16)"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=render_item,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
