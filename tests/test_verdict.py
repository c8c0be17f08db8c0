"""The verdict: robust at one budget, held to exact distances of linear models and to AutoAttack."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_attacks import exact_distance, linear_problem
from torch import nn

from benchmark.counting import CountingModel
from benchmark.data import get_dataset
from benchmark.errors import InputError
from benchmark.jobs.attempt import Attempt
from benchmark.measures import Inputs, Task
from benchmark.measures.autoattack import MEASURE as AUTOATTACK
from benchmark.measures.autoattack import AutoAttackParameters
from benchmark.measures.verdict import MEASURE, VerdictParameters
from benchmark.verification import verify


def judge(model, x, y, norm, eps, **task):
    return MEASURE.run(Task(model, model, x, y, **task), VerdictParameters(norm, eps))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_linear_model_is_judged_by_its_exact_distances(norm):
    model, x, y = linear_problem()
    exact = np.array([exact_distance(model, x[i], y[i], norm) for i in range(len(x))])
    for eps in np.quantile(exact[1:], [0.2, 0.5, 0.8]):
        sure = np.abs(exact - eps) > 0.02 * eps
        result = judge(model, x, y, norm, float(eps))
        np.testing.assert_array_equal(result.arrays["robust"][sure], (exact > eps)[sure])
        found = verify(model, x, y, result.adversarials).distances[norm].numpy()
        assert (found[~result.arrays["robust"]] <= eps).all(), "a verdict without an example within the budget"
        by_us = ~result.arrays["robust"] & (found > 0)
        np.testing.assert_array_equal(result.arrays["origin"] != b"", by_us, "who broke it is said of these alone")


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 64, 16), nn.ReLU())
    return net.append(nn.Linear(16, 10)).eval()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.02), ("l2", 0.12), ("l1", 0.6)])
def test_never_more_robust_than_autoattack_at_a_sixth_of_its_passes(norm, eps):
    net, x = small_net(), torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = net(x).argmax(1)
    ours, theirs = CountingModel(net).eval(), CountingModel(net).eval()
    verdict = judge(ours, x, y, norm, eps).arrays["robust"]
    found = AUTOATTACK.run(Task(theirs, net, x, y), AutoAttackParameters(norm, eps)).arrays["robust"]
    assert 0.05 < found.mean() < 0.95, "a budget that decides nothing"
    assert not (verdict & ~found).any()
    assert ours.forward_passes <= theirs.forward_passes / 6
    assert ours.backward_passes <= theirs.backward_passes / 6


def test_what_the_ledger_decides_is_not_attacked():
    model, x, y = linear_problem()
    ledger = {"linf": np.full(len(x), 0.01)}
    counted = CountingModel(model).eval()
    result = judge(counted, x, y, "linf", 0.02, distances=ledger)
    assert result.arrays["known"].all()
    assert not result.arrays["robust"].any()
    assert counted.backward_passes == 0
    summary = MEASURE.summarise(Inputs(result.arrays, y.numpy()), VerdictParameters("linf", 0.02))
    assert {score.name: score.value for score in summary} == {"robust_accuracy": 0.0, "known": 1.0}


def test_a_model_without_gradients_is_attacked_by_random_search_alone():
    model, x, y = linear_problem()
    counted = CountingModel(model).eval()

    class Stepped(nn.Module):
        def forward(self, x):
            return counted((x * 255).round() / 255).detach()

    exact = np.array([exact_distance(model, x[i], y[i], "linf") for i in range(len(x))])
    result = judge(Stepped(), x, y, "linf", 0.3)
    broken = ~result.arrays["robust"]
    assert broken[exact < 0.2].all()
    assert not broken[exact > 0.31].any()
    assert counted.backward_passes == 0
    assert "no-gradients" in {flag.code for flag in result.flags}


def test_a_sample_that_is_broken_is_left_alone():
    model, x, y = linear_problem()
    near, far = CountingModel(model).eval(), CountingModel(model).eval()
    judge(near, x, y, "l2", 1e-4)
    judge(far, x, y, "l2", 5.0)
    assert far.backward_passes < near.backward_passes / 10


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"eps": 0.0}, "eps > 0"),
        ({"eps": float("inf")}, "finite"),
        ({"norm": "l0"}, "linf, l2, l1"),
        ({"samples": 0}, "1"),
    ],
)
def test_parameters_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        VerdictParameters(**parameters)


def test_the_progress_line_counts_what_others_have_broken() -> None:
    robust = np.array([True, True, False, False, True, False, True, True])
    outputs = MEASURE.outputs(VerdictParameters("linf", 0.1), get_dataset("digits"))
    subject = SimpleNamespace(outputs=outputs, dataset=SimpleNamespace(eps={}))
    job = SimpleNamespace(norm="linf", parameters={"norm": "linf", "eps": 0.1})
    attempt = SimpleNamespace(job=job, subject=subject, _robust=[], _text="")
    found = {"robust": robust, "distance_linf": np.full(8, np.inf)}  # nothing was found here; 3 were broken before
    Attempt._note_robust(attempt, SimpleNamespace(arrays=found))
    assert attempt._text == "robust at 0.1: 62.5%"
