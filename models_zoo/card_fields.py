"""The fields of a card's tables, each taken once and checked; what is left over is unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from models_zoo.errors import CardError

MAX_TEXT: Final = 500
WORDS: Final = {str: "text", int: "whole number", float: "number", bool: "true or false", list: "list", dict: "table"}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value) and all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, int):
        return abs(value) < 2**63
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


class Fields:
    """The fields of a table.

    Args:
        table: As read from TOML.
        where: What stands before a field's name in errors, for instance ``"model."``.
    """

    def __init__(self, table: Any, where: str) -> None:
        if not isinstance(table, Mapping):
            raise CardError(f"{where or 'The card'} is {table!r}; it is a table.")
        self._table, self._where, self._known = table, where, set[str]()

    def value(self, key: str, kind: type, *, required: bool = False) -> Any:
        """The value of a field, of that kind; None where it is absent."""
        self._known.add(key)
        value = self._table.get(key)
        if value is None and required:
            raise CardError(f"The field {self._where}{key} is missing.")
        if value is not None and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise CardError(f"{self._where}{key} is {repr(value)[:60]}; it is a {WORDS[kind]}.")
        return value

    def plain(self, key: str, kind: type) -> Any:
        """A value that goes into the digest: of texts, whole and finite numbers, lists and tables alone."""
        value = self.value(key, kind)
        if value is not None and not _is_plain(value):
            raise CardError(
                f"{self._where}{key} holds {repr(value)[:60]}; it holds texts, finite numbers, lists, tables."
            )
        return value or kind()

    def text(self, key: str, *, required: bool = False) -> str:
        """A printable text; empty where it is absent."""
        value = self.value(key, str, required=required)
        return self._printable(key, value) if value else ""

    def texts(self, key: str) -> list[str]:
        """A list of printable texts."""
        values = self.value(key, list) or []
        if not all(isinstance(value, str) for value in values):
            raise CardError(f"{self._where}{key} is {values!r}; it is a list of texts.")
        return [self._printable(key, value) for value in values]

    def _printable(self, key: str, value: str) -> str:
        if len(value) > MAX_TEXT or not all(c.isprintable() or c == "\n" for c in value):
            raise CardError(
                f"{self._where}{key} is {value[:60]!r}; it has at most {MAX_TEXT} characters and no control characters."
            )
        return value

    def integer(self, key: str, *, required: bool = False) -> int | None:
        """A whole number, or None."""
        return cast("int | None", self.value(key, int, required=required))

    def number(self, key: str, *, required: bool = False) -> float | None:
        """A finite number, or None."""
        value = self._table.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            self._known.add(key)
            return float(value)
        value = self.value(key, float, required=required)
        if value is not None and not -1e300 < value < 1e300:
            raise CardError(f"{self._where}{key} is {value}; it is a finite number.")
        return cast("float | None", value)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """A text that is one of the choices."""
        value = self.text(key, required=True)
        if value not in choices:
            raise CardError(f"{self._where}{key} is {value!r}; it is one of {', '.join(choices)}.")
        return value

    def table(self, key: str) -> Fields:
        """A table within the table."""
        return Fields(self.value(key, dict) or {}, f"{self._where}{key}.")

    def tables(self, key: str) -> list[Fields]:
        """A list of tables."""
        return [Fields(table, f"{self._where}{key}.") for table in self.value(key, list) or []]

    def refuse_unknown(self) -> None:
        """Raise `CardError` if a field was not asked for."""
        if unknown := sorted(set(self._table) - self._known):
            raise CardError(
                f"There is no field {self._where}{unknown[0]}. Known here: {', '.join(sorted(self._known))}."
            )
