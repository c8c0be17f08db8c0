"""Parts of a perturbation are moved at random: what gradients cannot move, whatever the norm and the image's shape."""

import pytest
import torch
from torch import nn

from benchmark.attacks.engine.budget import BUDGETS
from benchmark.attacks.engine.displaced import displace
from benchmark.attacks.engine.gradient_free import patches
from benchmark.attacks.engine.linearised import descend
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.stages import displaced
from benchmark.attacks.engine.state import Search
from benchmark.threat import norms_of

SIDE = 12
WEAK, STRONG = (3, 3), (4, 4)  # places of a stroke of three pixels


class Strokes(nn.Module):
    """Class 1 where a stroke is bright enough at some place; at one place half the brightness is enough.

    Each place is a basin of its own: the gradient is that of the brightest place, and says nothing of the others.
    """

    def forward(self, x):
        sums = torch.nn.functional.conv2d(x, torch.ones(1, 1, 3, 1))[:, 0]
        gain = torch.ones_like(sums)
        gain[:, STRONG[0], STRONG[1]] = 2.0
        lead = (sums * gain).flatten(1).amax(1) - 1.8
        return torch.stack([torch.zeros_like(lead), lead], 1)


def at_the_weak_place(norm, n=4):
    """A search that knows the nearest example of the weak basin: three pixels of 0.6."""
    x, y = torch.zeros(n, 1, SIDE, SIDE), torch.zeros(n, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    search = Search(Oracle(Strokes(), batch_size=64), x, y, norm=norm, scale=torch.ones(n), generator=generator)
    delta = torch.zeros(n, SIDE, SIDE)
    delta[:, WEAK[0] : WEAK[0] + 3, WEAK[1]] = 0.601
    search.best.delta.copy_(delta.flatten(1))
    search.best.distance.copy_(norms_of(search.best.delta, norm))
    return search


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_a_stroke_is_moved_to_where_half_of_it_is_enough(norm):
    search = at_the_weak_place(norm)
    weak = search.best.distance.clone()
    rows = search.resume(search.found())
    descend(search.oracle, rows, norm, steps=30)
    assert (rows.distance > 0.99 * weak).all()  # gradients stay
    displaced(search, search.found(), BUDGETS["standard"])
    torch.testing.assert_close(search.best.distance, weak / 2, rtol=0.01, atol=0)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("shape", [(1, SIDE, SIDE), (3, 8, 8), (1, 1, 5), (1, 1, 1), (7,), (2, 40, 24)])
def test_what_is_displaced_keeps_its_norm_and_makes_no_gradient_pass(norm, shape):
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(1)) * 0.4 + 0.3
    y = torch.zeros(5, dtype=torch.int64)

    class Blind(nn.Module):
        def forward(self, x):
            assert not torch.is_grad_enabled()
            lead = x.flatten(1)[:, ::2].sum(1) - 1e3
            return torch.stack([torch.zeros_like(lead), lead], 1)

    rows = Rows(torch.arange(5), x, y)
    rows.delta = torch.randn(rows.delta.shape, generator=torch.Generator().manual_seed(2)) * 0.01
    radius = torch.full((5,), 0.05)
    before = Oracle(Blind(), batch_size=8).margins((rows.x + sized(rows.delta, radius, norm)).view_as(x), y)
    generator = torch.Generator().manual_seed(3)
    displace(Oracle(Blind(), batch_size=8), rows, norm, radius=radius, steps=40, generator=generator)
    torch.testing.assert_close(norms_of(rows.delta, norm), radius, rtol=1e-4, atol=0)
    after = Oracle(Blind(), batch_size=8).margins(rows.images(), y)
    assert (after >= before).all()


def test_a_vector_is_displaced_along_itself_and_not_onto_another_sample():
    class Darker(nn.Module):
        def forward(self, x):
            lead = -x.sum(1) - 1e3
            return torch.stack([torch.zeros_like(lead), lead], 1)

    rows = Rows(torch.arange(2), torch.full((2, 7), 0.5), torch.zeros(2, dtype=torch.int64))
    rows.delta = torch.tensor([[0.2], [-0.2]]) * torch.arange(1.0, 8) / 7
    generator = torch.Generator().manual_seed(0)
    displace(Oracle(Darker(), batch_size=2), rows, "l2", radius=torch.full((2,), 0.3), steps=80, generator=generator)
    assert (rows.delta[0] >= 0).all()
    assert (rows.delta[1] <= 0).all()


def sized(delta, radius, norm):
    return delta * (radius / norms_of(delta, norm))[:, None]


def test_patches_lie_around_what_is_heavy():
    rows = Rows(torch.arange(200), torch.zeros(200, 3, SIDE, SIDE), torch.zeros(200, dtype=torch.int64))
    weight = torch.zeros(200, 3, SIDE, SIDE)
    weight[:, 1, 6, 8] = 1.0
    weight[:, 2, 0, 0] = 3.0
    around = weight.flatten(1)
    patch = patches(rows, 9 / SIDE**2, torch.Generator().manual_seed(0), around=around).view(-1, 3, SIDE, SIDE)
    assert (patch.flatten(1).sum(1) == 3 * 9).all()
    inside, corner = patch[:, 0, 6, 8], patch[:, 0, 0, 0]
    assert (inside ^ corner).all()
    assert corner.float().mean().item() == pytest.approx(0.75, abs=0.1)
    nothing = patches(rows, 0.1, torch.Generator().manual_seed(0), around=torch.zeros_like(around))
    assert nothing.any(dim=1).all()  # no weight at all: anywhere
