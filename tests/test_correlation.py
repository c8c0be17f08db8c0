"""Correlations between figures of models: against a published table, against scipy, and on tables worked by hand."""

import csv
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
def test_without_a_resample_that_varies_the_interval_is_wide(statistic):
    # With two resamples of three models some seed draws one model only, and no correlation is defined.
    found = [statistic([1.0, 2.0, 2.0], [1.0, 2.0, 3.0], resamples=2, seed=seed) for seed in range(40)]
    assert {(c.low, c.high) for c in found} == {(-1.0, 1.0)}
    assert all(c.value > 0 for c in found)


@pytest.mark.parametrize("statistic", [kendall, spearman])
@pytest.mark.parametrize("n", [3, 4])
def test_a_few_models_prove_no_order(statistic, n):
    # Of n! orders two are perfect: chance does as well once in 3 or 12 times.
    found = statistic(np.arange(n), np.arange(n))
    assert (found.value, found.high) == (pytest.approx(1), pytest.approx(1))
    assert found.low < 0


@pytest.mark.parametrize("statistic", [kendall, spearman, pearson])
@pytest.mark.parametrize("n", [3, 4, 5, 6, 8, 12])
def test_figures_that_have_nothing_to_do_with_each_other_are_seldom_said_to(statistic, n):
    rng = np.random.default_rng(n)
    found = [statistic(*rng.normal(size=(2, n)), resamples=20, seed=trial) for trial in range(300)]
    claims = sum(c.low > 0 or c.high < 0 for c in found)
    assert claims <= stats.binom.ppf(0.999, 300, 0.06)


def test_a_perfect_order_of_five_is_one_but_barely():
    # The exact test's p-value is 2 / 5! = .017.
    up, down = kendall(np.arange(5), np.arange(5)), kendall(np.arange(5), -np.arange(5))
    assert 0 < up.low < 0.3
    assert (down.low, down.high) == (pytest.approx(-1), pytest.approx(-up.low))
