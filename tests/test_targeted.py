"""Targeted attacks and curves, against programs: linear ones (linear models), a mixed-integer one (a small network)."""

import numpy as np
import pytest
import torch
from networks import Noisy
from scipy.optimize import LinearConstraint, linprog, milp, minimize
from test_attacks import linear_problem
from torch import nn

from benchmark.attacks import get_attack, run_attack
from benchmark.data import get_dataset
from benchmark.errors import InputError
from benchmark.measures import Inputs, Task
from benchmark.measures.target_matrix import MEASURE as MATRIX
from benchmark.measures.target_matrix import TargetMatrixParameters
from benchmark.measures.targeted import MEASURE as TARGETED
from benchmark.measures.targeted import TargetedParameters
from benchmark.verification import verify
from models_zoo import load_model

CLASSES = 3


def nearest(model, x, target, norm, others=None):
    """Distance of one image to where the target leads the others (by default all), by a linear or quadratic program."""
    weight = model.linear.weight.detach().double().numpy()
    bias, image = model.linear.bias.detach().double().numpy(), x.flatten().double().numpy()
    others = others or [j for j in range(len(weight)) if j != target]
    w = weight[others] - weight[target]
    room = -(w @ image + bias[others] - bias[target])  # w @ delta <= room
    if (room >= 0).all():
        return 0.0
    d, low, high = len(image), -image, 1 - image
    if norm == "l2":
        start = linprog(np.zeros(d), A_ub=w, b_ub=room, bounds=[*zip(low, high, strict=True)])
        if not start.success:
            return np.inf
        limits = {"type": "ineq", "fun": lambda v: room - w @ v, "jac": lambda v: -w}
        options = {"maxiter": 500, "ftol": 1e-14}
        answer = minimize(
            lambda v: v @ v, start.x, jac=lambda v: 2 * v, bounds=[*zip(low, high, strict=True)],
            constraints=[limits], method="SLSQP", options=options,
        )  # fmt: skip
        return float(np.sqrt(answer.fun))
    eye = np.eye(d)
    size = np.ones((d, 1)) if norm == "linf" else eye
    k = size.shape[1]
    rows = np.vstack([np.hstack([eye, -size]), np.hstack([-eye, -size]), np.hstack([w, np.zeros((len(w), k))])])
    bounds = [*zip(low, high, strict=True), *[(0, None)] * k]
    answer = linprog(np.r_[np.zeros(d), np.ones(k)], A_ub=rows, b_ub=np.r_[np.zeros(2 * d), room], bounds=bounds)
    return float(answer.fun) if answer.success else np.inf


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("seed", [0, 1])
def test_exact_distances_of_a_linear_model_to_each_class(norm, seed):
    model, x, y = linear_problem(seed)
    for offset in (1, 2):
        targets = (y + offset) % CLASSES
        exact = np.array([nearest(model, x[i], int(targets[i]), norm) for i in range(len(x))])
        claimed = run_attack(
            get_attack("targeted"), model, x, y, norm=norm, goal="targeted", targets=targets, effort="quick"
        )
        found = verify(model, x, y, claimed.adversarials, targets=targets).distances[norm].numpy()
        assert (found >= exact * (1 - 1e-4) - 1e-7).all()
        reachable = np.isfinite(exact)
        np.testing.assert_array_equal(np.isfinite(found), reachable)
        ratio = found[reachable & (exact > 0)] / exact[reachable & (exact > 0)]
        assert ratio.mean() < 1.02, ratio
        assert ratio.max() < 1.08, ratio


def test_exact_distances_of_a_small_network_by_a_mixed_integer_program():
    torch.manual_seed(1)
    hidden, d = 6, 6
    net = nn.Sequential(nn.Flatten(), nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, 3)).eval()
    nn.init.normal_(net[1].weight)
    nn.init.normal_(net[3].weight)
    x = torch.rand(6, 1, 2, 3)
    y = net(x).argmax(1)
    targets = (y + 1) % 3
    claimed = run_attack(get_attack("targeted"), net, x, y, norm="linf", goal="targeted", targets=targets)
    found = verify(net, x, y, claimed.adversarials, targets=targets).distances["linf"].numpy()
    exact = np.array([by_milp(net, x[i], int(targets[i])) for i in range(len(x))])
    assert np.isfinite(exact).sum() >= 3
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(exact))
    some = np.isfinite(exact)
    assert (found[some] >= exact[some] * (1 - 1e-4)).all()
    assert (found[some] <= exact[some] * 1.02).all(), found / exact


def by_milp(net, x, target):
    """Variables: image, hidden values, active or not, radius."""
    first, second = net[1], net[3]
    w, b = first.weight.detach().double().numpy(), first.bias.detach().double().numpy()
    v, c = second.weight.detach().double().numpy(), second.bias.detach().double().numpy()
    (h, d), image, big = w.shape, x.flatten().double().numpy(), 20.0
    one, zero = np.eye(h), np.zeros
    others = [j for j in range(len(v)) if j != target]
    rows = np.vstack(
        [
            np.hstack([-w, one, zero((h, h)), zero((h, 1))]),  # hidden >= w x + b
            np.hstack([w, -one, -big * one, zero((h, 1))]),  # hidden <= w x + b + big (1 - active)
            np.hstack([zero((h, d)), -one, big * one, zero((h, 1))]),  # hidden <= big active
            np.hstack([zero((len(others), d)), v[target] - v[others], zero((len(others), h)), zero((len(others), 1))]),
            np.hstack([np.eye(d), zero((d, 2 * h)), np.ones((d, 1))]),
            np.hstack([-np.eye(d), zero((d, 2 * h)), np.ones((d, 1))]),
        ]
    )
    low = np.r_[b, -b - big, zero(h), c[others] - c[target], image, -image]
    answer = milp(
        np.r_[zero(d + 2 * h), 1.0],
        constraints=LinearConstraint(rows, low, np.inf),
        integrality=np.r_[zero(d + h), np.ones(h), 0],
        bounds=(zero(d + 2 * h + 1), np.r_[np.ones(d), np.full(h, big), np.ones(h), 1]),
    )
    return float(answer.fun) if answer.success else np.inf


def measured(choice, norm="l2"):
    model, x, y = linear_problem()
    parameters = TargetedParameters(norm, choice, effort="quick")
    result = TARGETED.run(Task(model, model, x, y), parameters)
    checked = verify(model, x, y, result.adversarials, targets=result.targets).distances[norm].numpy()
    return result, checked, parameters


def test_the_easiest_and_the_hardest_are_the_smallest_and_the_largest_of_all_targets():
    model, x, y = linear_problem()
    each = np.array([[nearest(model, x[i], (int(y[i]) + k) % CLASSES, "l2") for k in (1, 2)] for i in range(len(x))])
    for choice, reduced in (("easiest", each.min(1)), ("hardest", each.max(1))):
        result, found, _ = measured(choice)
        assert result.goal == f"targeted-{choice}"
        finite = np.isfinite(reduced)
        np.testing.assert_array_equal(np.isfinite(found), finite)
        np.testing.assert_allclose(found[finite], reduced[finite], rtol=0.05, atol=1e-6)


@pytest.mark.shared
@pytest.mark.usefixtures("seeded_cache")
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_easiest_of_all_targets_is_as_near_as_the_engine_comes_untargeted(norm):
    """They are the same distance: what is nearest of another class is nearest of that class."""
    (x, y), pool = get_dataset("mnist").load(6), get_dataset("mnist").pool(200)
    model = load_model("wong2018-mnist-linf0.1")
    result = TARGETED.run(Task(model, model, x, y, pool=pool), TargetedParameters(norm, "easiest", effort="quick"))
    aimed = verify(model, x, y, result.adversarials, targets=result.targets).distances[norm]
    free = run_attack(get_attack("engine"), model, x, y, norm=norm, effort="quick", pool=pool).adversarials
    assert aimed.mean() <= 1.03 * verify(model, x, y, free).distances[norm].mean()


def test_targets_are_as_chosen_and_never_the_label():
    model, x, y = linear_problem()
    logits = model(x).detach()
    np.testing.assert_array_equal(measured("next")[0].arrays["target"], (y + 1) % CLASSES)
    least = logits.scatter(1, y[:, None], torch.inf).argmin(1)
    np.testing.assert_array_equal(measured("least-likely")[0].arrays["target"], least)
    drawn = measured("random")[0].arrays["target"]
    assert (drawn != y.numpy()).all()
    assert {int(k) for k in (drawn - y.numpy()) % CLASSES} == {1, 2}
    tail = TARGETED.run(Task(model, model, x[5:], y[5:], first=5), TargetedParameters("l2", "random", effort="quick"))
    np.testing.assert_array_equal(tail.arrays["target"], drawn[5:])  # of the sample, not of the chunk


def test_summary_of_the_distances():
    _, found, parameters = measured("next")
    inputs = Inputs({"distance_l2-targeted-next": found}, np.zeros(len(found), dtype=np.int64))
    scores = {score.name: score.value for score in TARGETED.summarise(inputs, parameters)}
    assert scores["found"] == np.isfinite(found).mean()
    assert scores["mean_distance"] == pytest.approx(found[np.isfinite(found)].mean())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(lambda y: y, "is its label"), (lambda y: y * 0 + 7, "classes 0 to 2"), (lambda y: y.float(), "int64")],
)
def test_wrong_targets_are_refused_before_anything_runs(wrong, message):
    model, x, y = linear_problem()
    with pytest.raises(InputError, match=message):
        run_attack(get_attack("targeted"), model, x, y, norm="l2", goal="targeted", targets=wrong(y))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"choice": "nearest"}, "hardest"), ({"norm": "l0"}, "linf, l2, l1"), ({"samples": 0}, "1")],
)
def test_parameters_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        TargetedParameters(**parameters)


def test_the_matrix_holds_the_median_of_the_exact_distances():
    model, x, y = linear_problem()
    parameters = TargetMatrixParameters("linf")
    result = MATRIX.run(Task(model, model, x, y), parameters)
    table = MATRIX.summarise(Inputs(result.arrays, y.numpy()), parameters).tables["median_distance"]
    assert np.isnan(np.diag(table.values)).all()
    seen = 0
    for label in range(CLASSES):
        for target in set(range(CLASSES)) - {label}:
            exact = [nearest(model, x[i], target, "linf") for i in range(len(x)) if y[i] == label]
            if exact:
                median = np.quantile(exact, 0.5, method="lower")
                assert table.values[label, target] == pytest.approx(median, rel=0.05)
                seen += 1
            else:
                assert np.isnan(table.values[label, target])
    assert seen >= 4


def test_the_least_likely_class_of_a_randomised_model_is_that_of_its_mean():
    linear, x, y = linear_problem()

    noisy = Noisy(linear, 0.3).eval()
    torch.manual_seed(0)
    chosen = TARGETED._targets(Task(noisy, noisy, x, y), "least-likely")
    single = noisy(x).scatter(1, y[:, None], torch.inf).argmin(dim=1)
    exact = linear(x).scatter(1, y[:, None], torch.inf).argmin(dim=1)
    assert (chosen == exact).float().mean() >= (single == exact).float().mean()
    assert (chosen == exact).float().mean() > 0.7
