"""Starts in the corners of a linf ball: signs of a perturbation, flipped at random in patches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import flags
from benchmark.attacks.engine import search as search_module
from benchmark.attacks.engine.budget import AGAIN, BUDGETS, LONGER, PATIENCE
from benchmark.attacks.engine.corners import corner_of, random_corner
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.reliability import Checks, Outputs, reliability_flags, share_of_several
from benchmark.attacks.engine.rows import Rows
from benchmark.library import robustness_curve

SIDE = 6


class Blocks(nn.Module):
    """Two classes; the second leads by a weighted sum of four quadrants' means, without any gradient."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.tensor(weights)

    def forward(self, x):
        half = SIDE // 2
        means = torch.stack([x[:, 0, i : i + half, j : j + half].mean((1, 2)) for i in (0, half) for j in (0, half)], 1)
        lead = ((means - 0.5) @ self.weights - 0.3).detach()
        return torch.stack([torch.zeros_like(lead), lead], 1)


def test_a_pixel_that_the_box_holds_is_let_go_upward():
    delta = torch.tensor([[0.2, -0.1, 0.0]])
    assert corner_of(delta).tolist() == [[1.0, -1.0, 1.0]]


def test_random_search_finds_the_best_corner_without_any_gradient():
    model, x = Blocks([1.0, -1.0, 1.0, -1.0]), torch.full((8, 1, SIDE, SIDE), 0.5)
    y, radius = torch.zeros(8, dtype=torch.int64), torch.full((8,), 0.2)
    rows = Rows(torch.arange(8), x, y)
    rows.delta = -torch.ones_like(rows.delta)
    oracle = Oracle(model, batch_size=8)
    random_corner(oracle, rows, "linf", radius=radius, steps=400, generator=torch.Generator().manual_seed(0))
    lead = model(rows.images())[:, 1]
    best = 4 * 0.2 - 0.3  # each of the quadrants at its own bound
    np.testing.assert_allclose(lead.max(), best, atol=1e-5)
    assert (lead > 0.9 * best).all()
    np.testing.assert_allclose(rows.distance, 0.2, rtol=1e-6)
    np.testing.assert_allclose(rows.delta.abs(), 0.2, rtol=1e-5, err_msg="a point that is no corner")


class Held(nn.Module):
    """Black pixels must all become brighter by 0.2, which no gradient says; else white ones must fall to 0.6.

    The gradient at black pixels points out of the box, so a search that follows it never lets them go.
    """

    def forward(self, x):
        flat = x.flatten(1)
        black, white = flat[:, :18].amin(1), flat[:, 18:].amax(1)
        by_white = 0.6 - white
        by_black = torch.where(black > 0.15, black - 0.2, -0.2 - black)
        lead = torch.maximum(by_white, by_black)
        return torch.stack([torch.zeros_like(lead), lead], 1)


def test_the_engine_lets_go_what_the_box_holds():
    x = torch.cat([torch.zeros(3, 1, 3, SIDE), torch.ones(3, 1, 3, SIDE)], dim=2)
    curve = robustness_curve(Held(), x, torch.zeros(3, dtype=torch.int64), norm="linf", effort="quick")
    np.testing.assert_allclose(curve.distances, 0.2, rtol=1e-3)


@pytest.mark.parametrize(("share", "flagged"), [(0.05, False), (0.2, True)])
def test_gradients_that_mislead_are_flagged(share, flagged):
    found = reliability_flags(Outputs(randomised=False, probabilities=False), Checks(misled=share))
    assert (flags.GRADIENTS_MISLEAD in [flag.code for flag in found]) == flagged


class Samples:
    """A search's samples as far as the question needs them, and what random searches make of their distances."""

    def __init__(self, n, gaining):
        self.best = SimpleNamespace(distance=torch.ones(n))
        self.gaining, self.asked = gaining, []

    def found(self):
        return torch.arange(len(self.best.distance))

    def corners(self, sample, steps):
        self.asked.append((len(sample), steps / BUDGETS["standard"].flips))
        ratio = torch.where(sample % 10 < self.gaining, 0.99, 1.0)
        self.best.distance[sample] *= ratio
        return ratio


@pytest.mark.parametrize(
    ("n", "gaining", "promising", "asked"),
    [
        # short searches saw nothing, long ones do; then all, and for longer those whom they help
        (100, 3, False, [(10, LONGER), (25, LONGER), *[(100, AGAIN)] * PATIENCE, *[(30, AGAIN)] * (40 - PATIENCE)]),
        (100, 0, False, [(10, LONGER)]),  # the price where gradients do not mislead
        (100, 0, True, [(25, LONGER)]),
        (9, 3, False, []),  # too few to pay for
    ],
)
def test_long_searches_are_tried_by_a_few_though_short_ones_promise_nothing(monkeypatch, n, gaining, promising, asked):
    monkeypatch.setattr(search_module, "_corners", Samples.corners)
    samples = Samples(n, gaining)
    misled = search_module._where_gradients_mislead(samples, BUDGETS["standard"], promising=promising)
    assert misled == pytest.approx(0.3 if len(asked) > 1 else 0)
    assert samples.asked == asked


def test_one_sample_says_nothing_of_a_model():
    assert share_of_several(torch.tensor([True])) == 0
    assert share_of_several(torch.tensor([True, False, True, False])) == 0.5
    assert share_of_several(torch.zeros(0, dtype=torch.bool)) == 0
