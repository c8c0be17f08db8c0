"""What counts as success, and threats: a norm with a goal. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from benchmark.errors import InputError
from benchmark.threat.names import Norm, get_norm

UNTARGETED: Final = "untargeted"
"""The goal of any class but the label."""

TARGETED: Final = "targeted"
"""What every other goal begins with: a class named for each sample. What follows says how it is chosen."""

_SLUG: Final = re.compile(r"targeted(-[a-z0-9]+)*\Z")


def check_goal(goal: str) -> str:
    """The goal, or an `InputError`: ``untargeted``, ``targeted`` or ``targeted-<how the targets are chosen>``."""
    if goal != UNTARGETED and not _SLUG.match(goal):
        raise InputError(
            f"There is no goal {goal!r}; it is {UNTARGETED!r}, or {TARGETED!r} with how targets are chosen, in "
            f"lower-case letters, digits and hyphens, for instance 'targeted-next'."
        )
    return goal


@dataclass(frozen=True, order=True)
class Threat:
    """A norm and a goal.

    Attributes:
        norm: Name of a registered norm.
        goal: ``untargeted``, or ``targeted-…``.

    Raises:
        UnknownNameError: If there is no such norm.
        InputError: If the goal is none.
    """

    norm: Norm
    goal: str = UNTARGETED

    def __post_init__(self) -> None:
        get_norm(self.norm)
        check_goal(self.goal)

    @property
    def key(self) -> str:
        """How it is stored and named: ``"linf"``, or with another goal than untargeted ``"linf-targeted-next"``."""
        return self.norm if self.goal == UNTARGETED else f"{self.norm}-{self.goal}"

    @property
    def targeted(self) -> bool:
        """Whether a target class is named for each sample."""
        return self.goal != UNTARGETED

    @property
    def title(self) -> str:
        """For people: the norm's symbol, and the goal if it is not untargeted."""
        symbol = get_norm(self.norm).symbol
        return symbol if not self.targeted else f"{symbol}, {self.goal.replace('-', ' ')}"

    @classmethod
    def parse(cls, key: str) -> Threat:
        """The threat of a key; raises as the class does."""
        norm, _, goal = key.partition("-")
        if goal == UNTARGETED:
            raise InputError(f"The key of an untargeted threat is its norm alone: {norm!r}, not {key!r}.")
        if key.endswith("-"):
            raise InputError(f"A threat's key is a norm, or a norm, a hyphen and a goal; got {key!r}.")
        return cls(norm, goal or UNTARGETED)
