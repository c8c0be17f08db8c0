"""The zoo's exceptions, in one tree.

::

    ZooError                   an expected error: the command line prints it and exits with 1
    ├── UnknownEntryError      no model, or no architecture, of that name; carries the nearest names
    ├── CardError              a model.toml or an entry that cannot be read, or says something impossible
    ├── FetchError             a file could not be had from any of its addresses
    │   └── DigestError        a file is there, but it is not the file that was asked for
    ├── WeightsError           a weight file of an unsafe, damaged or unsuitable kind
    ├── CodeError              submitted code: not trusted, over its limits, or failed
    ├── FrameworkError         a model of another framework that cannot be taken as it is
    ├── TrainingError          a training run that cannot begin, or went wrong
    └── OwnCodeError           a Python file of the workspace itself that cannot be imported

Every message says what happened, the value seen, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def shown(error: BaseException) -> str:
    """Another library's error in one short line, without the control characters that a hostile file may put into it."""
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {''.join(c for c in text if c.isprintable())}"


class ZooError(Exception):
    """An expected error of the zoo; its text is written for the user."""


class UnknownEntryError(ZooError):
    """Nothing in the zoo has the name given.

    Args:
        kind: What was looked up: ``"model"`` or ``"architecture"``.
        name: The name given.
        known: All names there are.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = (
            f"Did you mean {' or '.join(repr(n) for n in near)}?" if near else f"Known: {', '.join(names) or 'none'}."
        )
        if kind == "architecture":
            hint += " One of your own comes as a program: curveboard submit --init FOLDER --form pt2."
        super().__init__(f"There is no {kind} called {name!r} in the zoo. {hint}")
        self.kind, self.name, self.nearest = kind, name, near


class CardError(ZooError):
    """A card cannot be read, or says something impossible."""


class FetchError(ZooError):
    """A file could not be had."""


class DigestError(FetchError):
    """A file is not the one that was asked for: its size or SHA-256 differs."""


class WeightsError(ZooError):
    """A weight file is of an unsafe kind, damaged, or does not fit its architecture."""


class CodeError(ZooError):
    """Submitted code is not trusted, went over its limits, or failed."""


class FrameworkError(ZooError):
    """A model of another framework (JAX, Keras) is none, or cannot be taken as it is."""


class TrainingError(ZooError):
    """A training run cannot begin (settings, data), or its loss is no longer finite."""


class OwnCodeError(ZooError):
    """A Python file of the workspace cannot be imported."""
