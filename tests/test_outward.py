"""The last step of every attack: found examples move outward until verification believes them, and no farther."""

import pytest
import torch
from torch import nn

from benchmark.attacks import Attack, AttackResult, run_attack
from benchmark.attacks.outward import pushed_outward
from benchmark.verification import verify


class Interval(nn.Module):
    """One pixel: class 1 from 0.5 to `end`, class 0 elsewhere; a third class from 0.9."""

    def __init__(self, end=2.0):
        super().__init__()
        self.end = end

    def forward(self, x):
        value = x.flatten(1)[:, 0]
        one = torch.minimum(value - 0.5, self.end - value)
        return 1 + torch.stack([torch.zeros_like(value), one, 5 * (value - 0.9)], dim=1)  # a lead is relative to it


X = torch.tensor([0.1, 0.3]).view(-1, 1, 1, 1)
Y = torch.zeros(2, dtype=torch.int64)


def at(*values):
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_an_example_on_the_boundary_moves_by_as_little_as_it_takes():
    claimed = at(0.5 + 1e-7, 0.7)
    assert verify(Interval(), X, Y, claimed).holds.tolist() == [False, True]
    pushed = pushed_outward(Interval(), X, Y, claimed)
    assert verify(Interval(), X, Y, pushed).holds.all()
    assert 0.5 < float(pushed[0]) < 0.5001
    assert float(pushed[1]) == float(claimed[1]), "what is believed stays"


def test_what_changes_no_label_was_never_found():
    claimed = at(0.45, 0.1)
    assert torch.equal(pushed_outward(Interval(), X, Y, claimed), claimed)
    assert torch.equal(pushed_outward(Interval(), X, Y, X.clone()), X)


def test_where_the_way_outward_leads_back_the_other_one_is_taken():
    narrow = Interval(end=0.5 + 4e-6)  # class 1 is so thin that nothing in it is believed
    claimed, other = at(0.5 + 2e-6, 0.5 + 2e-6), at(0.95, 0.3)
    pushed = pushed_outward(narrow, X, Y, claimed, fallback=other)
    assert float(pushed[0]) == pytest.approx(0.95)
    assert float(pushed[1]) == float(claimed[1]), "nothing to go back to"
    assert verify(narrow, X, Y, pushed).holds.tolist() == [True, False]


def test_a_target_is_reached_by_a_push_and_no_other_class_will_do():
    targets = torch.full((2,), 2)
    narrow = Interval(end=0.8)
    claimed = at(0.9 + 1e-7, 0.7)
    pushed = pushed_outward(narrow, X, Y, claimed, targets=targets)
    assert verify(narrow, X, Y, pushed, targets=targets).holds.tolist() == [True, False]
    assert 0.9 < float(pushed[0]) < 0.9001
    assert float(pushed[1]) == float(claimed[1]), "class 1 is no target"


@pytest.mark.parametrize("access", ["gradients", "scores", "decisions"])
def test_every_attack_ends_with_it_whatever_its_access(access):
    def onto_the_boundary(model, x, y, **options):
        return AttackResult(torch.full_like(x, 0.5 + 1e-7))

    attack = Attack("edge", 1, "Onto the boundary", "", onto_the_boundary, ("linf",), access=access)
    found = run_attack(attack, Interval(), X, Y, norm="linf")
    distance = verify(Interval(), X, Y, found.adversarials).distances["linf"]
    assert distance.tolist() == pytest.approx([0.4, 0.2], rel=1e-3)


def test_a_noisy_model_is_left_by_a_clear_lead():
    class Noisy(Interval):
        def forward(self, x):
            return super().forward(x + 0.05 * torch.randn_like(x))

    claimed = at(0.505, 0.505)
    assert not verify(Noisy(), X, Y, claimed).holds.any()
    pushed = pushed_outward(Noisy(), X, Y, claimed)
    assert verify(Noisy(), X, Y, pushed).holds.all()
    assert (pushed < 0.7).all()
