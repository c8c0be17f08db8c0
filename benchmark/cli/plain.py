"""What strangers wrote is printed so that a terminal shows it and does nothing else."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

KEPT: Final = frozenset("\n\t")
ODD: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories of what controls a terminal, turns the direction of text, or shows as nothing."""


def plain(text: str) -> str:
    r"""The text with control characters, bidirectional marks and the like written out as ``\u001b`` or ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in KEPT or unicodedata.category(c) not in ODD else _written_out(c) for c in text)


def _written_out(character: str) -> str:
    """As JSON writes it, so that printed JSON stays JSON."""
    return json.dumps(character)[1:-1] if ord(character) > 126 else f"\\u{ord(character):04x}"


class PlainStream:
    """A text stream that everything printed goes through.

    Args:
        stream: The stream, which programs that drive a terminal themselves may use as it is.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write it, made plain."""
        self.stream.write(plain(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """Print nothing raw while the block runs."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("Any", PlainStream(out)), cast("Any", PlainStream(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
