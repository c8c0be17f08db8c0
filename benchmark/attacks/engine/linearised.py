"""Sequential linearisation: go to the nearest point, in the box, where the linearised margin is zero.

DeepFool's and FAB's step (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599; Croce & Hein 2020, arXiv:1907.02044), in
closed form with the box. Near the boundary it is taken inside a trust region with gradients averaged over the last
steps, as bundle methods do for piecewise linear functions: the nearest point of a ReLU network's boundary mostly lies
on edges between linear regions, where the gradient of either side alone leads away.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import geometric
from benchmark.threat import Norm, cheapest_point
from benchmark.threat.rowwise import as_array, as_tensor, dots

_MEMORY = 0.6
"""Weight of the earlier steps' gradients."""

REGION = (0.3, 0.01)
"""How far a coordinate may move at the first and the last step of a descent, as a share of the largest change."""

_SHARES = (1.0, 0.5, 0.2, 0.05)
"""How far towards the jump an example that is already adversarial is moved, tried in this order."""


def _level(rows: Rows, margin: Tensor, gradient: Tensor) -> Tensor:
    """The value that the linearised margin's gradient must reach, in total, for a margin of zero; shape (m,)."""
    reached, lead = dots(gradient, rows.delta), as_array(margin)
    return as_tensor(reached - lead + 1e-6 * (abs(reached) + abs(lead)))


def linearise(oracle: Oracle, rows: Rows, norm: Norm, *, steps: int) -> None:
    """Jump from linearisation to linearisation, as DeepFool does; the nearest examples are kept in the rows.

    Args:
        oracle: The model.
        rows: The searches; `Rows.delta` is where they start.
        norm: The norm to be small.
        steps: Linearisations.
    """
    for _ in range(steps):
        images = rows.images()
        margin, gradient = oracle.gradients(images, rows.y, rows.target)
        rows.offer(margin, norm)
        rows.delta = cheapest_point(gradient, _level(rows, margin, gradient), -rows.x, 1 - rows.x, norm)
    rows.offer(oracle.margins(rows.images(), rows.y), norm)


def descend(oracle: Oracle, rows: Rows, norm: Norm, *, steps: int, region: tuple[float, float] = REGION) -> None:
    """Follow linearisations inside a shrinking trust region; the nearest examples are kept in the rows.

    Args:
        oracle: The model.
        rows: The searches; each starts at its best example, or at `Rows.delta` where it has none.
        norm: The norm to be small.
        steps: Linearisations.
        region: How far a coordinate may move at the first and the last step (a geometric schedule), as a share of the
            largest change at the start.
    """
    found = torch.isfinite(rows.distance)
    rows.delta = torch.where(found[:, None], rows.best, rows.delta)
    reach = rows.delta.abs().amax(dim=1, keepdim=True)
    floor, ceiling = -rows.x, 1 - rows.x
    average = None
    for k in range(steps):
        images = rows.images()
        margin, gradient = oracle.gradients(images, rows.y, rows.target)
        size = rows.offer(margin, norm)
        average = gradient.clone() if average is None else average.lerp_(gradient, 1 - _MEMORY)
        around = reach * geometric(region, k / max(1, steps - 1))
        low, high = rows.delta - around, rows.delta + around
        torch.maximum(low, floor, out=low)
        torch.minimum(high, ceiling, out=high)
        rows.delta = cheapest_point(average, _level(rows, margin, average), low, high, norm, iterations=3, guess=size)
    rows.offer(oracle.margins(rows.images(), rows.y), norm)


def polish(oracle: Oracle, rows: Rows, norm: Norm, *, steps: int) -> None:
    """Improve adversarial examples by linearisation with a line search; every accepted move lowers the norm.

    Args:
        oracle: The model.
        rows: Rows whose `Rows.best` is adversarial; `Rows.delta` is overwritten.
        norm: The norm to be small.
        steps: Linearisations.
    """
    for _ in range(steps):
        rows.delta.copy_(rows.best)
        images = rows.images()
        margin, gradient = oracle.gradients(images, rows.y)
        start = rows.delta.clone()
        jump = cheapest_point(gradient, _level(rows, margin, gradient), -rows.x, 1 - rows.x, norm).sub_(start)
        before = rows.distance.clone()
        for share in _SHARES:
            torch.add(start, jump, alpha=share, out=rows.delta)
            rows.offer(oracle.margins(rows.images(), rows.y), norm)
        if not bool((rows.distance < before * (1 - 1e-4)).any()):
            break
