"""Minimum-norm attacks, one a file, and their registry.

To add an attack, add a file here (or an entry point of the group ``curveboard.attacks``) that holds a constant
``ATTACK = Attack(...)``. An attack is a pure function of tensors; nothing it returns is believed before
`benchmark.verification.verify` has re-checked it, so a row where it found nothing is simply a row that does not hold
(the clean image, for instance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from torch import Tensor, nn

from benchmark.plugins import discover, look_up
from benchmark.results import Flag
from benchmark.threat import NORMS, Norm

Effort = Literal["quick", "standard", "thorough"]
"""How much an attack may spend."""

EFFORTS: tuple[Effort, ...] = ("quick", "standard", "thorough")


@dataclass(frozen=True)
class AttackResult:
    """What an attack claims.

    Attributes:
        adversarials: Candidate adversarial examples, shape (n, c, h, w), float32, on the model's device.
        flags: What the attack noticed about the model's reliability.
        origin: For each sample, the family within the attack that found its example; or empty.
    """

    adversarials: Tensor
    flags: tuple[Flag, ...] = ()
    origin: Sequence[str] = ()


class AttackFunction(Protocol):
    """An attack as a function."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
    ) -> AttackResult:
        """Search the nearest adversarial example of each sample.

        Args:
            model: Classifier in eval mode, images in [0, 1] -> logits (n, k).
            x: Images, shape (n, c, h, w), float32.
            y: Labels, shape (n,), int64.
            norm: The norm whose distance is to be small.
            effort: How much to spend.
            seed: The same seed gives the same result on the same machine.
            pool: Images of the same dataset to start from, shape (m, c, h, w), or None for ``x`` itself.
        """


@dataclass(frozen=True)
class Attack:
    """A registered attack.

    Attributes:
        name: The name in protocols, on the command line and on the board.
        version: Raised whenever the results can change; part of the evaluation's key.
        title: What it is, in one line.
        paper: Its source, for instance ``"Croce & Hein 2020, arXiv:1907.02044"``.
        run: The function.
        norms: The norms it attacks in.
        default: Whether protocols that ask for all attacks run it. An attack that is only there to compare says False.
    """

    name: str
    version: int
    title: str
    paper: str
    run: AttackFunction
    norms: tuple[Norm, ...] = NORMS
    default: bool = True


def attacks() -> Mapping[str, Attack]:
    """All registered attacks by name."""
    return cast("Mapping[str, Attack]", discover(__name__, "ATTACK"))


def get_attack(name: str) -> Attack:
    """The attack called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Attack", look_up("attack", name, attacks()))
