"""The smallest value of a linear function on a norm ball cut with the box [0, 1]: where every linear bound ends.

Cutting with the box matters: an image whose background is exactly 0 can move in half of the directions only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.errors import InputError
from benchmark.threat import Norm


def refuse_outside(x: Tensor) -> None:
    """Raise `InputError` unless images lie in the box, where all bounds are taken."""
    inside = ((x >= 0) & (x <= 1)).flatten(1).all(dim=1)
    if not inside.all():
        row = int((~inside).nonzero()[0])
        raise InputError(
            f"Certificates are for images in [0, 1]; image {row} lies in [{float(x[row].min()):g}, "
            f"{float(x[row].max()):g}]. Scale the images, and put the model's normalisation into the model."
        )


def largest_change(rates: Tensor, caps: Tensor, eps: Tensor, norm: Norm) -> Tensor:
    """``max sum(rates * t)`` over ``0 <= t <= caps``, ``‖t‖_p <= eps``: exact in linf and l1, an upper bound in l2.

    Args:
        rates: Change per unit of each coordinate, non-negative, shape (..., d).
        caps: Room of each coordinate, non-negative; broadcasts with ``rates``.
        eps: Radius; broadcasts with the leading dimensions of ``rates``.
        norm: The ball's norm.

    Returns:
        Shape (...), the broadcast leading dimensions.
    """
    if norm == "linf":
        return (rates * torch.minimum(caps, eps[..., None])).sum(dim=-1)
    # A coordinate without room gets no rate, so that it takes no part in the norms below.
    rates = torch.where(caps > 0, rates, 0.0)
    caps = caps.expand_as(rates)
    return _knapsack(rates, caps, eps) if norm == "l1" else _dual_l2(rates, caps, eps)


def _knapsack(rates: Tensor, caps: Tensor, eps: Tensor) -> Tensor:
    """l1: spend the budget on the largest rates first."""
    rates, order = rates.sort(dim=-1, descending=True)
    caps = caps.gather(-1, order)
    spent_before = caps.cumsum(dim=-1) - caps
    return (rates * torch.minimum(caps, (eps[..., None] - spent_before).clamp(min=0))).sum(dim=-1)


def _dual_l2(rates: Tensor, caps: Tensor, eps: Tensor) -> Tensor:
    """l2: the Lagrangian dual, an upper bound at every multiplier ``m``; its optimum is approached from below.

    At the optimum ``t = min(rates / m, caps)`` with ``‖t‖ = eps``. Starting with no coordinate at its cap, those that
    exceed theirs are fixed there and ``m`` is solved again for the rest: it only falls, and settles in few rounds.
    """
    budget = eps.square()
    m = rates.square().sum(dim=-1).sqrt() / eps.clamp(min=1e-30)
    for _ in range(6):
        full = rates >= m[..., None] * caps
        left = budget - torch.where(full, caps, 0.0).square().sum(dim=-1)
        free = torch.where(full, 0.0, rates).square().sum(dim=-1)
        m = torch.where(left > 0, (free / left.clamp(min=1e-30)).sqrt(), m)
    t = torch.minimum(rates / m.clamp(min=1e-30)[..., None], caps)
    return (rates * t).sum(dim=-1) + m / 2 * (budget - t.square().sum(dim=-1))


@dataclass(frozen=True, eq=False)
class Ball:
    """Norm balls around images, cut with the box [0, 1].

    Attributes:
        x: Centres, shape (n, *shape of an image), float64.
        eps: Radii, shape (n,), float64.
        norm: Their norm.
    """

    x: Tensor
    eps: Tensor
    norm: Norm

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The smallest and largest value of each pixel, shape of ``x``."""
        eps = self.eps.view(-1, *[1] * (self.x.ndim - 1))
        return (self.x - eps).clamp(min=0), (self.x + eps).clamp(max=1)

    def smallest(self, rows: Tensor, below: Tensor, above: Tensor) -> Tensor:
        """Lower bounds of ``<rows, x'>`` over each ball.

        Args:
            rows: Coefficients, shape (n or 1, ..., d).
            below: The pixels they belong to, which is also their room downwards, shape (n, ..., d); broadcast.
            above: Their room upwards; outside the image both are 0.

        Returns:
            Shape (n, ...).
        """
        eps = self.eps.view(-1, *[1] * (rows.ndim - 2))
        room = torch.where(rows > 0, below, above)
        return (rows * below).sum(dim=-1) - largest_change(rows.abs(), room, eps, self.norm)

    def __getitem__(self, rows: slice | Tensor) -> Ball:
        """The balls of some samples."""
        return Ball(self.x[rows], self.eps[rows], self.norm)


def distance_to_halfspace(rows: Tensor, offset: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """How far images are, within the box, from where linear functions reach 0; a closed form.

    Args:
        rows: Coefficients of ``f(x') = <rows, x'> + offset``, shape (n, r, d).
        offset: Shape (n, r).
        x: Images, shape (n, d), float64.
        norm: The norm of the distance.

    Returns:
        Shape (n, r): 0 where ``f(x) <= 0``, ``inf`` where the box holds no zero. Exact to rounding: attacks have an
        iteration for this, which may stop above the distance; a certificate may not.
    """
    at = x[:, None, :]
    value = (rows * at).sum(dim=-1) + offset
    return smallest_step(rows.abs(), torch.where(rows > 0, at, 1 - at), value, norm)


def smallest_step(rates: Tensor, room: Tensor, value: Tensor, norm: Norm) -> Tensor:
    """The smallest ``‖t‖_p`` with ``sum(rates * t) >= value`` and ``0 <= t <= room``: `largest_change`, inverted.

    The cheapest way to a gain fills the coordinates in a fixed order: in l1 by falling rate, one after the other; in
    linf and l2 all at once, ``t = min(s, room)`` and ``t = min(s * rate, room)``, where the coordinates meet their room
    in the order of ``room`` and ``room / rate``.

    Args:
        rates: Gain per unit of each coordinate, non-negative, shape (..., d).
        room: Shape (..., d).
        value: The gain wanted, shape (...).
        norm: The norm to be small.

    Returns:
        Shape (...): 0 where nothing is wanted, ``inf`` where there is too little room.
    """
    rates = torch.where(room > 0, rates, 0.0)
    room = torch.where(rates > 0, room, 0.0)
    ratio = room / torch.where(rates > 0, rates, 1.0)
    order = {"l1": -rates, "linf": room, "l2": ratio}[norm].argsort(dim=-1)
    rates, room, ratio = (t.gather(-1, order) for t in (rates, room, ratio))
    filled = _from_zero((rates * room).cumsum(dim=-1))
    if norm == "l1":
        i = _first_reaching(filled[..., 1:], value)
        spent = _from_zero(room.cumsum(dim=-1))
        distance = _at(spent, i) + (value - _at(filled, i)) / _at(rates, i)
    else:
        weights, breaks = (rates, room) if norm == "linf" else (rates.square(), ratio)
        open_ = weights.sum(dim=-1, keepdim=True) - _from_zero(weights.cumsum(dim=-1))
        i = _first_reaching(filled[..., 1:] + breaks * open_[..., 1:].clamp(min=0), value)
        s = (value - _at(filled, i)) / _at(open_, i)
        distance = s
        if norm == "l2":
            distance = (_at(_from_zero(room.square().cumsum(dim=-1)), i) + s.square() * _at(open_, i)).sqrt()
    distance = torch.where(value > filled[..., -1], torch.inf, distance)
    return torch.where(value <= 0, 0.0, distance)


def _from_zero(sums: Tensor) -> Tensor:
    """Cumulative sums with the empty sum in front."""
    return functional.pad(sums, (1, 0))


def _first_reaching(gains: Tensor, value: Tensor) -> Tensor:
    """Index of the first of the rising ``gains`` (..., d) that reaches ``value``; the last where none does."""
    return (gains < value[..., None]).sum(dim=-1).clamp(max=gains.shape[-1] - 1)


def _at(t: Tensor, index: Tensor) -> Tensor:
    return t.gather(-1, index[..., None]).squeeze(-1)
