"""Sequential linearisation: jump to the nearest point, in the box, where the linearised margin is zero.

DeepFool's and FAB's step (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599; Croce & Hein 2020, arXiv:1907.02044), in
closed form with the box, with a line search between the current example and the jump. Where the jump stays inside one
linear region of the model its end is a local optimum, and for a linear model the global one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.attacks.oracle import Oracle
from benchmark.attacks.rows import Rows
from benchmark.threat import Norm, cheapest_step

_SHARES = (1.0, 0.5, 0.2, 0.05)
"""How far towards the jump an example that is already adversarial is moved, tried in this order."""


def _room(x: Tensor, gradient: Tensor) -> Tensor:
    """How far each coordinate can move in the direction of its gradient's sign inside the box."""
    return torch.where(gradient > 0, 1 - x, x)


def linearise(oracle: Oracle, rows: Rows, norm: Norm, *, steps: int, overshoot: float = 1e-6) -> None:
    """Run the rows' searches for some steps; their nearest examples are kept in them.

    A row that is not adversarial moves the whole way; one that is takes the longest share of the way that leaves
    it adversarial, or stays.

    Args:
        oracle: The model.
        rows: The searches; `Rows.delta` is where they start.
        norm: The norm to be small.
        steps: Linearisations.
        overshoot: Relative excess of the wanted gain, against rounding.
    """
    for _ in range(steps):
        images = rows.images()
        margin, gradient = oracle.gradients(images, rows.y, rows.target)
        rows.offer(margin, norm)
        reached = (gradient.double() * rows.delta.double()).sum(dim=1)
        gain = (reached - margin.double()).mul_(1 + overshoot).float()
        jump = cheapest_step(gradient, gain, _room(rows.x, gradient), norm)
        rows.delta = jump
    images = rows.images()
    rows.offer(oracle.margins(images, rows.y), norm)


def polish(oracle: Oracle, rows: Rows, norm: Norm, *, steps: int, overshoot: float = 1e-6) -> None:
    """Improve adversarial examples by linearisation with a line search; every accepted move lowers the norm.

    Args:
        oracle: The model.
        rows: Rows whose `Rows.best` is adversarial; `Rows.delta` is overwritten.
        norm: The norm to be small.
        steps: Linearisations.
        overshoot: Relative excess of the wanted gain, against rounding.
    """
    for _ in range(steps):
        rows.delta.copy_(rows.best)
        images = rows.images()
        margin, gradient = oracle.gradients(images, rows.y)
        start = rows.delta.clone()
        reached = (gradient.double() * start.double()).sum(dim=1)
        gain = (reached - margin.double()).mul_(1 + overshoot).float()
        jump = cheapest_step(gradient, gain, _room(rows.x, gradient), norm).sub_(start)
        before = rows.distance.clone()
        for share in _SHARES:
            torch.add(start, jump, alpha=share, out=rows.delta)
            rows.offer(oracle.margins(rows.images(), rows.y), norm)
        if not bool((rows.distance < before * (1 - 1e-4)).any()):
            break
