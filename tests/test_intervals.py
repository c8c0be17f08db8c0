"""Intervals of few samples: they cover at least as often as they say, and are never surer than the samples can be."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmark.curve import RobustnessCurve, proportion_interval, t_half_width
from benchmark.intervals import bounded_mean_interval
from benchmark.statistics import crossings, rank_intervals

LAWS: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]], float]] = {
    "uniform": (lambda rng, size: rng.uniform(size=size), 0.5),
    "nearly all robust": (lambda rng, size: (rng.uniform(size=size) < 0.95).astype(float), 0.95),
    "half robust": (lambda rng, size: (rng.uniform(size=size) < 0.5).astype(float), 0.5),
    "a rare large one": (lambda rng, size: np.where(rng.uniform(size=size) < 0.1, 1.0, 0.02), 0.118),
    "skewed": (lambda rng, size: rng.beta(0.2, 1.0, size=size), 1 / 6),
}


@pytest.mark.parametrize("n", [1, 2, 5, 20, 100])
@pytest.mark.parametrize("law", LAWS)
def test_the_interval_of_an_area_covers_at_least_as_often_as_it_says(law: str, n: int) -> None:
    draw, truth = LAWS[law]
    values = draw(np.random.default_rng(n), (3000, n))
    low, high = bounded_mean_interval(values, 1.0, confidence=0.95)
    covered = ((low <= truth) & (truth <= high)).mean()
    assert covered >= 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 3000)


def test_of_zeros_and_ones_it_is_clopper_and_pearsons() -> None:
    for n in (1, 5, 40):
        for k in {0, 1, n // 2, n}:
            row = np.array([[1.0] * k + [0.0] * (n - k)])
            low, high = bounded_mean_interval(row, 1.0, confidence=0.9)
            exact = proportion_interval([k], n, confidence=0.9)
            assert (low[0], high[0]) == (pytest.approx(exact[0][0], abs=0.02), pytest.approx(exact[1][0], abs=0.02))


def test_of_many_values_it_is_hardly_wider_than_students() -> None:
    values = np.random.default_rng(3).gamma(3, 0.1, size=(20, 1000)).clip(0, 1)
    low, high = bounded_mean_interval(values, 1.0, confidence=0.95)
    student = 2 * t_half_width(values.std(axis=1, ddof=1), 1000, confidence=0.95)
    assert ((high - low) / student).max() < 1.15


def test_five_of_five_robust_images_leave_room_below() -> None:
    interval = RobustnessCurve(np.full(5, np.inf), "linf").area_interval(up_to=0.1)
    assert interval.high == pytest.approx(0.1)
    assert interval.low == pytest.approx(0.1 * stats.beta.ppf(0.025, 5, 1), rel=0.05)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_so_few_images_tell_no_ranks_apart(n: int) -> None:
    ranks = rank_intervals(np.array([[1.0] * n, [0.1] * n]), 0.5)
    assert ranks.rank[:, 0].tolist() == [1, 2]
    assert ranks.low[:, 0].tolist() == [1, 1]
    assert ranks.high[:, 0].tolist() == [2, 2]


def test_six_images_that_all_agree_do() -> None:
    ranks = rank_intervals(np.array([[1.0] * 6, [0.1] * 6]), 0.5)
    assert (ranks.low[:, 0].tolist(), ranks.high[:, 0].tolist()) == ([1, 2], [1, 2])
    unsure = rank_intervals(np.array([[1.0] * 6, [0.1] * 6]), 0.5, confidence=0.99)
    assert unsure.high[:, 0].tolist() == [2, 2]


@pytest.mark.parametrize("n", [1, 2, 5, 20, 100])
def test_the_interval_of_a_rank_covers_the_true_one(n: int) -> None:
    """Four models, two of them equal; the better ones differ on one image in ten."""
    shares, truth = np.array([0.8, 0.7, 0.7, 0.6]), np.array([1, 2, 2, 4])
    rng, covered = np.random.default_rng(n), np.zeros(4)
    for trial in range(400):
        # Half of the hardness of an image is common to all models.
        hardness = rng.uniform(size=n) < 0.5
        own = rng.uniform(size=(4, n))
        common = np.broadcast_to(rng.uniform(size=n), (4, n))
        distances = (np.where(hardness, common, own) < shares[:, None]).astype(float)
        ranks = rank_intervals(distances, 0.5, resamples=200, seed=trial)
        covered += (ranks.low[:, 0] <= truth) & (truth <= ranks.high[:, 0])
    assert (covered / 400 >= 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 400)).all()


def test_two_curves_of_three_images_do_not_cross_for_sure() -> None:
    one, two = RobustnessCurve(np.full(3, 0.5), "l2"), RobustnessCurve(np.array([0.2, 0.9, 0.9]), "l2")
    assert crossings(one, two) == []
    many = (RobustnessCurve(np.repeat(c.distances, 20), "l2") for c in (one, two))
    assert len(crossings(*many)) == 1
