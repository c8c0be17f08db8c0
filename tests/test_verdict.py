"""The verdict: robust at one budget, held to exact distances of linear models and to AutoAttack."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import select
from test_attacks import exact_distance, linear_problem
from torch import nn

from benchmark import robustness_curve
from benchmark.attacks import AttackResult
from benchmark.board.ledger import ledger
from benchmark.cli import run
from benchmark.counting import CountingModel
from benchmark.data import get_dataset
from benchmark.errors import InputError
from benchmark.jobs.protocol import parameters_of
from benchmark.measures import Inputs, Task
from benchmark.measures.autoattack import MEASURE as AUTOATTACK
from benchmark.measures.autoattack import AutoAttackParameters
from benchmark.measures.verdict import MEASURE, VerdictParameters
from benchmark.threat.budget import within
from benchmark.verification import verify
from benchmark.workspace import Workspace
from db.queries import boards
from db.schema import Evaluation
from db.schema import Score as ScoreRow
from db.session import Database
from models_zoo import load_model
from sitegen.figures import board_figures


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
        ({"eps": "0.1"}, "a finite number"),
        ({"eps": None}, "a finite number"),
        ({"eps": True}, "a finite number"),
        ({"samples": 0}, "at least 1"),
        ({"samples": 1.5}, "a whole number"),
        ({"samples": True}, "a whole number"),
    ],
)
def test_parameters_that_cannot_be_are_refused(parameters, message):
    with pytest.raises(InputError, match=message):
        VerdictParameters(**parameters)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("eps", [1e39, 1e308])
def test_a_budget_beyond_the_largest_distance_is_that_distance(norm, eps):
    model, x, y = linear_problem()
    exact = np.array([exact_distance(model, x[i], y[i], norm) for i in range(len(x))])
    result = judge(model, x, y, norm, eps, distances={norm: np.full(len(x), np.inf)})
    assert not result.arrays["known"].any()
    np.testing.assert_array_equal(result.arrays["robust"], np.isinf(exact))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_where_every_sample_is_misclassified_none_is_robust(norm):
    model, x, _ = linear_problem()
    result = judge(model, x, (model(x).argmax(1) + 1) % 3, norm, 0.1)
    assert not result.arrays["robust"].any()
    assert set(result.arrays["origin"]) == {b""}


class Misleading(nn.Module):
    """Sees rounded images; the only slope it has is a little of the opposite."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model((x * 20).round() / 20) - 0.05 * self.model(x)


class Saturated(nn.Module):
    """Its logits hardly depend on the image's values, but for where they lie between steps."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(torch.sigmoid(2000 * (x - 0.5))) + 1e-3 * self.model(x)


def raised(model, norm, eps, n=30):
    torch.manual_seed(3)
    x = torch.rand(n, 1, 8, 8)
    y = model(x).argmax(1)
    result = judge(model, x, y, norm, eps)
    return {flag.code for flag in result.flags}, result.arrays["robust"].mean()


@pytest.mark.parametrize("kind", [Misleading, Saturated])
def test_gradients_that_mislead_are_flagged(kind):
    found, robust = raised(kind(small_net()), "linf", 0.1)
    assert 0 < robust < 1
    assert "gradients-mislead" in found


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_gradients_that_are_zero_are_flagged_and_done_without(norm):
    class Stepped(nn.Module):
        def forward(self, x):
            return net((x * 16).round() / 16)

    net, (x, y) = load_model("digits-standard"), get_dataset("digits").load(10)
    result = judge(Stepped(), x, y, norm, {"l2": 2.0, "l1": 10.0}[norm])
    assert "zero-gradients" in {flag.code for flag in result.flags}
    assert result.arrays["robust"].mean() < 0.9


class Function(nn.Module):
    """A function as a model."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def wide_net(seed, shape, classes, n=20):
    torch.manual_seed(seed)
    values = int(np.prod(shape))
    net = nn.Sequential(nn.Flatten(), nn.Linear(values, 16), nn.ReLU(), nn.Linear(16, classes)).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.4)
        parameter.requires_grad_(False)
    return net, torch.rand(n, *shape)


def saturated(net):
    return Function(lambda x: (net(x) * 200).softmax(1))


def quantised(net):
    return Function(lambda x: (net(x) * 3).round() / 3)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("kind", [saturated, quantised])
def test_where_gradients_are_zero_a_verdict_is_no_more_robust_than_the_curve(kind, norm):
    net, x = wide_net(2, (3, 5, 4), 10)
    model = kind(net)
    y = model(x).argmax(1)
    curve = robustness_curve(model, x, y, norm=norm, effort="quick").distances
    eps = 1.02 * float(np.median(curve[np.isfinite(curve)]))
    robust = judge(model, x, y, norm, eps, pool=x).arrays["robust"]
    assert not (robust & within(curve, eps)).any()


@pytest.mark.parametrize("kind", [saturated, quantised])
def test_where_gradients_are_zero_a_verdict_is_no_more_robust_than_autoattack(kind):
    net, x = wide_net(0, (1, 6, 6), 5)
    model = kind(net)
    y = model(x).argmax(1)
    verdict = judge(model, x, y, "l1", 0.7, pool=x).arrays["robust"]
    found = AUTOATTACK.run(Task(model, model, x, y), AutoAttackParameters("l1", 0.7)).arrays["robust"]
    assert not (verdict & ~found).any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_one_image_of_a_step_model_is_broken(norm):
    step = Function(lambda x: torch.stack([x[:, 0, 0, 0] > 0.5, x[:, 0, 0, 0] <= 0.5], 1).float() + 0 * x.sum())
    x, y = torch.full((1, 1, 4, 4), 0.6), torch.zeros(1, dtype=torch.int64)
    assert not judge(step, x, y, norm, 0.2).arrays["robust"].any()


def test_an_example_on_the_boundary_itself_is_moved_outward_until_it_counts():
    net, x = wide_net(3, (1, 8, 8), 5, n=1)
    y = net(x).argmax(1)
    nearest = robustness_curve(net, x, y, norm="l1", effort="quick").distances[0]
    assert not judge(net, x, y, "l1", 1.02 * nearest).arrays["robust"].any()


@pytest.mark.parametrize("slug", ["digits-standard", "digits-conv", "digits-adv-linf"])
def test_honest_networks_are_not_flagged(slug):
    x, y = get_dataset("digits").load(40)
    result = judge(load_model(slug), x, y, "linf", 0.08)
    assert 0.05 < result.arrays["robust"].mean() < 1
    assert not result.flags


@pytest.mark.parametrize(("name", "value", "words"), [("eps", "a", "a number"), ("samples", 1.5, "a whole number")])
def test_a_protocol_with_a_value_of_another_type_is_refused(name, value, words):
    with pytest.raises(InputError, match=f"verdict.{name} is {value!r}; it is {words}"):
        parameters_of(MEASURE, {name: value}, where="the protocol")


def test_what_breaks_a_sample_later_counts_wherever_the_verdict_is_shown(
    board: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(model, x, y, **_):
        return AttackResult(x.clone(), (), [""] * len(x))

    at = ["-w", str(board.root)]
    evaluate = ["evaluate", *at, "-m", "digits-standard", "--limit", "12", "--protocol", "standard"]
    monkeypatch.setattr("benchmark.measures.verdict.attack_within", nothing)
    assert run([*evaluate, "--measure", "verdict"]) == 0
    assert run([*evaluate, "--measure", "curve"]) == 0

    def printed(*arguments: str) -> Any:
        capsys.readouterr()
        assert run([*arguments, *at]) == 0
        return json.loads(capsys.readouterr().out)

    with Database(board.database_url).read() as session:
        found = next(b for b in boards(session) if (b.protocol.name, b.n) == ("standard", 12))
        row = found.rows[0]
        same = {"model_id": row.model.id, "dataset_id": found.dataset.id, "n": 12}
        known = {norm: ledger(session, norm=norm, **same).distances for norm in ("linf", "l2", "l1")}
        judged = [e for e in row.cells if e.measure == "verdict"]
        stored = {e.id: session.get_one(Evaluation, e.id).scores[0].value for e in judged}
    true = {e.norm: ~within(known[e.norm], e.parameters["eps"]) for e in judged}
    assert len(true) == 3
    assert all(stored[e.id] > true[e.norm].mean() for e in judged), "nothing was broken later"

    scores = [
        s
        for s in printed("export", "--what", "scores", "--json")
        if s["score"] == "robust_accuracy" and s["samples"] == 12
    ]
    shown = {s["parameters"]["norm"]: s["value"] for s in scores if s["measure"] == "verdict"}
    assert shown == {norm: pytest.approx(robust.mean()) for norm, robust in true.items()}
    assert all(s["low"] <= s["value"] <= s["high"] for s in scores)
    told = [e for e in printed("show", "digits-standard", "--json")["evaluations"] if e["measure"] == "verdict"]
    for one in told:
        values = {o["name"]: o.get("value", o.get("robust")) for o in one["outputs"]}
        assert values["robust_accuracy"] == values["robust"] == pytest.approx(true[one["norm"]].mean())
    (line,) = board_figures(Database(board.database_url), replace(found, rows=(row,)))
    for norm, robust in true.items():
        assert line[f"verdict.robust@{norm}"] == line[f"verdict.robust_accuracy@{norm}"] == pytest.approx(robust.mean())


def test_the_line_of_a_verdict_counts_what_was_broken_before(
    board: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """It attacks the open samples alone, so that its own distances say nothing of the others."""
    at = ["evaluate", "-w", str(board.root), "-m", "digits-standard", "--limit", "12", "--protocol", "standard"]
    assert run([*at, "--measure", "curve"]) == 0
    capsys.readouterr()
    assert run([*at, "--measure", "verdict"]) == 0
    said = "".join(capsys.readouterr())
    shown = [float(share) for share in re.findall(r"verdict.*robust at [\d.]+: ([\d.]+)%", said)]
    with Database(board.database_url).read() as session:
        query = select(ScoreRow.value).join(Evaluation).where(ScoreRow.name == "robust_accuracy")
        stored = list(session.scalars(query.where(Evaluation.n == 12).order_by(Evaluation.id)))
    assert shown == [pytest.approx(100 * value, abs=0.05) for value in stored]
    assert len(shown) == 3
    assert min(shown) < 100
