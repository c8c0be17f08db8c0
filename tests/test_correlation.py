"""Correlations between figures of models: against a published table, against scipy, and on tables worked by hand."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmark.correlation import conditional, grouped, kendall, pearson, signs, spearman
from benchmark.errors import InputError

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="module")
def stutz() -> dict[str, np.ndarray]:
    """The figures of the 74 CIFAR-10 models of Stutz, Hein & Schiele 2021, joined by model."""
    files = [SHARED / f"stutz-{name}.csv" for name in ("flatness", "loss")]
    if not all(file.exists() for file in files):
        pytest.skip("the tables of Stutz et al. are not in ../shared")
    tables = []
    for file in files:
        with file.open(newline="") as handle:
            tables.append({row["model"]: row for row in csv.DictReader(handle)})
    models = sorted(set(tables[0]) & set(tables[1]))
    assert len(models) == 74
    rows = [tables[0][m] | tables[1][m] for m in models]
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0] if name != "model"}


@pytest.mark.shared
class TestPublished:
    def test_robust_loss_follows_average_flatness(self, stutz):
        loss, flatness = stutz["RCE_PGD_test"], stutz["avg_flat_RCE"]
        assert round(pearson(loss, flatness).value, 3) == 0.847
        assert round(spearman(loss, flatness).value, 3) == 0.856

    def test_flatness_of_the_clean_loss_tells_little(self, stutz):
        assert round(pearson(stutz["RCE_PGD_test"], stutz["avg_flat_CE"]).value, 3) == 0.278

    def test_the_gap_follows_flatness(self, stutz):
        gap = stutz["RCE_PGD_test"] - stutz["RCE_PGD_train"]
        assert round(kendall(gap, stutz["avg_flat_RCE"]).value, 3) == 0.687
        errors = stutz["RTE_AA_test"] - stutz["RTE_AA_train"]
        assert round(kendall(errors, stutz["avg_flat_RCE"]).value, 3) == 0.547
        assert round(kendall(errors, stutz["worst_flat_RCE"]).value, 3) == 0.374


def test_the_three_agree_with_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=40).round(1)  # with ties
    y = x + rng.normal(size=40)
    assert kendall(x, y).value == pytest.approx(stats.kendalltau(x, y).statistic)
    assert spearman(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic)
    assert pearson(x, y).value == pytest.approx(stats.pearsonr(x, y).statistic)


def test_intervals_cover_the_truth():
    # Bivariate normal of correlation .6: tau = 2 / pi asin(.6).
    rng, truth, hits = np.random.default_rng(1), 2 / np.pi * np.arcsin(0.6), 0
    for trial in range(30):
        x = rng.normal(size=60)
        y = 0.6 * x + 0.8 * rng.normal(size=60)
        found = kendall(x, y, seed=trial)
        hits += found.low <= truth <= found.high
    assert hits >= 25


def test_what_is_missing_is_left_out_and_counted():
    x, y = np.array([1, 2, np.nan, 3, 4]), np.array([1, 2, 3, np.inf, 5])
    found = kendall(x, y)
    assert (found.models, found.value) == (3, pytest.approx(1))


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([], [])])
def test_what_is_not_defined_is_no_number(x, y):
    found = spearman(x, y)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_lengths_must_agree():
    with pytest.raises(InputError, match=r"shapes \(2,\) and \(3,\)"):
        kendall([1, 2], [1, 2, 3])


def test_signs_counts_a_tie_as_nothing():
    assert signs(np.array([1.0, 2, 3]), np.array([1.0, 2, 2])) == pytest.approx(2 / 3)
    assert signs(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == -1


# Method b has a larger measure and a larger gap than a; within a method, width goes the wrong way.
SETTINGS = [{"method": m, "width": w} for m in "ab" for w in "12"]
MEASURE, GAP = [1.0, 2.0, 11.0, 12.0], [2.0, 1.0, 12.0, 11.0]


def test_a_measure_that_only_tells_methods_apart_is_found_out():
    overall = signs(np.array(MEASURE), np.array(GAP))
    found = grouped(MEASURE, GAP, SETTINGS)
    assert overall == pytest.approx(1 / 3)
    assert found.psi == {"method": 1.0, "width": -1.0}
    assert found.mean == 0
    assert found.groups == {"method": 2, "width": 2}


def test_conditional_keeps_a_setting_fixed():
    # With the method fixed only the width varies, the wrong way; with the width fixed the method, the right way.
    assert conditional(MEASURE, GAP, SETTINGS) == {"method": -1.0, "width": 1.0}


def test_a_setting_that_never_varies_has_no_psi():
    found = grouped([1.0, 2.0], [1.0, 2.0], [{"seed": "0", "width": "1"}, {"seed": "0", "width": "2"}])
    assert np.isnan(found.psi["seed"])
    assert (found.psi["width"], found.mean) == (1.0, 1.0)


def test_models_of_different_grids_are_refused():
    with pytest.raises(InputError, match="do not all have the same training settings"):
        grouped([1.0, 2.0], [1.0, 2.0], [{"width": "1"}, {"depth": "2"}])


@pytest.mark.parametrize("statistic", [kendall, spearman, pearson])
def test_without_a_resample_that_varies_there_is_no_interval(statistic):
    # With two resamples of three models some seed draws one model only, and no correlation is defined.
    found = [statistic([1.0, 2.0, 2.0], [1.0, 2.0, 3.0], resamples=2, seed=seed) for seed in range(40)]
    assert any(math.isnan(c.low) and math.isnan(c.high) for c in found)
    assert all(c.value > 0 for c in found)
