"""The kinds of columns: what the database holds of another kind is said in words, never believed."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import JSON, DateTime, Dialect, Enum, Integer, LargeBinary, Text, TypeDecorator

from db.errors import DamagedError
from db.texts import plain


class State(StrEnum):
    """Where an evaluation stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNSUPPORTED = "unsupported"
    """The measure does not apply to the model; the reason says why."""
    WITHDRAWN = "withdrawn"
    """Retracted by the maintainer, for the reason; it has left the ledger."""


class _Checked(TypeDecorator[Any]):
    """A type that says so, in words, where the database holds something else."""

    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any | None], Any] | None:
        """As usual, but what cannot be read is a `DamagedError`."""
        inner = super().result_processor(dialect, coltype)
        if inner is None:
            return None

        def process(value: Any) -> Any:
            try:
                return inner(value)
            except (ValueError, TypeError, LookupError, EOFError, SyntaxError, MemoryError, OSError) as error:
                raise DamagedError(
                    f"The database holds what is no {type(self).__name__}: {str(error)[:200] or repr(error)}. "
                    "curveboard db check names the row; restore it from a backup, or withdraw and run it again."
                ) from error

        return process


class ArrayBlob(_Checked):
    """A numpy array as the bytes of a ``.npy`` file, never pickled."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: NDArray[Any] | None, dialect: Dialect) -> bytes | None:
        """Array to bytes."""
        if value is None:
            return None
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(value), allow_pickle=False)
        return buffer.getvalue()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> NDArray[Any] | None:
        """Bytes to array."""
        return None if value is None else np.load(io.BytesIO(value), allow_pickle=False)


class Json(_Checked):
    """A JSON table or list, and nothing else.

    Args:
        kind: ``dict`` or ``list``.
    """

    impl = JSON
    cache_ok = True

    def __init__(self, kind: type = dict) -> None:
        super().__init__()
        self.kind = kind

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """What is compared with a part of it is of that part's type."""
        return JSON().coerce_compared_value(op, value)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """As it is."""
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Refuse other JSON."""
        if value is not None and not isinstance(value, self.kind):
            raise TypeError(f"{str(value)[:40]!r} where a {self.kind.__name__} is expected")
        return value


class DatasetCard(Json):
    """The card of a dataset: a JSON table whose published budgets are finite numbers above 0."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Refuse budgets that are none."""
        card = super().process_result_value(value, dialect)
        budgets = {} if card is None else card.get("eps", {})
        if not isinstance(budgets, dict) or not all(isinstance(values, list) for values in budgets.values()):
            raise TypeError(f"the published eps {str(budgets)[:40]!r}")
        for norm, values in budgets.items():
            for eps in values:
                if not isinstance(eps, int | float) or not 0 < eps < float("inf"):
                    raise ValueError(f"the published eps {eps!r} {norm} is no finite number above 0")
        return card


class Whole(_Checked):
    """A whole number; SQLite would keep a word in its place."""

    cache_ok = True
    impl = Integer

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """Refuse what is none."""
        if value is not None and not isinstance(value, int):
            raise TypeError(f"{str(value)[:40]!r} where a whole number is expected")
        return value


class Told(_Checked):
    """A text for people, which the site shows: without the paths of this machine, and without passwords."""

    cache_ok = True
    impl = Text

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Leave them out."""
        return None if value is None else plain(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Leave them out of what earlier versions have written."""
        return None if value is None else plain(value)


class StateName(_Checked):
    """An evaluation's state, by its name."""

    cache_ok = True
    impl = Enum(State, native_enum=False, length=16, values_callable=lambda states: [s.value for s in states])


class UtcDateTime(_Checked):
    """A moment in time; always UTC, also on databases that drop the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times, store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"A naive time, {value}, cannot be stored; give it a zone.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        return None if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
