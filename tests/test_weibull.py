"""The reverse Weibull fit against SciPy's likelihood, known parameters, and cases in which there is nothing to fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, stats

from benchmark.clever.profile import Profile
from benchmark.clever.weibull import bootstrap_location, fit_reverse_weibull
from benchmark.errors import InputError

STARTS = (0.1, 1, 5, 10, 20, 50, 100)


def maxima(shape, n, *, rows, endpoint=5.0, scale=1.0, seed=0):
    return endpoint - scale * np.random.default_rng(seed).weibull(shape, size=(rows, n))


def scipy_fit(row, start):
    """SciPy's fit of the mirrored law, and its log-likelihood."""
    shape, location, scale = stats.weibull_min.fit(-row, start)
    return shape, stats.weibull_min.logpdf(-row, shape, location, scale).sum()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("n", [20, 60, 500])
@pytest.mark.parametrize("shape", [1.2, 2.0, 4.0, 8.0])
def test_no_fit_of_scipy_has_a_larger_likelihood(shape, n):
    rows = maxima(shape, n, rows=3)
    fit = fit_reverse_weibull(rows)
    for row, ours in zip(rows, fit.log_likelihood, strict=True):
        theirs = [scipy_fit(row, start) for start in (1.0, 5.0, 20.0)]
        allowed = [likelihood for c, likelihood in theirs if c >= 1 and np.isfinite(likelihood)]
        assert all(ours >= likelihood - 1e-3 for likelihood in allowed)


@pytest.mark.parametrize("penalty", [0.0, 0.01])
@pytest.mark.parametrize("shape", [1.0, 1.5, 3.0, 30.0])
def test_the_fit_is_the_optimum_of_a_dense_search(shape, penalty):
    """Every gap on a fine grid, with c from a scalar optimiser: slow and sure."""
    for row in maxima(shape, 40, rows=4, seed=1):
        fit = fit_reverse_weibull(row, penalty=penalty)
        spread = np.ptp(row)
        reached = fit.log_likelihood - penalty * (fit.scale / spread) ** 2

        def loss(log_c, gap, row=row, spread=spread):
            y, c = row.max() + gap * spread - row, np.exp(log_c)
            log_scale = np.log(np.mean(np.exp(c * (np.log(y) - np.log(y.max()))))) / c + np.log(y.max())
            value = np.sum(log_c - c * log_scale + (c - 1) * np.log(y)) - len(y)
            return -(value - penalty * (np.exp(log_scale) / spread) ** 2)

        best = max(
            -optimize.minimize_scalar(loss, bounds=(0, 14), args=(gap,), method="bounded").fun
            for gap in np.geomspace(1e-5, 1e4, 60)
        )
        assert reached >= best - 1e-3


@pytest.mark.parametrize("shape", [1.5, 3.0, 6.0])
def test_parameters_are_recovered_from_many_observations(shape):
    fit = fit_reverse_weibull(maxima(shape, 20000, rows=1, endpoint=7.0, scale=2.0))
    assert fit.location[0] == pytest.approx(7.0, abs=0.15)
    assert fit.shape[0] == pytest.approx(shape, rel=0.15)
    assert fit.scale[0] == pytest.approx(2.0, rel=0.1)
    assert fit.p_value[0] > 0.05


def test_ks_statistic_and_p_value_are_scipys():
    rows = maxima(3.0, 50, rows=5)
    fit = fit_reverse_weibull(rows)
    for i, row in enumerate(rows):
        parameters = (fit.shape[i], -fit.location[i], fit.scale[i])
        reference = stats.kstest(-row, "weibull_min", args=parameters)
        assert fit.ks[i] == pytest.approx(reference.statistic, abs=1e-9)
        assert fit.p_value[i] == pytest.approx(reference.pvalue, abs=0.02)


finite_rows = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 30)), elements=st.floats(0, 1e3))


@settings(deadline=None)
@given(finite_rows)
def test_the_endpoint_is_never_below_the_largest_observation_and_c_never_below_1(rows):
    for fit in (fit_reverse_weibull(rows, penalty=0.01), fit_reverse_weibull(rows, penalty=0.01, starts=STARTS)):
        assert (fit.location >= rows.max(axis=1)).all()
        assert np.isfinite(fit.location).all()
        assert ((fit.shape >= 1) | fit.constant).all()


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 100), st.floats(-100, 100), st.integers(0, 100))
def test_the_fit_moves_and_scales_with_the_observations(factor, shift, seed):
    row = maxima(3.0, 40, rows=1, seed=seed)[0]
    fit, moved = fit_reverse_weibull(row, penalty=0.01), fit_reverse_weibull(factor * row + shift, penalty=0.01)
    # The search stops within 1e-4 of the gap; rounding of the shifted data adds the rest.
    assert moved.location == pytest.approx(factor * fit.location + shift, abs=1e-3 * factor)
    assert moved.shape == pytest.approx(float(fit.shape), rel=1e-3)


def test_a_batch_gives_what_its_rows_give_one_by_one():
    rows = maxima(3.0, 50, rows=12).reshape(3, 4, 50)
    together = fit_reverse_weibull(rows, penalty=0.01)
    assert together.location.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            alone = fit_reverse_weibull(rows[i, j], penalty=0.01)
            assert together.location[i, j] == pytest.approx(float(alone.location), abs=1e-4)


def test_equal_maxima_are_their_own_endpoint_and_flagged():
    fit = fit_reverse_weibull([[2.0] * 30, [2.0] * 29 + [2.0 + 1e-7]])
    assert fit.constant.all()
    assert np.allclose(fit.location, 2.0)
    assert np.isnan(fit.shape).all()
    assert np.isnan(fit.p_value).all()


def test_two_observations_are_fitted_and_flagged():
    fit = fit_reverse_weibull([1.0, 2.0])
    assert fit.few
    assert not fit.constant
    assert fit.location >= 2.0


def test_observations_without_an_endpoint_are_flagged_and_the_penalty_bounds_them():
    """Gumbel observations have no endpoint: the likelihood often rises for ever."""
    rows = np.random.default_rng(0).gumbel(size=(50, 40))
    free, held = fit_reverse_weibull(rows), fit_reverse_weibull(rows, penalty=0.01)
    assert free.unbounded.any()
    assert not held.unbounded.any()
    assert (held.location - rows.max(axis=1) < 20 * np.ptp(rows, axis=1)).all()


def test_starts_lead_to_the_fit_with_the_best_p_value():
    rows = maxima(3.0, 60, rows=30)
    one, several = fit_reverse_weibull(rows, penalty=0.01), fit_reverse_weibull(rows, penalty=0.01, starts=STARTS)
    inside = one.shape > 1
    assert (several.p_value[inside] >= one.p_value[inside] - 1e-3).all()


def test_a_rejected_fit_is_replaced_by_the_largest_observation():
    """Two lumps far apart follow no Weibull law."""
    row = np.concatenate([np.full(100, 1.0), np.full(100, 2.0)]) + 1e-3 * np.random.default_rng(0).random(200)
    fit = fit_reverse_weibull(row, penalty=0.01, reject_below=0.001)
    assert fit.replaced
    assert fit.location == row.max()


def test_the_thinned_likelihood_is_near_the_whole_one():
    distance = np.sort(np.random.default_rng(0).random((5, 500)), axis=1)
    distance[:, 0], distance[:, -1] = 0, 1
    profile = Profile(distance, np.full(500, 1 / 500), 500, 0.0)
    gap, shape = np.full(5, 0.3), np.full(5, 2.0)
    thinned, whole = profile.thinned(1.1), profile
    assert thinned.distance.shape[1] < 60
    assert thinned(gap, shape).value == pytest.approx(whole(gap, shape).value, rel=0.005)
    assert thinned(gap, shape).shape == pytest.approx(whole(gap, shape).shape, rel=0.05)


def test_the_bootstrap_interval_covers_the_endpoint():
    rows = maxima(2.0, 100, rows=60)
    low, high = bootstrap_location(rows, resamples=60, confidence=0.9, penalty=0.01)
    assert low.shape == (60,)
    # A bootstrap of an endpoint covers less than it says; well above half is what to expect here.
    assert np.mean((low <= 5.0) & (high >= 5.0)) > 0.6


@pytest.mark.parametrize(
    ("observed", "message"),
    [([1.0], "at least 2 maxima, got 1"), ([1.0, np.nan], "finite maxima"), ([1.0, np.inf], "finite maxima")],
)
def test_what_cannot_be_fitted_is_refused(observed, message):
    with pytest.raises(InputError, match=message):
        fit_reverse_weibull(observed)


@pytest.mark.parametrize(("resamples", "confidence"), [(1, 0.95), (10, 0.0), (10, 1.0)])
def test_a_bootstrap_out_of_range_is_refused(resamples, confidence):
    with pytest.raises(InputError, match="2 resamples or more and a confidence between 0 and 1"):
        bootstrap_location([1.0, 2.0, 3.0], resamples=resamples, confidence=confidence)
