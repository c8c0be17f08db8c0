"""Attacks without gradients: exact distances of linear models, what they may ask, and how often."""

import numpy as np
import pytest
import torch
from test_attacks import exact_distance, linear_problem

from benchmark.attacks import get_attack, run_attack
from benchmark.attacks.hopskipjump import QUERIES
from benchmark.attacks.nes import QUERIES as NES_QUERIES
from benchmark.errors import AccessError
from benchmark.verification import verify


def found_by(name, model, x, y, *, norm, effort):
    claimed = run_attack(get_attack(name), model, x, y, norm=norm, effort=effort)
    return verify(model, x, y, claimed.adversarials).distances[norm].numpy()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", ["hopskipjump", "nes"])
def test_without_gradients_to_within_a_twentieth_of_the_exact_distance_of_a_linear_model(name, norm):
    model, x, y = linear_problem()
    exact = np.array([exact_distance(model, x[i], y[i], norm) for i in range(len(x))])
    found = found_by(name, model, x, y, norm=norm, effort="standard")
    assert (found >= exact * (1 - 1e-4)).all()
    ratio = found[exact > 0] / exact[exact > 0]
    assert ratio.mean() <= 1.05, ratio


class Counted(torch.nn.Module):
    shown = 0

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        assert not torch.is_grad_enabled() or not x.requires_grad
        Counted.shown += len(x)  # of the class: an attack works on a copy
        return self.inner(x)


@pytest.mark.parametrize(("name", "queries", "start"), [("hopskipjump", QUERIES, 7), ("nes", NES_QUERIES, 60)])
def test_no_more_images_are_shown_than_declared(name, queries, start):
    model, x, y = linear_problem()
    Counted.shown = 0
    run_attack(get_attack(name), Counted(model), x, y, norm="l2", effort="quick")
    assert len(x) * 1000 < Counted.shown <= len(x) * (queries["quick"] + start)


def test_a_gradient_is_refused_to_who_sees_decisions():
    model, x, y = linear_problem()
    engine = get_attack("engine")
    curious = type(engine)(**{**engine.__dict__, "access": "decisions", "name": "curious"})
    with pytest.raises(AccessError, match="curious"):
        run_attack(curious, model, x, y, norm="l2", effort="quick")
