"""A curve compared with another, drawn, as a table and as a file."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark import compare
from benchmark.curve import RobustnessCurve
from benchmark.errors import InputError
from benchmark.results import Flag

mpl.use("Agg")


def drawn(n: int, seed: int, scale: float = 0.1) -> RobustnessCurve:
    rng = np.random.default_rng(seed)
    return RobustnessCurve(np.where(rng.random(n) < 0.1, 0, scale * rng.lognormal(0, 0.5, n)), "linf")


@given(st.integers(1, 60), st.integers(0, 9))
def test_a_difference_is_that_of_the_curves_at_every_step_of_either(n: int, seed: int) -> None:
    first, second = drawn(n, seed), drawn(n, seed + 1)
    found = compare(first, second)
    assert set(first.steps().eps) | set(second.steps().eps) == set(found.eps.tolist())
    expected = first.robust_accuracy(found.eps) - second.robust_accuracy(found.eps)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()
    back = compare(second, first)
    assert back.low == pytest.approx(-found.high)


def test_the_interval_of_a_difference_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits, rounds = 0, 600
    for _ in range(rounds):
        common = rng.normal(size=300)  # the same images: their difficulties go together
        a, b = (np.exp(common + rng.normal(size=300) + shift) for shift in (0.2, 0.0))
        found = compare(RobustnessCurve(a, "l2"), RobustnessCurve(b, "l2"), eps=1.0)
        truth = 0.5562 - 0.5  # P(N(0, 2) > -0.2) - P(N(0, 2) > 0)
        hits += found.low[0] <= truth <= found.high[0]
    assert 0.92 <= hits / rounds <= 0.98


def test_curves_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(InputError, match="linf and l2"):
        compare(drawn(3, 0), RobustnessCurve([0.1, 0.2, 0.3], "l2"))
    with pytest.raises(InputError, match="3 and 4 samples"):
        compare(drawn(3, 0), drawn(4, 0))


def test_a_curve_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((2, 1, 3, 3)).astype(np.float32)
    flag = Flag("zero-gradients", "12 % are zero", 0.12)
    curve = RobustnessCurve([0.1, np.inf], "l1", images, (flag,), ("gradient", ""))
    curve.save(tmp_path / "one.curve")
    back = RobustnessCurve.load(tmp_path / "one.curve")
    assert (back.distances == curve.distances).all()
    assert (back.norm, back.flags, back.origin) == ("l1", (flag,), ("gradient", ""))
    assert back.adversarials is not None
    assert (back.adversarials == images).all()
    drawn(5, 1).save(str(tmp_path / "two.npz"))
    assert RobustnessCurve.load(tmp_path / "two.npz").adversarials is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_a_file_that_holds_no_curve_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match="no curve that save"):
        RobustnessCurve.load(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", distances=[0.1])
    with pytest.raises(InputError, match="no curve that save"):
        RobustnessCurve.load(tmp_path / "y.npz")


def test_the_table_has_a_line_a_step_with_clopper_and_pearsons_interval() -> None:
    curve = drawn(40, 2)
    frame = curve.to_frame()
    assert frame["eps"].tolist() == curve.steps().eps.tolist()
    assert frame["robust_accuracy"].to_numpy() == pytest.approx(curve.robust_accuracy(curve.steps().eps))
    for _, row in frame.iloc[::7].iterrows():
        interval = curve.interval(row["eps"])
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_the_drawn_line_is_the_curve_and_goes_where_it_is_told() -> None:
    from matplotlib import pyplot

    curve = drawn(30, 4)
    figure, axes = pyplot.subplots(1, 2)
    assert curve.plot(axes[1], up_to=0.2, label="mine", confidence=None) is axes[1]
    (line,) = axes[1].get_lines()
    eps, accuracy = line.get_data()
    assert np.asarray(accuracy) == pytest.approx(curve.robust_accuracy(np.asarray(eps)))
    assert (line.get_label(), line.get_drawstyle(), axes[1].get_xlim()) == ("mine", "steps-post", (0, 0.2))
    assert not axes[0].get_lines()
    own = curve.plot()
    assert own.figure is not figure
    assert len(own.collections) == 1  # the band
    pyplot.close("all")
