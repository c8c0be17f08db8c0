"""RobustnessCurve: exact step semantics, held against brute force, closed forms and scipy."""

from __future__ import annotations

import math
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from benchmark.curve import RobustnessCurve, dkw_half_width, proportion_interval
from benchmark.errors import InputError, UnknownNameError
from benchmark.results import Flag
from benchmark.threat.budget import limit, within

# Few distinct values, so that ties, zeros and censored samples are the rule.
distance = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.5, math.inf]), st.floats(0, 4))
distances = st.lists(distance, min_size=1, max_size=40)
budget = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.5]), st.floats(0, 5))


def curve(values: typing.Any) -> RobustnessCurve:
    return RobustnessCurve(np.asarray(values, dtype=np.float64), "l2")


def test_a_curve_counts_ties_zeros_and_censored_samples_exactly() -> None:
    c = curve([0, 0.1, 0.1, 0.3, math.inf])
    assert c.robust_error(0.0) == 1 / 5  # the misclassified sample
    assert c.robust_error(0.0999) == 1 / 5
    assert c.robust_error(0.1) == 3 / 5  # distance <= eps is broken
    assert c.robust_error(1e300) == 4 / 5  # a censored sample is never counted as broken
    assert c.robust_accuracy(0.1) == 2 / 5
    assert c.clean_accuracy == 4 / 5
    assert c.censored == 1
    assert len(c) == 5


def test_an_array_of_eps_gives_an_array_of_its_shape() -> None:
    c = curve([0, 0.1, 0.2, math.inf])
    accuracy = c.robust_accuracy(np.array([[0.0, 0.1], [0.2, 9.0]]))
    np.testing.assert_array_equal(accuracy, [[0.75, 0.5], [0.25, 0.25]])
    assert isinstance(c.robust_accuracy(0.1), float)


@given(distances, budget)
def test_robust_error_is_the_share_within_eps(values: list[float], eps: float) -> None:
    c = curve(values)
    share = sum(d <= limit(eps) for d in values) / len(values)
    assert c.robust_error(eps) == share
    assert c.steps().at(eps) == pytest.approx(share, abs=1e-15)
    assert c.robust_accuracy(eps) == pytest.approx(1 - share, abs=1e-15)


@given(distances)
def test_steps_are_the_finite_distances_and_end_at_the_share_found(values: list[float]) -> None:
    steps = curve(values).steps()
    assert steps.eps.tolist() == sorted({0.0} | {d for d in values if d < math.inf})
    assert steps.robust_error[-1] == pytest.approx(np.isfinite(values).mean())
    np.testing.assert_allclose(
        steps.robust_accuracy, [np.mean(np.array(values) > eps) for eps in steps.eps], atol=1e-15
    )


def test_a_published_budget_allows_the_rounding_of_float32() -> None:
    # An 8-level change of every 8-bit image, and a projection onto the ball in float32, are within 8/255.
    levels = np.arange(248)
    images = (levels / 255).astype(np.float32)
    change = ((levels + 8) / 255).astype(np.float32).astype(float) - images
    assert change.max() > 8 / 255
    rng = np.random.default_rng(0)
    x = rng.random(100_000, dtype=np.float32)
    eps = np.float32(8 / 255)
    projected = np.clip(np.clip(x + np.float32(1), x - eps, x + eps), 0, 1).astype(float) - x
    assert projected.max() > 8 / 255
    for distance in (change.max(), projected.max()):
        assert curve([distance]).robust_accuracy(8 / 255) == 0
        assert curve([distance]).steps().at(8 / 255) == 1
        assert curve([distance]).thin(3, keep=[8 / 255]).at(8 / 255) == 1
    for eps_small in (1 / 255, 1e-3):  # smaller budgets too
        moved = (x + np.float32(eps_small)).astype(float) - x
        assert curve([moved[x < 0.9].max()]).robust_accuracy(eps_small) == 0


def test_the_tolerance_is_rounding_and_no_more() -> None:
    assert curve([8 / 255 + 1e-6]).robust_accuracy(8 / 255) == 1
    assert curve([0.5 * 1.0001]).robust_accuracy(0.5) == 1
    assert curve([1e-9]).robust_accuracy(0) == 1  # at 0 only what is misclassified counts
    assert curve([4.0]).robust_accuracy(3) == 1  # counts stay counts
    assert within([0.0, 0.1, math.inf], 0.1).tolist() == [True, True, False]
    eps = np.linspace(0, 3, 1000)
    assert (np.diff(limit(eps)) > 0).all()


@given(distances, st.floats(1e-3, 5))
def test_area_is_the_integral_of_the_step_function(values: list[float], up_to: float) -> None:
    c = curve(values)
    steps = c.steps()
    edges = np.append(steps.eps[steps.eps < up_to], up_to)
    area = float((np.diff(edges) * steps.robust_accuracy[: len(edges) - 1]).sum())
    assert c.area(up_to=up_to) == pytest.approx(area, abs=1e-9)


def test_area_of_uniform_distances_has_a_closed_form() -> None:
    c = curve((np.arange(100_000) + 0.5) / 100_000)
    assert c.area(up_to=0.5) == pytest.approx(integrate.quad(lambda e: 1 - e, 0, 0.5)[0], abs=1e-6)
    assert c.area(up_to=2) == pytest.approx(0.5)  # beyond every distance: the mean distance


@given(distances, st.floats(0.01, 1))
def test_a_quantile_is_the_smallest_eps_that_breaks_the_share(values: list[float], q: float) -> None:
    c = curve(values)
    eps = c.quantile(q)
    needed = math.ceil(q * len(values) - 1e-6)
    assert sum(d <= eps for d in values) >= needed
    assert sum(d < eps for d in values) < max(needed, 1)


@pytest.mark.parametrize(("q", "expected"), [(0.2, 1.0), (0.6, 3.0), (0.7, 4.0), (0.8, 4.0), (0.81, math.inf)])
def test_quantiles_at_whole_counts_do_not_slip_by_rounding(q: float, expected: float) -> None:
    assert curve([1, 2, 3, 4, math.inf]).quantile(q) == expected


def test_the_median_of_a_mostly_censored_curve_is_inf() -> None:
    assert curve([0.1, math.inf, math.inf]).median == math.inf


@pytest.mark.parametrize("n", [1, 7, 100])
@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_clopper_pearson_is_scipys_exact_interval(n: int, confidence: float) -> None:
    low, high = proportion_interval(np.arange(n + 1), n, confidence=confidence)
    for k in range(n + 1):
        exact = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
        assert (low[k], high[k]) == (pytest.approx(exact.low, abs=1e-10), pytest.approx(exact.high, abs=1e-10))


def test_the_interval_at_eps_is_that_of_the_robust_share() -> None:
    interval = curve([0.0] * 30 + [1.0] * 70).interval(0.5, confidence=0.9)
    exact = stats.binomtest(70, 100).proportion_ci(0.9, method="exact")
    assert (interval.low, interval.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert interval.confidence == 0.9


def test_the_band_has_the_dkw_width_and_stays_within_0_and_1() -> None:
    c = curve(np.linspace(0.01, 1, 200))
    band = c.band(0.95, eps=[0.0, 0.5, 1.0])
    width = math.sqrt(math.log(2 / 0.05) / 400)
    assert dkw_half_width(200) == pytest.approx(width)
    np.testing.assert_allclose(band.high, np.minimum(band.robust_accuracy + width, 1))
    np.testing.assert_allclose(band.low, np.maximum(band.robust_accuracy - width, 0))


def test_the_band_covers_the_whole_true_curve_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        band = curve(rng.uniform(size=50)).band(0.9)
        truth = 1 - band.eps  # falls, while the band is constant from each step to the next
        covered += bool((truth <= band.high).all() and (band.low[:-1] <= truth[1:]).all() and band.low[-1] == 0)
    assert covered >= 0.88 * 400


def test_the_area_interval_covers_the_true_area() -> None:
    rng = np.random.default_rng(1)
    truth = 1 - math.exp(-1)  # mean of min(d, 1) of an exponential
    inside = [
        i.low <= truth <= i.high for i in (curve(rng.exponential(size=80)).area_interval(up_to=1) for _ in range(500))
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


@given(distances, st.integers(3, 12), st.lists(budget, max_size=3))
def test_thinning_moves_no_step_keeps_published_points_and_states_its_error(
    values: list[float], points: int, keep: list[float]
) -> None:
    c = curve(values)
    full, thinned = c.steps(), c.thin(points, keep=keep)
    assert set(thinned.eps) <= set(full.eps)
    assert len(thinned.eps) <= points + len(keep)
    for eps in keep:
        assert thinned.at(eps) == full.at(eps)
    lag = full.robust_error - thinned.robust_error[np.searchsorted(thinned.eps, full.eps, side="right") - 1]
    assert lag.min() >= 0
    assert lag.max() == pytest.approx(thinned.error, abs=1e-15)
    assert thinned.error < 1 / (points - 2)


def test_thinning_ten_thousand_samples_leaves_a_drawable_curve() -> None:
    c = curve(np.random.default_rng(0).gamma(2, size=10_000))
    thinned = c.thin(200, keep=[0.5])
    assert len(thinned.eps) <= 201
    assert thinned.at(0.5) == c.robust_error(0.5)
    assert thinned.error < 1 / 198


def test_distances_are_copied_and_read_only() -> None:
    values = np.array([0.1, 0.2])
    c = RobustnessCurve(values, "linf")
    values[0] = 9
    assert c.distances[0] == 0.1
    with pytest.raises(ValueError, match="read-only"):
        c.distances[0] = 1


def test_the_parts_of_a_curve_are_kept() -> None:
    images: NDArray[np.float32] = np.zeros((2, 1, 3, 3), np.float32)
    c = RobustnessCurve(np.array([0.1, 0.2]), "linf", images, (Flag("a", "b"),), ("fab", "apgd"))
    assert c.adversarials is images
    assert c.origin == ("fab", "apgd")
    assert "'a'" in repr(c)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "not be empty"),
        ([[0.1]], r"got shape \(1, 1\)"),
        ([0.1, -0.2, -0.3], r"2 distances .* distances\[1\] = -0.2"),
        ([math.nan], r"distances\[0\] = nan"),
    ],
)
def test_what_is_no_distance_is_refused(values: list[typing.Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        curve(values)


def test_parts_that_do_not_fit_are_refused() -> None:
    d = np.array([0.1, 0.2])
    with pytest.raises(InputError, match="2 distances but 1 origins"):
        RobustnessCurve(d, "l2", origin=("fab",))
    with pytest.raises(InputError, match=r"n = 2 distances, got \(3, 1, 2, 2\)"):
        RobustnessCurve(d, "l2", np.zeros((3, 1, 2, 2), np.float32))
    with pytest.raises(InputError, match="kept as float32, got float64"):
        RobustnessCurve(d, "l2", np.zeros((2, 1, 2, 2)))  # type: ignore[arg-type]


def test_arguments_out_of_range_are_refused() -> None:
    c = curve([0.1, 0.2])
    for bad in (-0.1, math.nan, math.inf):
        with pytest.raises(InputError, match="finite and >= 0"):
            c.robust_accuracy(bad)
    with pytest.raises(InputError, match=r"\(0, 1\], got 0"):
        c.quantile(0)
    with pytest.raises(InputError, match="between 0 and 1, got 95"):
        c.band(95)
    with pytest.raises(InputError, match="bound of an area"):
        c.area(up_to=math.inf)
    with pytest.raises(InputError, match="at least 3 points"):
        c.thin(2)
    with pytest.raises(InputError, match="0 to n"):
        proportion_interval(3, 2)


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no norm called 'l3'"):
        RobustnessCurve([0.1], "l3")
