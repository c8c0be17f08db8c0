"""Hein & Andriushchenko's attack: one linearisation, solved within the box, bisected onto the boundary.

With ``v`` the gradient of a margin ``f_c - f_j`` at the image, the smallest step of the box with ``<v, step> = -g`` is,
in l2, ``clip(-m v, -x, 1 - x)``, where the multiplier ``m`` grows with the wanted gain ``g``. Instead of trusting the
linearisation for the size of ``g``, the paper bisects it until the step ends on the decision boundary; as both grow
together, that is a bisection of ``m``. linf and l1 have such paths too.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.attacks import Attack, AttackResult, Effort
from benchmark.attacks.engine.oracle import Oracle, frozen
from benchmark.attacks.engine.reliability import oracle_of
from benchmark.threat import Norm, dual, norms_of

_TARGETS: Final[dict[Effort, int]] = {"quick": 1, "standard": 9, "thorough": 1000}
"""Most likely other classes that are tried."""

_DOUBLINGS: Final = range(-3, 13)
"""Multiples of the linearised step, as powers of 2, at which the boundary is looked for."""

_BISECTIONS: Final = 20


def hein(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
) -> AttackResult:
    """One linearisation at the image for each target class; the nearest example of each sample is kept.

    Nothing is drawn at random and no other images are started from: ``seed`` and ``pool`` have no effect.
    """
    best = x.clone()
    with frozen(model) as classifier:
        oracle = oracle_of(classifier, x, y)
        logits = oracle.logits(x)
        targets = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)
        nearest = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        for rank in range(min(_TARGETS[effort], logits.shape[1] - 1)):
            target = targets[:, rank]
            _, gradient = oracle.gradients(x, y, target)
            gap = (logits.gather(1, y[:, None]) - logits.gather(1, target[:, None])).squeeze(1)
            found = _onto_boundary(oracle, x, y, gradient=gradient, gap=gap.clamp(min=0), norm=norm)
            holds = oracle.margins(found, y) > 0
            # At a boundary that is drawn anew the last step of the way out is left to what every attack ends with.
            distance = torch.where(holds | (oracle.repeats > 1), norms_of(found - x, norm), torch.inf)
            nearer = distance < nearest
            best[nearer] = found[nearer]
            nearest = torch.minimum(nearest, distance)
    return AttackResult(best)


def _onto_boundary(oracle: Oracle, x: Tensor, y: Tensor, *, gradient: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """The first adversarial image on the path of each sample, shape of ``x``; the path's end where there is none.

    Args:
        oracle: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        gradient: Direction in which the target gains, shape (n, d).
        gap: What it has to gain, shape (n,).
        norm: Whose path.
    """

    def at(size: Tensor) -> Tensor:
        return _step(x.flatten(1), gradient, size, norm).view_as(x)

    # The step's size is its norm, were there no box: the linearisation's distance to the boundary.
    unit = gap / norms_of(gradient, dual(norm)).clamp(min=1e-30)
    low, high = torch.zeros_like(gap), torch.full_like(gap, torch.inf)
    for power in _DOUBLINGS:
        size = unit * 2.0**power
        adversarial = oracle.margins(at(size), y) > 0
        high = torch.where(adversarial & torch.isinf(high), size, high)
        low = torch.where(torch.isinf(high), size, low)
    high = torch.where(torch.isinf(high), low, high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        adversarial = oracle.margins(at(middle), y) > 0
        low, high = torch.where(adversarial, low, middle), torch.where(adversarial, middle, high)
    return at(high)


def _step(x: Tensor, gradient: Tensor, size: Tensor, norm: Norm) -> Tensor:
    """The image (n, d) that the cheapest step along the gradients reaches, clipped to the box.

    Args:
        x: Images, shape (n, d).
        gradient: Shape (n, d).
        size: The norm that the step would have without a box in linf and l2, and has in l1; shape (n,).
        norm: The norm the step is cheapest in.
    """
    if norm == "linf":
        return (x + size[:, None] * gradient.sign()).clamp(0, 1)
    if norm == "l2":
        return (x + gradient * (size / norms_of(gradient, "l2").clamp(min=1e-30))[:, None]).clamp(0, 1)
    rates, order = gradient.abs().sort(dim=1, descending=True)
    room = torch.where(gradient > 0, 1 - x, x).gather(1, order) * (rates > 0)
    before = room.cumsum(dim=1) - room
    filled = torch.minimum((size[:, None] - before).clamp(min=0), room)
    return (x + torch.zeros_like(x).scatter(1, order, filled) * gradient.sign()).clamp(0, 1)


ATTACK = Attack(
    name="hein",
    version=3,
    title="Box-constrained linearisation, bisected onto the boundary",
    paper="Hein & Andriushchenko 2017, arXiv:1705.08475",
    run=hein,
    norms=("linf", "l2", "l1"),
    default=False,
)
