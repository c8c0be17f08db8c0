"""How much each effort spends on each family, and the settings that all efforts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from benchmark.attacks import Effort
from benchmark.results import Work
from benchmark.threat import Norm

LARGEST_POOL: Final = 1000
"""Images of the pool that are looked at for starts: evenly spread over it."""

EOT_REPEATS: Final = 10
"""Calls averaged an image when a randomised model is attacked (expectation over transformation)."""


@dataclass(frozen=True)
class Budget:
    """Steps of each family at one effort.

    Attributes:
        linearise: Linearisations from the clean image.
        neighbours: Starts near images of other classes.
        shrink: Steps of each shrinking search.
        search: Steps of each search from the clean image or a noisy one (l2, l1).
        noisy: Searches from noisy images.
        settle: Steps of the descent along the boundary that follows each of these.
        rivals: Of the likeliest other classes those that shrinking searches from the clean image aim at (linf).
        targets: Other classes that descents from the clean image aim at.
        aim: Steps of each of them before the two nearest go on.
        finished: How many of a sample's searches, these and the aimed ones, go on.
        descent: Steps of each descent that is to be finished.
        refine: Steps of each shrinking search from an example that is near already.
        rounds: Most rounds of going on from each sample's best.
        left: No further round is made for so few samples (at most a tenth of all): passes of few images cost more.
        donors: Perturbations of other samples that each sample tries in a round.
        kicks: Descents from the kicked best in a round.
        moves: Random displacements in a round, each with a descent (l2, l1).
        trials: Passes of each of them.
        flips: Passes of the random search for a corner in a round (linf).
        restarts: Most further ones afterwards, where gradients mislead.
        polish: Linearisations of the final polish.
        checked: Most samples on which the gradient-free search and the single step are run as checks.
        random: Steps of the gradient-free search.
    """

    linearise: int
    neighbours: int
    shrink: int
    search: int
    noisy: int
    settle: int
    rivals: int
    targets: int
    aim: int
    finished: int
    descent: int
    refine: int
    rounds: int
    left: int
    donors: int
    kicks: int
    moves: int
    trials: int
    flips: int
    restarts: int
    polish: int
    checked: int
    random: int


BUDGETS: Final[dict[Effort, Budget]] = {
    "quick": Budget(
        linearise=5,
        neighbours=1,
        shrink=30,
        search=32,
        noisy=1,
        settle=10,
        rivals=2,
        targets=3,
        aim=8,
        finished=3,
        descent=15,
        refine=20,
        rounds=1,
        left=16,
        donors=16,
        kicks=3,
        moves=2,
        trials=60,
        flips=30,
        restarts=4,
        polish=2,
        checked=5,
        random=100,
    ),
    "standard": Budget(
        linearise=5,
        neighbours=1,
        shrink=50,
        search=32,
        noisy=3,
        settle=10,
        rivals=2,
        targets=6,
        aim=8,
        finished=4,
        descent=20,
        refine=30,
        rounds=10,
        left=16,
        donors=24,
        kicks=4,
        moves=2,
        trials=80,
        flips=50,
        restarts=40,
        polish=3,
        checked=10,
        random=200,
    ),
    "thorough": Budget(
        linearise=10,
        neighbours=8,
        shrink=100,
        search=100,
        noisy=7,
        settle=30,
        rivals=3,
        targets=9,
        aim=15,
        finished=8,
        descent=30,
        refine=50,
        rounds=30,
        left=0,
        donors=48,
        kicks=12,
        moves=6,
        trials=150,
        flips=100,
        restarts=80,
        polish=9,
        checked=50,
        random=1000,
    ),
}

_STATED: Final[dict[Effort, dict[Norm, tuple[float, float, float]]]] = {
    "quick": {"linf": (370, 260, 620), "l2": (440, 260, 520), "l1": (440, 260, 520), "l0": (520, 283, 660)},
    "standard": {"linf": (570, 390, 970), "l2": (760, 490, 880), "l1": (760, 490, 880), "l0": (1600, 580, 2150)},
    "thorough": {
        "linf": (3400, 2300, 5000),
        "l2": (6200, 3700, 7400),
        "l1": (6200, 3700, 7400),
        "l0": (6500, 2800, 9000),
    },
}
"""Images passed forward and backward a sample, and steps a chunk, as counted on the zoo's models."""

_OPERATIONS: Final[dict[Norm, float]] = {"linf": 105, "l2": 110, "l1": 145, "l0": 100}
"""Small operations beside each step, as timed."""


def stated_work(norm: Norm, effort: Effort) -> Work | None:
    """What a search computes of a sample, about; where most samples are far from any boundary it is more."""
    norm = "l0" if norm == "l0_pixels" else norm
    if norm not in _OPERATIONS:
        return None
    forward, backward, steps = _STATED[effort][norm]
    return Work(forward=forward, backward=backward, steps=steps, operations=_OPERATIONS[norm])


PRIMAL_DUAL: Final[dict[Norm, tuple[tuple[float, float], tuple[float, float]]]] = {
    "l2": ((0.3, 1.0), (0.3, 1.0)),
    "l1": ((0.3, 0.05), (1.0, 0.1)),
}
"""First step and weight of the norm of the primal–dual search from the clean image, and of those from noisy ones."""

NOISE: Final = (0.5, 0.1, 0.5, 0.2, 1.0)
"""Largest noise, in units of the box, that the searches from noisy images add to the clean one, in turn."""

KICK: Final[dict[Norm, tuple[float, float]]] = {"linf": (1.2, 0.5), "l2": (4.5, 0.75), "l1": (4.5, 1.0)}
"""Length of the noise that a kick adds, in units of the perturbation's (both in l2, whatever the norm), and the share
of the budget's kicks that are made: in linf they gain a tenth as much, in l2 a round does more beside them."""

FAR: Final = 3
"""How many times longer in linf the second phase is towards one class alone: it may be far, and nothing else is aimed
at. On the adversarial LeNet that brings the hardest classes 0.7 % nearer."""

WORTHWHILE: Final = 2e-3
"""Share of its distance that a sample must gain in a round to go on."""

FEWEST_CHECKED: Final = 3
"""Samples on which the checks are run at least; else at most a fifth of them, so that few samples stay cheap."""

SHORTER: Final = 0.95
"""Norm of what is displaced, in units of the distance that is known (l2, l1)."""

INSIDE: Final = 0.99
"""Radius of the ball whose corners are tried, in units of the distance that is known."""

FOLLOWED: Final = 20
"""Shrinking steps from each corner."""

LONGER: Final = 8
"""How many times longer the random searches are that tell whether gradients mislead."""

AGAIN: Final = 2
"""How many times longer those are that follow where they do: gradients after every hundred flips gain a sixth more than
after every four hundred."""

PATIENCE: Final = 16
"""So many of them in turn may gain a sample nothing before it leaves."""

PROMISING: Final = 0.1
"""Share of samples that the first round's random search must have helped for long ones to be made."""

MISLED: Final = 0.002
"""Share by which a long random search must shorten an example for the gradients before it to count as misleading."""

BLIND: Final = 5
"""How many times longer the random search is where it is all there is."""

PROBED: Final = 10
"""One sample in so many tries one where short ones promised nothing; of fewer samples none does."""

TRIED: Final = 4
"""One sample in so many tries a long random search before the others do."""
