"""Strength curves: steps against a closed form, every attack against a log of what it shows, and bounds on queries."""

import dataclasses

import numpy as np
import pytest
import torch
from networks import Noisy
from torch import nn

from benchmark.attacks import AttackResult, attacks, get_attack, run_attack
from benchmark.attacks.watched import EnoughError, WatchedModel
from benchmark.counting import CountingModel
from benchmark.errors import InputError, UnknownNameError
from benchmark.measures import Inputs, Task
from benchmark.measures import strength as module
from benchmark.measures.strength import MEASURE, StrengthParameters, iterative_attacks, kind_of, positions
from benchmark.threat import distances as measured
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
    parameters = StrengthParameters(norm, eps, ("pgd",), iterations=40, step=0.07)
    result = MEASURE.run(Task(net, net, x, y), parameters)
    expected = np.ceil(exact / (0.07 * eps))
    clear = np.abs(exact / (0.07 * eps) - np.round(exact / (0.07 * eps))) > 1e-3  # not on the edge of a step
    expected[exact > eps] = np.inf
    clear &= np.abs(exact - eps) > 1e-4 * eps
    assert clear.sum() > N - 3
    np.testing.assert_array_equal(result.arrays["iterations"][clear], expected[clear])
    found = verify(net, x, y, result.adversarials).distances[norm].numpy()
    assert (found[np.isfinite(result.arrays["iterations"])] <= eps * (1 + 1e-6)).all()


def walking(step, access):
    """An attack that walks along the gradient's signs of a linear model, one image shown a step."""

    def run(model, x, y, *, norm, effort, seed, pool):
        net, _, _ = two_class_problem()
        w = (net[1].weight[1] - net[1].weight[0]).detach()
        away = torch.where(y == 1, -1.0, 1.0)[:, None] * w.sign()
        for k in range(1, 200):
            model((x.flatten(1) + k * step * away).clamp(0, 1).view_as(x))
        return AttackResult(x.clone())

    return dataclasses.replace(get_attack("engine"), name="walk", run=run, access=access, work=None)


@pytest.mark.parametrize(("access", "more"), [("gradients", 0), ("scores", 1), ("decisions", 1)])
def test_a_watched_attack_breaks_each_sample_when_it_shows_the_first_example(monkeypatch, access, more):
    net, x, y = two_class_problem()
    exact = distances(net, x, y, "linf")
    eps, step = float(np.quantile(exact, 0.7)), 0.003
    walk = walking(step, access)
    monkeypatch.setattr(module, "attacks", lambda: {"walk": walk})
    monkeypatch.setattr(module, "get_attack", lambda name: walk)
    parameters = StrengthParameters("linf", eps, ("walk",), iterations=60, queries=60)
    result = MEASURE.run(Task(net, net, x, y), parameters)
    steps = np.ceil(exact / step)  # the k-th image is the k-th query, and comes after k - 1 images
    clear = np.abs(exact / step - np.round(exact / step)) > 1e-3
    expected = np.where((steps * step <= eps) & (steps - 1 + more <= 60), np.maximum(steps - 1 + more, 1), np.inf)
    assert clear.sum() > N - 3
    assert 0 < np.isfinite(expected).sum() < N
    (found,) = (result.arrays[kind] for kind, _, _ in parameters.by_kind())
    np.testing.assert_array_equal(found[clear], expected[clear])


class Log(nn.Module):
    """Keeps every image that the model is shown, in order."""

    def __init__(self, net):
        super().__init__()
        self.net, self.images = net, []

    def forward(self, x):
        self.images.extend(x.detach().clone())
        return self.net(x)


def curved(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 3)).eval()
    x = torch.rand(40, 1, 8, 8)
    with torch.no_grad():
        return net, x, net(x).argmax(1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0_pixels"])
def test_the_work_of_every_attack_is_where_the_first_example_stands_in_the_log(norm):
    net, x, y = curved()
    found = run_attack(get_attack("engine"), net, x[:1], y[:1], norm=norm, effort="quick", pool=x[10:])
    eps, seen = 1.2 * float(measured(x[:1], found.adversarials, norm)), 0
    for name in (name for name in iterative_attacks(norm) if name in attacks()):
        attack, log = get_attack(name), Log(net)
        kind, budget = kind_of(name), 400
        pool = x[10:]
        watched = WatchedModel(
            log, x[:1], y[:1], norm=norm, eps=eps, most=10_000, after=kind == "iterations", pool=pool
        )
        told = {"queries": budget} if attack.counts_queries else {}
        try:
            run_attack(attack, watched.eval(), x[:1], y[:1], norm=norm, effort="quick", pool=pool, **told)
        except EnoughError:
            seen += 1
        keys = {p.numpy().tobytes() for p in pool}
        shown = torch.stack([image for image in log.images if image.numpy().tobytes() not in keys])
        near = (measured(x[:1].expand_as(shown), shown, norm) <= eps) & ((shown >= 0) & (shown <= 1)).flatten(1).all(1)
        first = np.flatnonzero((net(shown).argmax(1) != y[0]).numpy() & near.numpy())
        work = float(watched.seen.work[0])
        if np.isfinite(work):
            # A call is paid as a whole: queries to its end, iterations to its beginning. What verification asked is in
            # the log, too, behind the image that it was asked about.
            assert first[0] - 50 <= work <= first[0] + 50, name
            if name in ("fab-t", "hein", "hopskipjump", "square", "pixel-greedy"):  # an image at a time
                assert work == max(first[0] + (kind == "queries"), 1), name
            assert bool(verify(net, x[:1], y[:1], watched.seen.examples).holds)
        else:
            assert not len(first), name
    assert seen > 1


def test_all_attacks_together_are_the_least_of_each_and_shares_count_what_is_left():
    net, x, y = curved(1)
    y = y.clone()
    y[0] = (y[0] + 1) % 3  # misclassified
    parameters = StrengthParameters("linf", 0.05, iterative_attacks("linf"), iterations=120, queries=300)
    result = MEASURE.run(Task(net, net, x[:10], y[:10], pool=x), parameters)
    summary = MEASURE.summarise(Inputs(result.arrays, y[:10].numpy()), parameters)
    assert {kind for kind, _, _ in parameters.by_kind()} == {"iterations", "queries"}
    for kind, own, places in parameters.by_kind():
        robust, work = result.arrays[f"robust_{kind}"], result.arrays[kind]
        assert robust.shape == (10, len(own) + 1, len(places))
        assert work[0] == 0
        assert not robust[0].any()
        np.testing.assert_array_equal(robust[:, -1], robust[:, :-1].all(axis=1))
        assert summary.tables[kind].values.tolist() == [np.mean([w > place for w in work]) for place in places]
        np.testing.assert_array_equal(summary.tables[f"by_{kind}"].values, robust.mean(axis=0))
        assert (np.diff(summary.tables[f"by_{kind}"].values, axis=1) <= 0).all()
    found = verify(net, x[:10], y[:10], result.adversarials).distances["linf"].numpy()
    broken = np.isfinite(np.minimum(result.arrays["iterations"], result.arrays["queries"]))
    assert (found[broken] <= 0.05 * (1 + 1e-4)).all()
    assert broken.sum() > 2


def test_no_sample_is_shown_more_often_than_its_budget():
    net, x, y = two_class_problem()
    for name in iterative_attacks("linf"):
        counted = CountingModel(net).eval()
        parameters = StrengthParameters("linf", 1e-6, (name,), iterations=60, queries=60)
        MEASURE.run(Task(counted, net, x, y), parameters)
        # `pgd` looks at each step's image twice; verification, the pool (these images) and one batch more come to it
        assert counted.forward_passes <= N * (2 * 60 + 60), name
        assert counted.backward_passes <= N * (60 + 2), name


def test_equal_images_break_together():
    net, x, y = two_class_problem()
    eps = float(distances(net, x, y, "linf").max()) * 1.01
    twice, labels = torch.cat([x, x.flip(0)]), torch.cat([y, y.flip(0)])
    names = ("pgd", "hopskipjump", "engine")
    result = MEASURE.run(Task(net, net, twice, labels), StrengthParameters("linf", eps, names, iterations=100))
    for kind in ("iterations", "queries"):
        work = result.arrays[kind]
        np.testing.assert_array_equal(work[:N], work[N:][::-1])
        assert np.isfinite(work).sum() > N


def test_a_randomised_model_is_attacked_in_expectation():
    """Steps on one call each, held against a lead that rounding of such a model would take off, broke nothing."""
    net, x, y = two_class_problem()
    exact = distances(net, x, y, "linf")
    noisy = Noisy(net, 0.05).eval()
    eps = 3 * float(exact.max())
    parameters = StrengthParameters("linf", eps, ("pgd", "random-search", "hopskipjump", "engine"), queries=3000)
    torch.manual_seed(0)
    result = MEASURE.run(Task(noisy, noisy, x, y), parameters)
    assert np.isfinite(result.arrays["iterations"]).all()
    assert np.isfinite(result.arrays["queries"]).all()


def test_a_budget_that_is_too_small_is_flagged_and_one_that_is_not_is_not():
    net, x, y = two_class_problem()
    eps = float(distances(net, x, y, "linf").max()) * 1.01
    short = MEASURE.run(Task(net, net, x, y), StrengthParameters("linf", eps, ("pgd",), iterations=10, step=0.1))
    long = MEASURE.run(Task(net, net, x, y), StrengthParameters("linf", eps, ("pgd",), iterations=100, step=0.1))
    assert [flag.code for flag in short.flags] == ["still-falling"]
    assert short.flags[0].value == np.mean(np.isfinite(a := short.arrays["iterations"]) & (a > 5))
    assert "pgd" in short.flags[0].message
    assert not long.flags


def test_nothing_is_attacked_where_all_is_misclassified():
    net, x, y = two_class_problem()
    result = MEASURE.run(Task(net, net, x, 1 - y), StrengthParameters("linf", 0.1, iterative_attacks("linf")))
    assert (result.arrays["iterations"] == 0).all()
    assert (result.arrays["queries"] == 0).all()
    torch.testing.assert_close(result.adversarials, x, rtol=0, atol=0)


def test_positions_end_at_the_budget():
    assert positions(1) == (0, 1)
    assert positions(100) == (0, 1, 2, 5, 10, 20, 50, 100)
    assert positions(30) == (0, 1, 2, 5, 10, 20, 30)


def test_every_registered_attack_with_a_goal_of_its_own_and_a_model_to_ask_is_among_them():
    chosen = {name for norm in ("linf", "l2", "l1", "l0") for name in iterative_attacks(norm)}
    assert chosen - {"pgd", "random-search"} == set(attacks()) - {"targeted"}
    assert StrengthParameters().chosen == ("pgd", "random-search")
    assert StrengthParameters("l2").chosen == StrengthParameters(queries=0).chosen == ("pgd",)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"norm": "l0"}, "Which attacks"),
        ({"eps": 0.0}, "eps > 0"),
        ({"step": 0.0}, "share of eps"),
        ({"iterations": 0}, "1 iteration"),
        ({"queries": -1}, "queries >= 0"),
        ({"attacks": ["square"], "queries": 0}, "queries = 0"),
        ({"attacks": "pgd"}, "list of names"),
        ({"attacks": ["pgd", "pgd"]}, "a name twice"),
        ({"norm": "l2", "attacks": ["random-search"]}, "not in 'l2'"),
        ({"norm": "l2", "attacks": ["square"]}, "not in 'l2'"),
        ({"attacks": ["targeted"]}, "goals"),
        ({"effort": "most"}, "quick, standard, thorough"),
    ],
)
def test_parameters_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        StrengthParameters(**parameters)


def test_an_unknown_attack_is_named_with_its_neighbours():
    with pytest.raises(UnknownNameError, match="hopskipjump"):
        StrengthParameters(attacks=["hopskipjmp"])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_budget_beyond_the_box_is_that_of_the_box(norm):
    net, x, y = two_class_problem()
    far, farther = (
        MEASURE.run(Task(net, net, x, y, pool=x), StrengthParameters(norm, eps, iterative_attacks(norm)))
        for eps in (17.0, 1e39)
    )
    for kind, _, _ in StrengthParameters(norm, 17.0, iterative_attacks(norm)).by_kind():
        np.testing.assert_array_equal(far.arrays[f"robust_{kind}"], farther.arrays[f"robust_{kind}"])
        assert not far.arrays[f"robust_{kind}"][:, -1, -1].any()
