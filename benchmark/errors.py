"""The exceptions a user can meet, in one tree.

::

    BenchmarkError                 an expected error: the command line prints it and exits with 1
    ├── InputError                 images, labels, a file or an option the code cannot take
    │   └── UnknownNameError       no attack, measure, dataset, protocol … of that name; carries the nearest names
    ├── WorkspaceError             no workspace here, or one that cannot be read or written
    ├── EvidenceError              stored evidence is missing, damaged or does not hold
    ├── AccessError            an attack that asks for more of a model than it declares
    └── UnsupportedModelError      a measure that does not apply to this model (CROWN on an unknown operation …)

``models_zoo.errors.ZooError`` and ``db.errors.DatabaseError`` are the roots of the two packages that may not
import this one. Every message says what happened, the value seen, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchmarkError(Exception):
    """An expected error; its text is written for the user."""


class InputError(BenchmarkError):
    """Input the code cannot take."""


class UnknownNameError(InputError):
    """Nothing is registered under the name given.

    Args:
        kind: What was looked up, for instance ``"attack"``.
        name: The name given.
        known: All names there are.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = (
            f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else f"Known: {', '.join(names) or 'none'}."
        )
        super().__init__(f"There is no {kind} called {name!r}. {hint}")
        self.kind, self.name, self.nearest = kind, name, near


class WorkspaceError(BenchmarkError):
    """The workspace is missing, unreadable or not writable."""


class EvidenceError(BenchmarkError):
    """Stored evidence is missing, damaged, or does not prove what it claims."""


class AccessError(BenchmarkError):
    """An attack asked for more of a model than the access it declares."""


class UnsupportedModelError(BenchmarkError):
    """A measure that does not apply to this model."""
