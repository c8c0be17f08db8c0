"""Norms as objects, threats, and what attacks declare: each is one file, and nothing else knows their names."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import RobustnessCurve, verify
from benchmark.attacks import Attack, AttackResult, get_attack, run_attack
from benchmark.errors import AccessError, InputError, UnknownNameError
from benchmark.threat import Geometry, Threat, distances, dual, get_norm, norm_names, norms, norms_of, project_ball_
from benchmark.threat import names as registry


def test_the_norms_are_listed_in_order_with_their_symbols():
    assert norm_names() == ("linf", "l2", "l1", "l0", "l0_pixels")
    assert [norm.symbol for norm in norms()] == ["ℓ∞", "ℓ₂", "ℓ₁", "ℓ₀", "ℓ₀ (pixels)"]
    assert len({norm.title for norm in norms()}) == len(norms())


def test_importing_every_norm_does_not_load_torch():
    code = "import sys; from benchmark.threat import norms, Threat; norms(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_features_and_pixels_are_counted_apart():
    x = torch.full((1, 3, 4, 4), 0.5)
    z = x.clone()
    z[0, :, 1, 2] += 0.1  # a pixel in all channels
    z[0, 0, 3, 3] = 0.0  # one value of another
    assert distances(x, z, "l0").tolist() == [4.0]
    assert distances(x, z, "l0_pixels").tolist() == [2.0]
    assert distances(x, z, "l0").dtype == torch.float64
    with pytest.raises(InputError, match=r"shape \(n, c, h, w\)"):
        norms_of((z - x).flatten(1), "l0_pixels")


@pytest.mark.parametrize("norm", ["l0", "l0_pixels"])
def test_projection_onto_few_changes_is_the_best_of_all_choices(norm):
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(1, 2, 2, 2, generator=generator)
    kept = 2
    found = project_ball_(delta.clone(), norm, torch.tensor([kept + 0.9]))
    if norm == "l0":
        choices = itertools.combinations(range(8), kept)
        masks = [torch.zeros(8).index_fill(0, torch.tensor(c), 1.0).view(1, 2, 2, 2) for c in choices]
    else:
        choices = itertools.combinations(range(4), kept)
        masks = [torch.zeros(4).index_fill(0, torch.tensor(c), 1.0).view(1, 1, 2, 2) for c in choices]
    nearest = min(float((delta * mask - delta).norm()) for mask in masks)
    assert float((found - delta).norm()) == pytest.approx(nearest)
    assert norms_of(found, norm).tolist() == [kept]


@pytest.mark.parametrize("norm", norm_names())
def test_pairwise_distances_and_the_diameter_are_those_of_single_images(norm):
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.rand(n, 2, 3, 3, generator=generator).double() for n in (3, 4))
    z[0, 0] = x[1, 0]
    table = get_norm(norm).pairwise(x, z)
    for i, j in itertools.product(range(3), range(4)):
        assert float(table[i, j]) == pytest.approx(float(distances(x[i : i + 1], z[j : j + 1], norm)))
    corners = distances(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3), norm)
    assert get_norm(norm).diameter((2, 3, 3)) == pytest.approx(float(corners))


def test_an_unknown_norm_is_an_error_everywhere():
    x = torch.rand(2, 1, 2, 2)
    for call in (
        lambda: norms_of(x, "l3"),
        lambda: distances(x, x, "l3"),
        lambda: project_ball_(x, "l3", torch.ones(2)),
        lambda: Threat("l3"),
        lambda: RobustnessCurve(np.array([0.1]), "l3"),
        lambda: get_attack("engine").check("l3"),
    ):
        with pytest.raises(UnknownNameError, match="no norm called 'l3'"):
            call()
    with pytest.raises(UnknownNameError, match="l0"):
        dual("l0")


class Half(Geometry):
    """Half of the largest change: a norm that the project does not have."""

    name = "half"
    symbol = "½ℓ∞"
    title = "half of the largest change"
    order = 15

    def size(self, delta):
        return delta.flatten(1).abs().amax(dim=1) / 2


def test_a_norm_that_is_dropped_in_is_verified_recorded_and_drawn(monkeypatch):
    known = dict(registry._registered()) | {"half": Half()}
    monkeypatch.setattr(registry, "_registered", lambda: known)
    assert norm_names()[1] == "half"
    x, candidate = torch.full((1, 1, 2, 2), 0.25), torch.full((1, 1, 2, 2), 0.75)
    verdict = verify(Threshold(), x, torch.tensor([0]), candidate)
    assert verdict.distances["half"].tolist() == [0.25]
    assert set(verdict.distances) == set(norm_names())
    assert RobustnessCurve(verdict.distances["half"].numpy(), "half").robust_accuracy(0.2) == 1
    assert Threat.parse("half-targeted").norm == "half"
    with pytest.raises(InputError, match="no projection"):
        project_ball_(x, "half", torch.ones(1))


# threats -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threat", "key"),
    [
        (Threat("linf"), "linf"),
        (Threat("l0_pixels"), "l0_pixels"),
        (Threat("l2", "targeted"), "l2-targeted"),
        (Threat("l2", "targeted-least-likely"), "l2-targeted-least-likely"),
    ],
)
def test_a_key_names_one_threat(threat, key):
    assert threat.key == key
    assert Threat.parse(key) == threat
    assert threat.targeted == ("targeted" in key)


@pytest.mark.parametrize(
    "key", ["linf-untargeted", "linf-", "linf-Targeted", "linf-targeted-", "linf-any", "", "-targeted"]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises((InputError, UnknownNameError)):
        Threat.parse(key)


# access --------------------------------------------------------------------------------------------------------------


class Threshold(nn.Module):
    """Class 1 where the image's mean exceeds a half."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        lead = (x.flatten(1) - 0.5) @ self.weight
        return torch.stack([torch.zeros_like(lead), lead], dim=1)


X, Y = torch.full((1, 1, 2, 2), 0.25), torch.tensor([0])


def attack(run, access="gradients", **declared) -> Attack:
    declared = {"norms": ("linf",)} | declared
    return Attack(name="probe", version=1, title="", paper="", run=run, access=access, **declared)


def test_scores_come_without_gradients_and_decisions_without_scores():
    seen = {}

    def look(model, x, y, **_):
        seen["output"] = model(x)
        seen["parameters"] = list(model.parameters())
        return AttackResult(x)

    run_attack(attack(look, "scores"), Threshold(), X, Y, norm="linf")
    assert seen["output"].shape == (1, 2)
    assert not seen["output"].requires_grad
    assert seen["parameters"] == []
    run_attack(attack(look, "decisions"), Threshold(), X, Y, norm="linf")
    assert seen["output"].tolist() == [0]
    assert seen["output"].dtype == torch.int64


def by_gradient(model, x, y, **_):
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    return AttackResult((x + gradient).clamp(0, 1))


def by_parameter_gradient(model, x, y, **_):
    model(x)[:, 1].sum().backward()
    return AttackResult(x)


def by_scores(model, x, y, **_):
    return AttackResult(x + model(x).softmax(dim=1)[:, 1].view(-1, 1, 1, 1))


def by_call(model, x, y, **_):
    model(x)
    return AttackResult(x)


@pytest.mark.parametrize(
    ("run", "access", "message"),
    [
        (by_gradient, "scores", "logits without gradients"),
        (by_parameter_gradient, "scores", "logits without gradients"),
        (by_gradient, "decisions", "labels, int64"),
        (by_scores, "decisions", "labels, int64"),
        (by_call, "transfer", "must not call"),
    ],
)
def test_an_attack_gets_no_more_than_it_declares(run, access, message):
    with pytest.raises(AccessError, match=message):
        run_attack(attack(run, access), Threshold(), X, Y, norm="linf")
    run_attack(attack(by_gradient), Threshold(), X, Y, norm="linf")


def test_an_attack_runs_only_in_threats_that_it_declares():
    with pytest.raises(InputError, match="attacks in linf, not in 'l2'"):
        run_attack(attack(by_call), Threshold(), X, Y, norm="l2")
    with pytest.raises(InputError, match="has the goals untargeted"):
        run_attack(attack(by_call), Threshold(), X, Y, norm="linf", goal="targeted", targets=1 - Y)
    targeted = attack(
        lambda model, x, y, *, targets, **_: AttackResult(x + targets.view(-1, 1, 1, 1) / 2), goals=("targeted",)
    )
    found = run_attack(targeted, Threshold(), X, Y, norm="linf", goal="targeted", targets=1 - Y)
    assert found.adversarials.unique().tolist() == [0.75]
    with pytest.raises(InputError, match="needs targets"):
        run_attack(targeted, Threshold(), X, Y, norm="linf", goal="targeted")


# what an attack may not change ---------------------------------------------------------------------------------------


class Careless:
    """Attacks that change what they are given, each in its own way."""

    ways: ClassVar[dict[str, object]] = {
        "images": lambda model, x, y: x.add_(0.5),
        "labels": lambda model, x, y: y.fill_(1),
        "a parameter": lambda model, x, y: model.weight.data.neg_(),
        "a parameter's storage": lambda model, x, y: setattr(model.weight, "data", torch.zeros(4)),
        "a parameter itself": lambda model, x, y: setattr(model, "weight", nn.Parameter(-torch.ones(4))),
        "forward": lambda model, x, y: setattr(model, "forward", lambda x: torch.ones(len(x), 2)),
        "a hook": lambda model, x, y: model.register_forward_hook(lambda m, i, o: -o),
        "the mode": lambda model, x, y: model.train(),
        "requires_grad": lambda model, x, y: model.requires_grad_(False),
    }


@pytest.mark.parametrize("way", Careless.ways)
def test_whatever_an_attack_changes_is_put_back(way):
    model, x, y = Threshold().eval(), X.clone(), Y.clone()
    before = model(x)

    def run(model, x, y, **_):
        Careless.ways[way](model, x, y)
        return AttackResult(x)

    result = run_attack(attack(run), model, x, y, norm="linf")
    assert torch.equal(x, X)
    assert torch.equal(y, Y)
    assert torch.equal(model(x), before)
    assert not model.training
    assert model.weight.requires_grad
    changes_results = way in {"a parameter", "a parameter's storage", "a parameter itself", "forward"}
    assert [flag.code for flag in result.flags] == ["model-changed"] * changes_results


def test_the_model_is_put_back_when_an_attack_fails():
    model = Threshold()

    def run(model, x, y, **_):
        model.weight.data.zero_()
        raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        run_attack(attack(run), model, X, Y, norm="linf")
    assert model.weight.tolist() == [1.0] * 4
