"""Attacks and CLEVER on models whose images are transformed first: through the identity backward, honest about it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmark import robustness_curve
from benchmark.certificates import certificate
from benchmark.clever import clever_estimates
from benchmark.clever.jacobian import cotangents, dual_norms
from benchmark.data import get_dataset
from benchmark.errors import UnsupportedModelError
from benchmark.measures import Task, get_measure
from benchmark.threat import Norm
from models_zoo import load_model
from models_zoo.preprocessing import build

SPECS = (
    {"kind": "bit_depth", "bits": 3},
    {"kind": "jpeg", "quality": 75},
    {"kind": "png"},
)

NORMS = ("linf", "l2", "l1")


def behind(spec: dict[str, object]) -> nn.Module:
    return nn.Sequential(build([spec]), load_model("digits-standard")).eval()


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s["kind"])
def test_an_attack_finds_nearly_what_it_finds_without_the_transformation(spec: dict[str, object]) -> None:
    """Rounding is no defence: the distances grow by at most half a level's rounding, they do not become infinite."""
    x, y = get_dataset("digits").load(8)
    bare = robustness_curve(load_model("digits-standard"), x, y, norm="linf", effort="quick").distances
    found = robustness_curve(behind(spec), x, y, norm="linf", effort="quick").distances
    assert np.isfinite(found).all()
    both = (bare > 0) & (found > 0)
    assert both.sum() >= 6
    assert (found[both] <= bare[both] + 0.5 / 7 + 1e-3).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s["kind"])
def test_clever_scores_are_finite_and_start_from_the_transformed_image(spec: dict[str, object], norm: Norm) -> None:
    """Neither zero gradients, which masking would give, nor margins of another image."""
    x, y = get_dataset("digits").load(2)
    estimates = clever_estimates(behind(spec), x, y=y, norm=norm, batches=4, samples=4)
    assert (estimates.score[estimates.correct] > 0).all()
    assert np.isfinite(estimates.score).all()
    assert not estimates.zero.any()
    gradients = clever_estimates(load_model("digits-standard"), build([spec])(x), y=y, norm=norm, batches=4, samples=4)
    assert estimates.margins == pytest.approx(gradients.margins, rel=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s["kind"])
def test_gradient_norms_are_those_of_the_network_at_the_transformed_points(spec: dict[str, object]) -> None:
    points, _ = get_dataset("digits").load(5)
    rows = cotangents(3, [0, 7], 10, points)
    through = dual_norms(behind(spec), points, rows, NORMS)
    assert torch.equal(through, dual_norms(load_model("digits-standard"), build([spec])(points), rows, NORMS))


def test_a_quantised_model_is_flagged_and_its_true_inputs_are_attacked() -> None:
    """A gradient sees nothing of a step: searches without gradients find more, and the row says so."""
    x, y = get_dataset("digits").load(20)
    model = load_model("digits-bit-depth")
    measure = get_measure("curve")
    result = measure.run(Task(model, model, x, y), measure.Parameters(norm="l2"))
    assert "gradient-free-stronger" in {flag.code for flag in result.flags}


def test_certificates_say_that_they_do_not_apply() -> None:
    x, y = get_dataset("digits").load(2)
    with pytest.raises(UnsupportedModelError):
        certificate(load_model("digits-bit-depth"), x, y, norm="linf")
