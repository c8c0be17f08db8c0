"""The search for the largest certified radius: near it, never above it, in few trials."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmark.certificates.search import Trial, largest_radius

MARGIN = 2.0
SPAN = 100.0

LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda share: share,
    "fifth-power": lambda share: 0.1 * share + 0.9 * share**5,
    "saturating": lambda share: 3 * share / (2 + share),
    "avalanche": lambda share: 0.3 * share + 0.7 * torch.exp(40 * (share - 1)),
    "cliff": lambda share: torch.where(share > 1, 10.0, 0.4 * share),
}
"""The share of the margin lost, as a function of the radius in units of the largest that certifies."""


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 1.5, 30.0])
def test_it_ends_within_the_tolerance_below_the_largest_radius(loss: str, first: float) -> None:
    truth = torch.tensor([0.01, 0.3, 5.0], dtype=torch.float64)
    trials = torch.zeros(3)

    def evaluate(rows: Tensor, eps: Tensor) -> Trial:
        trials[rows] += 1
        margin = MARGIN * (1 - LOSSES[loss](eps / truth[rows]))
        return Trial(torch.where(margin > 0, eps, 0.0), margin)

    found = largest_radius(
        evaluate,
        margin=torch.full((3,), MARGIN, dtype=torch.float64),
        first=first * truth,
        low=torch.zeros(3, dtype=torch.float64),
        span=SPAN,
        tolerance=0.005,
    )
    assert (found <= truth).all()
    assert (found >= 0.99 * truth).all()
    assert (trials <= (16 if loss in {"avalanche", "cliff"} else 11)).all()


def test_what_certifies_in_every_ball_is_certified_in_the_largest() -> None:
    def evaluate(rows: Tensor, eps: Tensor) -> Trial:
        return Trial(eps, torch.full_like(eps, 1.0))

    one = torch.ones(1, dtype=torch.float64)
    assert largest_radius(evaluate, margin=one, first=one, low=0 * one, span=SPAN, tolerance=0.005) == SPAN


def test_a_refused_trial_counts_with_the_distance_it_reaches_all_the_same() -> None:
    def evaluate(rows: Tensor, eps: Tensor) -> Trial:
        return Trial(eps.clamp(max=0.7), torch.where(eps > 0.7, -1.0, 0.5))

    one = torch.ones(1, dtype=torch.float64)
    assert largest_radius(evaluate, margin=one, first=one, low=0 * one, span=SPAN, tolerance=0.005) == 0.7


def test_samples_without_a_first_radius_keep_what_they_have() -> None:
    def evaluate(rows: Tensor, eps: Tensor) -> Trial:
        raise AssertionError("nothing is to be tried")

    low = torch.tensor([0.25], dtype=torch.float64)
    found = largest_radius(evaluate, margin=low, first=torch.zeros_like(low), low=low, span=SPAN, tolerance=0.005)
    assert torch.equal(found, low)
