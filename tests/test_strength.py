"""Strength curves: against the closed form of steps on a linear model, and bounds on queries."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.counting import CountingModel
from benchmark.errors import InputError
from benchmark.measures import Inputs, Task
from benchmark.measures.strength import MEASURE, StrengthParameters, positions
from benchmark.verification import verify

N = 12


def two_class_problem(seed=0):
    """Images in the middle of the box, so that within 0.3 it never binds, and a hyperplane through the middle."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False)).eval()
    net[1].weight.data = torch.randn(2, 16, generator=generator)
    x = 0.5 + 0.1 * (torch.rand(N, 1, 4, 4, generator=generator) - 0.5)
    with torch.no_grad():
        y = net(x).argmax(1)
    return net, x, y


def distances(net, x, y, norm):
    logits = net(x).detach().double()
    w = (net[1].weight[1] - net[1].weight[0]).detach().double()
    dual = {"linf": w.abs().sum(), "l2": w.norm()}[norm]
    return ((logits[:, 1] - logits[:, 0]).abs() / dual).numpy()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_model_breaks_after_distance_over_step_steps(norm):
    net, x, y = two_class_problem()
    exact = distances(net, x, y, norm)
    eps = float(np.quantile(exact, 0.7))
    parameters = StrengthParameters(norm, eps, iterations=40, step=0.07, queries=0)
    result = MEASURE.run(Task(net, net, x, y), parameters)
    expected = np.ceil(exact / (0.07 * eps))
    clear = np.abs(exact / (0.07 * eps) - np.round(exact / (0.07 * eps))) > 1e-3  # not on the edge of a step
    expected[exact > eps] = np.inf
    clear &= np.abs(exact - eps) > 1e-4 * eps
    assert clear.sum() > N - 3
    np.testing.assert_array_equal(result.arrays["iterations"][clear], expected[clear])
    found = verify(net, x, y, result.adversarials).distances[norm].numpy()
    assert (found[np.isfinite(result.arrays["iterations"])] <= eps * (1 + 1e-6)).all()


def test_the_trace_is_the_share_not_broken_at_each_position():
    net, x, y = two_class_problem()
    y[0] = 1 - y[0]  # misclassified
    eps = float(np.quantile(distances(net, x, y, "linf"), 0.7))
    parameters = StrengthParameters("linf", eps, iterations=30, queries=300)
    result = MEASURE.run(Task(net, net, x, y), parameters)
    summary = MEASURE.summarise(Inputs(result.arrays, y.numpy()), parameters)
    for name, places in parameters.axes.items():
        work, values = result.arrays[name], summary.tables[name].values
        assert work[0] == 0
        assert values[0] == (N - 1) / N
        assert values.tolist() == [np.mean([w > place for w in work]) for place in places]
        assert values[-1] >= (distances(net, x, y, "linf")[1:] > eps).sum() / N  # nobody breaks what is out of reach
    assert summary.tables["iterations"].values[-1] <= 0.5


def test_no_sample_is_shown_more_often_than_its_queries():
    net, x, y = two_class_problem()
    counted = CountingModel(net).eval()
    MEASURE.run(Task(counted, net, x, y), StrengthParameters("linf", 1e-6, iterations=1, queries=50))
    assert counted.forward_passes <= N * (50 + 20)
    assert counted.backward_passes <= 2 * N


def test_a_budget_that_is_too_small_is_flagged_and_one_that_is_not_is_not():
    net, x, y = two_class_problem()
    eps = float(distances(net, x, y, "linf").max()) * 1.01
    short = MEASURE.run(Task(net, net, x, y), StrengthParameters("linf", eps, iterations=10, step=0.1, queries=0))
    long = MEASURE.run(Task(net, net, x, y), StrengthParameters("linf", eps, iterations=100, step=0.1, queries=0))
    assert [flag.code for flag in short.flags] == ["still-falling"]
    assert short.flags[0].value == np.mean(np.isfinite(a := short.arrays["iterations"]) & (a > 5))
    assert not long.flags


def test_positions_end_at_the_budget():
    assert positions(1) == (0, 1)
    assert positions(100) == (0, 1, 2, 5, 10, 20, 50, 100)
    assert positions(30) == (0, 1, 2, 5, 10, 20, 30)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"norm": "l0"}, "linf, l2, l1"),
        ({"eps": 0.0}, "eps > 0"),
        ({"step": 0.0}, "share of eps"),
        ({"iterations": 0}, "1 iteration"),
        ({"queries": -1}, "queries"),
    ],
)
def test_parameters_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        StrengthParameters(**parameters)
