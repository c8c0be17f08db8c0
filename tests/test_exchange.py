"""Perturbations handed from sample to sample: whose, how long, and which of them are kept."""

import pytest
import torch
from torch import nn

from benchmark.attacks.engine.exchange import donate
from benchmark.attacks.engine.linearised import descend
from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Best
from benchmark.threat import norms_of

NORMS = ("linf", "l2", "l1")


class Halfspace(nn.Module):
    """Class 10 where the first pixel exceeds 0.8; elsewhere the others, all alike."""

    def forward(self, x):
        lead = x.flatten(1)[:, :1] - 0.8
        return torch.cat([-lead.expand(-1, 10), lead], dim=1)


def known(x, deltas, norm):
    """What is known when each sample's perturbation (None: nothing found) has been met."""
    best = Best.empty(x, norm)
    for i, delta in enumerate(deltas):
        if delta is not None:
            best.delta[i] = torch.tensor(delta)
            best.distance[i] = norms_of(best.delta[i : i + 1], norm)[0]
    return best


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_strangers_direction_is_tried_at_ones_own_distance_and_the_one_that_leads_farthest_is_kept(norm):
    x = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]]).view(3, 1, 1, 2)
    y = torch.zeros(3, dtype=torch.int64)
    # Sample 0 has gone far and astray, 1 straight to the boundary, 2 away from it.
    best = known(x, [[0.4, 0.4], [0.31, 0.0], [0.0, -0.3]], norm)
    rows = donate(
        Oracle(Halfspace(), batch_size=2), x, y, best, torch.arange(3), donors=9, generator=generator(), kept=1
    )
    first = rows.sample.tolist().index(0)
    torch.testing.assert_close(norms_of(rows.delta, norm), best.distance[rows.sample])
    torch.testing.assert_close(rows.delta[first], torch.tensor([float(best.distance[0]), 0.0]))
    descend(Oracle(Halfspace(), batch_size=8), rows, norm, steps=5)
    assert rows.distance[first] == pytest.approx(0.3, abs=1e-3)


def test_who_has_no_example_neither_gives_nor_takes():
    x = torch.full((3, 1, 1, 2), 0.5)
    y = torch.zeros(3, dtype=torch.int64)
    best = known(x, [[0.31, 0.0], None, [0.31, 0.01]], "l2")
    rows = donate(Oracle(Halfspace(), batch_size=8), x, y, best, torch.arange(3), donors=2, generator=generator())
    assert sorted(rows.sample.tolist()) == [0, 2]
    torch.testing.assert_close(rows.delta[rows.sample == 2][0, 1], torch.tensor(0.0))


def test_a_single_sample_has_nobody_to_take_from():
    x, y = torch.full((1, 1, 1, 2), 0.5), torch.zeros(1, dtype=torch.int64)
    best = known(x, [[0.31, 0.0]], "linf")
    rows = donate(Oracle(Halfspace(), batch_size=8), x, y, best, torch.arange(1), donors=2, generator=generator())
    assert len(rows.sample) == 0


def test_only_recipients_are_given_to():
    x, y = torch.full((3, 1, 1, 2), 0.5), torch.zeros(3, dtype=torch.int64)
    best = known(x, [[0.31, 0.0], [0.31, 0.02], [0.31, 0.01]], "l2")
    rows = donate(Oracle(Halfspace(), batch_size=8), x, y, best, torch.tensor([2]), donors=2, generator=generator())
    assert rows.sample.tolist() == [2, 2]


def test_half_of_those_asked_are_of_the_same_label():
    n = 400
    x = torch.full((n, 1, 1, 2), 0.5)
    y = torch.arange(n) % 10
    best = known(x, [[0.31, 0.0]] * n, "l2")
    best.delta[:, 1] = 0.01 * y  # whose it is can be read off
    oracle = Oracle(Halfspace(), batch_size=512)
    rows = donate(oracle, x, y, best, torch.arange(n), donors=8, generator=generator(), kept=8)
    assert rows.sample.bincount(minlength=n).tolist() == [8] * n
    kin = (rows.delta[:, 1] / rows.delta[:, 0] * 31).round() == rows.y
    assert kin.float().mean() == 0.5
