"""Attacks without gradients: exact distances of linear models, what they may ask, and how often."""

import dataclasses

import numpy as np
import pytest
import torch
from networks import Noisy
from test_attacks import exact_distance, linear_problem
from torch.nn.functional import normalize

from benchmark.attacks import Attack, get_attack, run_attack
from benchmark.attacks.access import limited
from benchmark.attacks.decisions import Decisions, normal, spread, to_boundary
from benchmark.attacks.estimation import PROBES
from benchmark.attacks.geoda import _nearer
from benchmark.attacks.nes import GaussianOracle
from benchmark.attacks.spsa import SignOracle
from benchmark.attacks.zoo import CoordinateOracle
from benchmark.counting import CountingModel
from benchmark.data import get_dataset
from benchmark.errors import AccessError, InputError, UnsupportedModelError
from benchmark.jobs.job import make_job
from benchmark.measures import Task
from benchmark.measures.curve import MEASURE as CURVE
from benchmark.measures.curve import CurveParameters
from benchmark.threat import get_norm
from benchmark.verification import verify
from models_zoo import get_entry, load_model

SCORES = ("nes", "spsa", "zoo", "n-attack")
DECISIONS = ("hopskipjump", "geoda")
BLACK = (*SCORES, *DECISIONS, "square")


def found_by(name, model, x, y, *, norm, effort="quick", **options):
    claimed = run_attack(get_attack(name), model, x, y, norm=norm, effort=effort, **options)
    return verify(model, x, y, claimed.adversarials).distances[norm].numpy()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", SCORES + DECISIONS)
def test_without_gradients_to_within_a_twentieth_of_the_exact_distance_of_a_linear_model(name, norm):
    model, x, y = linear_problem()
    exact = np.array([exact_distance(model, x[i], y[i], norm) for i in range(len(x))])
    found = found_by(name, model, x, y, norm=norm, effort="quick")
    assert (found >= exact * (1 - 1e-4)).all()
    ratio = found[exact > 0] / exact[exact > 0]
    assert ratio.mean() <= 1.05, ratio


@pytest.mark.parametrize("make", [GaussianOracle, SignOracle, CoordinateOracle])
def test_estimates_of_a_linear_model_are_its_gradient(make):
    """Noises give it in the mean over estimates, coordinates exactly once each has had its turn."""
    model, x, y = linear_problem()
    x, y, d = x[1:5], y[1:5], x[0].numel()
    oracle = make(model, torch.Generator().manual_seed(0), repeats=1)
    with torch.no_grad():
        rival = model(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    true = (model.linear.weight[rival] - model.linear.weight[y]).detach()
    if make is CoordinateOracle:
        for _ in range(-(-d // (PROBES // 2))):
            known = oracle.estimate(x, y)
        np.testing.assert_allclose(known, true, atol=0.02)
    else:
        mean = torch.stack([oracle.estimate(x, y) for _ in range(300)]).mean(0)
        np.testing.assert_allclose(mean, true, atol=0.3)
        assert torch.cosine_similarity(mean, true).min() > 0.99


def test_labels_alone_show_the_normal_of_a_plane():
    model, _, _ = linear_problem()
    weight = (model.linear.weight[1] - model.linear.weight[0]).detach()
    offset = (model.linear.bias[1] - model.linear.bias[0]).detach()
    grey = torch.full((3, 20), 0.5)
    on = grey - ((grey @ weight + offset) / weight.square().sum())[:, None] * weight

    def labels(images):
        return (images.flatten(1) @ weight + offset > 0).long()

    asked = Decisions(labels, torch.zeros(3, dtype=torch.int64))
    found = normal(asked, on.view(3, 1, 4, 5), torch.full((3,), 0.1), 2000, torch.Generator().manual_seed(0))
    assert torch.cosine_similarity(found, weight[None]).min() > 0.98
    assert asked.asked == 2000


@pytest.mark.parametrize("side", [8, 28, 64])
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("walked", [False, True], ids=["to_boundary", "geoda"])
def test_noise_falls_on_both_sides_of_the_boundary_that_was_found(walked, norm, side):
    """Else every answer is the same, and the estimate of the normal is chance."""
    torch.manual_seed(0)
    d = side * side
    weight, x = torch.randn(d), torch.full((6, 1, side, side), 0.5)

    def labels(images):
        return ((images.flatten(1) - 0.5) @ weight > 0.2 * weight.norm()).long()

    asked = Decisions(labels, torch.zeros(6, dtype=torch.int64))
    far = (x + 0.4 * weight.sign().view(side, side) + 0.05 * torch.randn(x.shape)).clamp(0, 1)
    near = to_boundary(asked, x, far, norm)
    if walked:
        near = _nearer(asked, x, near.flatten(1), normalize(weight[None], dim=1), norm=norm, hope=0.5).view_as(x)
    size = get_norm(norm).distance(x, near).float()
    noise = normalize(torch.randn(6, 200, d), dim=2) * spread(size, norm, d)[:, None, None]
    share = asked.wrong((near.flatten(1)[:, None] + noise).view(6, 200, 1, side, side)).float().mean(dim=1)
    assert ((share > 0.05) & (share < 0.95)).all(), share


class Counted(torch.nn.Module):
    """Counts images and calls, of the class: an attack works on a copy."""

    shown = calls = 0

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        assert not torch.is_grad_enabled() or not x.requires_grad
        Counted.shown += len(x)
        Counted.calls += 1
        return self.inner(x)


def asked(name, x, y, **options):
    Counted.shown = Counted.calls = 0
    attack = get_attack(name)
    with limited(Counted(linear_problem()[0]), attack.access, name) as seen:  # what is verified after it is not its own
        attack.run(seen, x, y, norm="linf", effort="quick", seed=0, **({"pool": None} | options))
    return Counted.shown, Counted.calls


@pytest.mark.parametrize("name", BLACK)
def test_no_more_images_are_shown_than_asked_for_besides_those_of_the_pool(name):
    _, x, y = linear_problem()
    for queries in (1, 40, 700):
        shown, _ = asked(name, x, y, queries=queries)  # the pool are the images themselves
        assert shown <= len(x) * (max(queries, 17) + 1) + 4, queries  # and twice two images: does it repeat?
    assert shown > len(x) * 600


@pytest.mark.parametrize("name", BLACK)
def test_all_samples_are_asked_about_together(name):
    _, x, y = linear_problem()
    few, many = (asked(name, x[i : i + n], y[i : i + n], queries=300, pool=x)[1] for i, n in ((1, 2), (1, 11)))
    assert many <= 1.5 * few + 10


@pytest.mark.parametrize("queries", [0, -3, 1.5, True])
@pytest.mark.parametrize("name", BLACK)
def test_fewer_than_one_query_are_refused(name, queries):
    model, x, y = linear_problem()
    with pytest.raises(InputError, match=f"at least 1 query a sample, got {queries}"):
        run_attack(get_attack(name), model, x, y, norm="linf", queries=queries)


def test_an_unknown_effort_is_refused():
    model, x, y = linear_problem()
    with pytest.raises(InputError, match="'huge' is unknown; choose one of quick"):
        run_attack(get_attack("square"), model, x, y, norm="linf", effort="huge")


def test_who_sees_labels_alone_finds_no_parameters():
    def weigh(model, x, y, **_):
        return next(iter(model.parameters()))

    model, x, y = linear_problem()
    with pytest.raises(AccessError, match="labels"):
        run_attack(Attack("weigh", 1, "", "", weigh, access="decisions"), model, x, y, norm="l2")


def test_queries_are_refused_to_an_attack_that_counts_none():
    model, x, y = linear_problem()
    with pytest.raises(InputError, match="'engine' counts no queries"):
        run_attack(get_attack("engine"), model, x, y, norm="linf", queries=10)


@pytest.mark.parametrize("access", ["scores", "decisions"])
def test_a_gradient_is_refused_to_who_sees_scores_or_decisions(access):
    model, x, y = linear_problem()
    engine = get_attack("engine")
    curious = type(engine)(**{**engine.__dict__, "access": access, "name": "curious"})
    with pytest.raises(AccessError, match="curious"):
        run_attack(curious, model, x, y, norm="l2", effort="quick")


def test_a_version_of_one_norm_alone_leaves_the_others_results(monkeypatch):
    def jobs():
        entry, digits = get_entry("digits-standard"), get_dataset("digits")
        return [make_job(CURVE, CurveParameters(norm), entry, digits, n=3).attack_version for norm in ("linf", "l0")]

    before = jobs()
    better = dataclasses.replace(get_attack("engine"), newer={"l0": 99})
    monkeypatch.setattr("benchmark.measures.curve.get_attack", lambda name: better)
    assert jobs() == [before[0], 99]


@pytest.mark.parametrize(("attack", "norm"), [("square", "l2"), ("geoda", "l1"), ("targeted", "linf")])
def test_a_curve_that_its_attack_has_no_threat_for_is_refused_when_it_is_planned(attack, norm):
    with pytest.raises(InputError, match=attack):
        make_job(CURVE, CurveParameters(norm, attack), get_entry("digits-standard"), get_dataset("digits"), n=3)


@pytest.mark.parametrize("name", ["engine", "square", "hopskipjump", "targeted"])
def test_a_model_that_gives_labels_alone_is_named_as_the_cause(name):
    linear, x, y = linear_problem()

    class Labels(torch.nn.Module):
        def forward(self, images):
            return linear(images).argmax(1)

    goal = {"goal": "targeted-next", "targets": 1 - y} if name == "targeted" else {}
    with pytest.raises(UnsupportedModelError, match=r"torch\.int64 of shape \(1,\).*needed are float logits"):
        run_attack(get_attack(name), Labels().eval(), x, y, norm="linf", effort="quick", **goal)


@pytest.mark.parametrize("name", ["nes", "zoo", "n-attack", "square", *DECISIONS])
def test_a_randomised_model_is_attacked_by_averages(name):
    """Noise on the logits that is as large as the lead of a typical example, and gone in the mean."""
    linear, x, y = linear_problem()

    noisy = Noisy(linear, 0.02).eval()
    exact = np.array([exact_distance(linear, x[i], y[i], "linf") for i in range(len(x))])
    found = found_by(name, noisy, x, y, norm="linf", queries=30_000)
    attacked = exact > 0.02
    assert np.isfinite(found[attacked]).mean() > 0.6
    reached = attacked & np.isfinite(found)
    assert (found[reached] / exact[reached]).mean() < 1.5


def besides_the_pool(name, model, x, y, *, pool, queries):
    """Images that an attack itself shows of each sample, those of the pool and the verification afterwards left out."""
    attack, counted = get_attack(name), CountingModel(model).eval()
    with limited(counted, attack.access, name) as shown:
        attack.run(shown, x.clone(), y, norm="linf", effort="quick", seed=0, pool=pool, queries=queries)
    return (counted.forward_passes - len(pool)) / len(x)


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("name", BLACK)
def test_no_sample_is_shown_more_often_than_the_queries_however_few(name, near):
    model, x, y = linear_problem()
    with torch.no_grad():
        mine = (model(x).argmax(1) == y).nonzero().squeeze(1)[:1]
    pool = x if near else x[mine]  # no image of another class: far ones are tried
    for queries in (1, 2, 5, 20, 100, 500):
        shown = besides_the_pool(name, model, x[mine], y[mine], pool=pool, queries=queries)
        # To see whether a model is randomised the clean image is shown twice; without a start five far images may be.
        most = queries if near or queries >= 20 or name not in DECISIONS else queries + 5
        assert shown <= most, (queries, shown)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_converge_to_the_white_box_distance_on_a_smooth_model(name, norm):
    """From one start they do not: on one image of 20 the nearest boundary is another class's, a quarter as far."""
    digits, model = get_dataset("digits"), load_model("digits-softplus")
    (x, y), pool = digits.load(20), digits.load(500)[0]
    known = found_by("engine", model, x, y, norm=norm, effort="standard", pool=pool)
    found = found_by(name, model, x, y, norm=norm, effort="thorough", pool=pool)
    attacked = known > 0
    assert attacked.sum() > 15
    assert (found[attacked] / known[attacked]).mean() <= 1.05


@pytest.mark.parametrize("name", DECISIONS)
def test_what_a_start_proved_is_not_lost_where_the_way_ends_on_a_tie(name):
    """Rounded logits are often equal, and of two equal ones a label names the first: no example is there."""
    linear, x, y = linear_problem()

    class Rounded(torch.nn.Module):
        def forward(self, images):
            return (3 * linear(images)).round()

    model = Rounded().eval()
    x = torch.rand(30, *x.shape[1:], generator=torch.Generator().manual_seed(1))
    y = model(x).argmax(1)
    begun, gone_on = (found_by(name, model, x, y, norm="l2", queries=queries) for queries in (1, 300))
    assert np.isfinite(begun).sum() > 10
    assert (gone_on <= begun).all()
    assert (gone_on < begun)[np.isfinite(begun)].mean() > 0.5


@pytest.mark.parametrize("name", BLACK)
def test_a_randomised_model_has_an_example_of_every_sample_that_it_classifies_correctly(name):
    """A single call that goes wrong says nothing, nor that the nearest image of the pool is not wrong for sure."""
    linear, x, y = linear_problem()
    with torch.no_grad():
        top = linear(x).topk(2).values
    mine = ((top[:, 0] - top[:, 1]) > 0.3).nonzero().squeeze(1)
    x, y = x[mine], linear(x[mine]).argmax(1)

    noisy, pool = Noisy(linear, 0.1).eval(), torch.rand(300, *x.shape[1:], generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    assert len(x) > 3
    found = found_by(name, noisy, x, y, norm="linf", queries=4000, pool=pool)
    assert np.isfinite(found).all(), found


def test_a_curve_states_its_queries_and_only_where_they_are_counted():
    assert make_key(CurveParameters("l2", "nes")) != make_key(CurveParameters("l2", "nes", queries=500))
    assert make_key(CurveParameters("l2", "nes")) == make_key(CurveParameters("l2", "nes", queries=None))
    with pytest.raises(InputError, match="counts no queries"):
        CURVE.attack_version(CurveParameters("l2", "engine", queries=500))
    for wrong in (-5, 0, 1.5, "7"):
        with pytest.raises(InputError, match="at least 1 query a sample"):
            CurveParameters("l2", "nes", queries=wrong)
    model, x, y = linear_problem()
    counted = CountingModel(model).eval()
    few, many = (
        CURVE.run(Task(model, model, x, y, pool=x), CurveParameters("l2", "hopskipjump", queries=queries)).adversarials
        for queries in (100, 2000)
    )
    near, far = (verify(model, x, y, found).distances["l2"].sum() for found in (many, few))
    assert near < 0.9 * far
    CURVE.run(Task(counted, model, x, y, pool=x), CurveParameters("l2", "nes", queries=300))
    assert counted.forward_passes < len(x) * 500


def make_key(parameters):
    return make_job(CURVE, parameters, get_entry("digits-standard"), get_dataset("digits"), n=10).key
