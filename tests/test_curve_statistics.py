"""Statistics of several curves: against constructions whose answer is known."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from benchmark.curve import RobustnessCurve
from benchmark.errors import InputError
from benchmark.ranks import indistinct, resampling
from benchmark.statistics import crossings, rank_intervals, ranks_of_counts, resampled_counts, summarise, union


def curve(values: object, norm: str = "l2") -> RobustnessCurve:
    return RobustnessCurve(np.asarray(values, dtype=np.float64), norm)  # type: ignore[arg-type]


def spread(low: float, high: float, n: int = 400) -> RobustnessCurve:
    """Distances evenly over (low, high)."""
    return curve(low + (high - low) * (np.arange(n) + 0.5) / n)


def test_two_uniform_curves_cross_where_their_lines_do() -> None:
    # Robust accuracies 1 - e on (0, 1) and 1 - (e - .25) / .5 on (.25, .75): equal at .5.
    (crossing,) = crossings(spread(0, 1), spread(0.25, 0.75))
    assert crossing.eps == pytest.approx(0.5, abs=0.003)
    assert crossing.low <= crossing.eps <= crossing.high
    assert crossing.support > 0.99
    assert crossing.ahead == "first"


def test_swapping_the_curves_swaps_who_is_ahead() -> None:
    a, b = spread(0, 1), spread(0.25, 0.75)
    (one,), (other,) = crossings(a, b), crossings(b, a)
    assert (one.eps, one.support) == (other.eps, other.support)
    assert {one.ahead, other.ahead} == {"first", "second"}


def test_the_place_of_a_crossing_is_covered_by_its_interval() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for seed in range(40):
        a, b = curve(rng.uniform(0, 1, 400)), curve(rng.uniform(0.25, 0.75, 400))
        found = crossings(a, b, resamples=300, seed=seed)
        inside += [c.low <= 0.5 <= c.high for c in found]
    assert len(inside) >= 35
    assert np.mean(inside) > 0.8


def test_a_curve_that_is_always_above_never_crosses() -> None:
    rng = np.random.default_rng(0)
    d = rng.gamma(2, size=300)
    assert crossings(curve(d), curve(d + 0.1)) == []
    assert crossings(curve(d), curve(d)) == []


def test_jitter_of_equally_good_models_is_no_crossing() -> None:
    rng = np.random.default_rng(3)
    found = [crossings(curve(rng.gamma(2, size=200)), curve(rng.gamma(2, size=200)), resamples=300) for _ in range(40)]
    assert sum(map(bool, found)) <= 8


def test_a_flip_interrupted_by_jitter_is_one_crossing() -> None:
    rng = np.random.default_rng(0)
    a = np.concatenate((np.linspace(0.2, 0.4, 100), 0.5 + 0.01 * rng.uniform(size=300), np.linspace(0.6, 0.7, 100)))
    b = np.concatenate((np.linspace(0.0, 0.2, 100), 0.5 + 0.01 * rng.uniform(size=300), np.linspace(0.9, 1.2, 100)))
    (crossing,) = crossings(curve(a), curve(b))
    assert 0.4 <= crossing.eps <= 0.6
    assert crossing.ahead == "second"


def test_three_stretches_give_two_crossings() -> None:
    a = np.repeat([0.3, 0.4, 0.9], 100)
    b = np.repeat([0.1, 0.6, 0.7], 100)
    found = crossings(curve(a), curve(b))
    assert [(c.eps, c.ahead) for c in found] == [(0.4, "second"), (0.7, "first")]


def test_crossings_end_at_the_largest_finite_distance() -> None:
    # Beyond 0.5 nothing was measured: that the second has a censored sample more is no crossing.
    a = np.repeat([0.2, 0.5], 50)
    b = np.repeat([0.1, 0.5], 50)
    b[-1] = math.inf
    assert crossings(curve(a), curve(b)) == []


def test_curves_of_other_norms_or_samples_are_not_compared() -> None:
    with pytest.raises(InputError, match="l2 with 2 and l1 with 2"):
        crossings(curve([1, 2]), curve([1, 2], "l1"))
    with pytest.raises(InputError, match="l2 with 2 and l2 with 3"):
        crossings(curve([1, 2]), curve([1, 2, 3]))


def test_a_union_counts_only_samples_robust_in_every_norm() -> None:
    linf = curve([0.0, 0.05, 0.2, 0.2, math.inf], "linf")
    l2 = curve([0.0, 2.0, 0.5, 2.0, math.inf], "l2")
    both = union([linf, l2], {"linf": 0.1, "l2": 1.0})
    assert both.robust.tolist() == [False, False, False, True, True]
    assert both.robust_accuracy == 0.4
    exact = stats.binomtest(2, 5).proportion_ci(method="exact")
    assert (both.interval.low, both.interval.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


@given(arrays(np.float64, (3, 12), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf])))
def test_a_union_is_never_above_any_of_its_norms(values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    curves = [curve(row, norm) for row, norm in zip(values, ("linf", "l2", "l1"), strict=True)]
    robust = union(curves, {"linf": 1, "l2": 1, "l1": 1}).robust_accuracy
    assert robust <= min(c.robust_accuracy(1) for c in curves)
    assert union(curves, {"l2": 1}).robust_accuracy == curves[1].robust_accuracy(1)


def test_a_union_without_a_curve_for_a_norm_is_refused() -> None:
    with pytest.raises(InputError, match=r"none for \['l1'\]"):
        union([curve([1.0])], {"l2": 1, "l1": 1})
    with pytest.raises(InputError, match=r"have \[1, 2\]"):
        union([curve([1.0]), curve([1.0, 2.0], "l1")], {"l2": 1, "l1": 1})


def test_ranks_show_ties_and_follow_robust_accuracy() -> None:
    d = np.array([[1, 1, 1, 1], [1, 1, 0.1, 0.1], [0.1, 0.1, 1, 1], [0.1, 0.1, 0.1, 0.1]])
    ranks = rank_intervals(d, [0.5, 2.0])
    assert ranks.rank[:, 0].tolist() == [1, 2, 2, 4]
    assert ranks.rank[:, 1].tolist() == [1, 1, 1, 1]  # all are broken
    assert (ranks.low[:, 1] == 1).all()
    assert (ranks.high[:, 1] == 4).all()
    assert (ranks.low <= ranks.rank).all()
    assert (ranks.rank <= ranks.high).all()


def test_clearly_different_models_have_certain_ranks_and_equal_ones_share_theirs() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(size=500)
    d = np.stack([base + 0.5, base, base + 0.25, base])
    ranks = rank_intervals(d, 0.6)
    assert list(zip(ranks.rank[:, 0], ranks.low[:, 0], ranks.high[:, 0], strict=True)) == [
        (1, 1, 1),
        (3, 3, 4),
        (2, 2, 2),
        (3, 3, 4),
    ]


@settings(max_examples=40, deadline=None)
@given(arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.integers(0, 12)))
def test_a_rank_counts_who_is_strictly_better(counts: NDArray[np.int32]) -> None:
    certain = np.repeat(counts[:, :, None], 3, axis=2)  # each resample as the samples themselves
    ranks = ranks_of_counts(counts, certain, eps=np.arange(counts.shape[1]))
    better = (counts[None] > counts[:, None]).sum(axis=1)
    assert np.array_equal(ranks.rank, 1 + better)
    unsure = indistinct(0.95)
    assert unsure == 5
    assert np.array_equal(ranks.low, 1 + (counts[None] > counts[:, None] + unsure).sum(axis=1))
    assert np.array_equal(ranks.high, (counts[None] >= counts[:, None] - unsure).sum(axis=1))


def test_counts_too_large_for_one_word_with_the_models_index_are_ranked_as_well() -> None:
    counts = np.array([[2**30], [2**30 + 1], [5], [2**30]])
    ranks = ranks_of_counts(counts, counts[:, :, None], eps=[0.1])
    assert ranks.rank[:, 0].tolist() == [2, 1, 4, 2]


def test_models_counted_one_by_one_are_ranked_as_together() -> None:
    d = np.random.default_rng(2).gamma(3, 0.1, size=(5, 60))
    drawn = np.stack([resampled_counts(row, [0.2, 0.3], resamples=50, seed=3) for row in d])
    apart = ranks_of_counts((d[:, None] > np.array([[0.2], [0.3]])).sum(axis=2), drawn, eps=[0.2, 0.3])
    together = rank_intervals(d, [0.2, 0.3], resamples=50, seed=3)
    assert np.array_equal(apart.rank, together.rank)
    assert np.array_equal(apart.low, together.low)
    assert np.array_equal(apart.high, together.high)


def test_pairing_makes_ranks_surer_than_independent_samples_would() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(1, 0.5, size=400).clip(0)
    paired = np.stack([base, base + 0.05, base + 0.1])
    shuffled = np.stack([rng.permutation(row) for row in paired])
    width = [(r.high - r.low).sum() for r in (rank_intervals(paired, 1.0), rank_intervals(shuffled, 1.0))]
    assert width[0] == 0
    assert width[1] > 0


def test_the_same_seed_gives_the_same_ranks() -> None:
    d = np.random.default_rng(0).gamma(2, size=(6, 50))
    one, two = rank_intervals(d, [1.0, 2.0], seed=4), rank_intervals(d, [1.0, 2.0], seed=4)
    np.testing.assert_array_equal(one.low, two.low)
    np.testing.assert_array_equal(one.high, two.high)


@settings(max_examples=25)
@given(arrays(np.float64, (4, 15), elements=st.one_of(st.sampled_from([0.0, 0.5, math.inf]), st.floats(0, 3))))
def test_a_summary_equals_the_curves_own_figures(d: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    eps = np.array([0.0, 0.5, 1.7])
    summary = summarise(d, eps=eps, up_to=2.0, shares=(0.25, 0.5), confidence=0.9)
    for i, row in enumerate(d):
        c = curve(row)
        np.testing.assert_array_equal(summary.robust_accuracy[i], c.robust_accuracy(eps))
        for j, e in enumerate(eps):
            interval = c.interval(float(e), confidence=0.9)
            assert (summary.low[i, j], summary.high[i, j]) == (interval.low, interval.high)
        band = c.band(0.9, eps=eps)
        np.testing.assert_array_equal(summary.band_low[i], band.low)
        np.testing.assert_array_equal(summary.band_high[i], band.high)
        area = c.area_interval(up_to=2.0, confidence=0.9)
        assert summary.area[i] == pytest.approx(c.area(up_to=2.0))
        assert (summary.area_low[i], summary.area_high[i]) == (pytest.approx(area.low), pytest.approx(area.high))
        assert summary.quantiles[i].tolist() == [c.quantile(0.25), c.quantile(0.5)]
        assert (summary.clean_accuracy[i], summary.censored[i]) == (c.clean_accuracy, c.censored)


def test_samples_are_drawn_with_replacement_each_as_often_as_the_others() -> None:
    weights = resampling(20, 4000, 0)
    assert (weights.sum(axis=1) == 20).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.08)
    np.testing.assert_allclose(weights.var(axis=0), 1 - 1 / 20, atol=0.12)


tied = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0, math.inf]), st.floats(0, 3))


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (2, 18), elements=tied), st.floats(0.01, 0.99))
def test_crossings_of_any_two_curves_alternate_and_lie_where_something_was_measured(
    d: np.ndarray[tuple[int, int], np.dtype[np.float64]], confidence: float
) -> None:
    first, second = curve(d[0]), curve(d[1])
    found = crossings(first, second, confidence=confidence, resamples=40)
    finite = d[np.isfinite(d)]
    for crossing in found:
        assert 0 <= crossing.low <= crossing.eps <= crossing.high <= finite.max()
        assert 0 <= crossing.support <= 1
        gap = first.robust_accuracy(crossing.eps) - second.robust_accuracy(crossing.eps)
        assert (gap > 0) == (crossing.ahead == "first")
        assert gap != 0
    assert all(a.eps < b.eps and a.ahead != b.ahead for a, b in pairwise(found))


def test_many_leads_are_merged_before_they_are_resampled() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(size=2000)
    found = crossings(curve(base), curve(base + 0.001 * rng.normal(size=2000).clip(-0.5, 0.5) + 0.001), resamples=100)
    assert len(found) <= 3
