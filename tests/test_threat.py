"""Distances, projections and the cheapest step in a box, against sorting and linear programming."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq, linprog

from benchmark.threat import box, cheapest_point, distances, dual, in_box, norms_of, project_ball_

NORMS = ("linf", "l2", "l1")
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
vectors = arrays(np.float32, (2, 6), elements=st.floats(-4, 4, width=32).map(lambda v: v if abs(v) > 1e-3 else 0.0))
radii = arrays(np.float32, (2,), elements=st.floats(0, 6, width=32))


@pytest.mark.parametrize("norm", NORMS)
def test_norms_are_those_of_numpy_in_float64(norm):
    generator = torch.Generator().manual_seed(0)
    x, z = torch.rand(5, 2, 3, 3, generator=generator), torch.rand(5, 2, 3, 3, generator=generator)
    expected = np.linalg.norm((z.double() - x.double()).numpy().reshape(5, -1), ord=ORDER[norm], axis=1)
    assert distances(x, z, norm).dtype == torch.float64
    np.testing.assert_allclose(distances(x, z, norm).numpy(), expected, rtol=1e-14)


def test_dual_of_the_dual_is_the_norm():
    assert all(dual(dual(norm)) == norm for norm in NORMS)


def test_box_has_no_tolerance():
    x = torch.zeros(4, 1, 1, 2)
    x[1, 0, 0, 0], x[2, 0, 0, 1], x[3, 0, 0, 0] = 1.0000001, -1e-7, torch.nan
    assert in_box(x).tolist() == [True, False, False, False]


@pytest.mark.parametrize("norm", NORMS)
@given(v=vectors, r=radii)
@settings(max_examples=25, deadline=None)
def test_projection_is_the_nearest_point_of_the_ball(norm, v, r):
    p = project_ball_(torch.tensor(v), norm, torch.tensor(r)).double().numpy()
    size = np.linalg.norm(p, ord=ORDER[norm], axis=1)
    assert (size <= r * (1 + 1e-5) + 1e-6).all()
    inside = np.linalg.norm(v.astype(float), ord=ORDER[norm], axis=1) <= r
    np.testing.assert_allclose(p[inside], v[inside], atol=1e-6)
    # The variational inequality of a projection: <v - p, q - p> <= 0 for every vertex q of the ball.
    residual = v - p
    support = {"linf": np.abs(residual).sum(1), "l2": np.linalg.norm(residual, axis=1), "l1": np.abs(residual).max(1)}
    assert (r * support[norm] <= (residual * p).sum(1) + 1e-4).all()


@pytest.mark.parametrize("norm", NORMS)
@given(
    w=vectors,
    middle=vectors.map(lambda v: v / 4),
    width=arrays(np.float32, (2, 6), elements=st.floats(0.125, 1, width=32)),
    share=st.floats(0.05, 0.95),
)
@settings(max_examples=25, deadline=None)
def test_cheapest_point_is_optimal_between_any_bounds(norm, w, middle, width, share):
    low, high = middle - width, middle + width
    least = np.where(w > 0, w * low, w * high).astype(float).sum(1)
    most = np.where(w > 0, w * high, w * low).astype(float).sum(1)
    level = (least + (most - least) * share).astype(np.float32)
    point = cheapest_point(*map(torch.tensor, (w, level, low, high)), norm).double().numpy()
    assert (point >= low - 1e-5).all()
    assert (point <= high + 1e-5).all()
    assert ((w * point).sum(1) >= level - 1e-4 * (1 + np.abs(w).max())).all()
    for i in range(len(w)):
        optimum = _optimum(w[i].astype(float), float(level[i]), low[i].astype(float), high[i].astype(float), norm)
        assert np.linalg.norm(point[i], ord=ORDER[norm]) <= optimum * (1 + 1e-4) + 1e-4


def _optimum(w, level, low, high, norm):
    """Smallest norm of a point between the bounds that reaches the level: linear programs, or (l2) a dual ascent."""
    d = len(w)
    if norm == "l2":
        # Where 0 itself reaches the level the multiplier is 0; otherwise it solves <w, clip(t w)> = level.
        def value(t):
            return w @ np.clip(t * w, low, high) - level

        if value(0) >= 0:
            return np.linalg.norm(np.clip(0 * w, low, high))
        t = brentq(value, 0, 1e9, xtol=1e-14) if value(1e9) > 0 else 1e9
        return np.linalg.norm(np.clip(t * w, low, high))
    count = 1 if norm == "linf" else d  # |delta| is bounded by one variable, or by one for each coordinate
    bound = np.ones((d, 1)) if norm == "linf" else np.eye(d)
    rows = np.block([[np.eye(d), -bound], [-np.eye(d), -bound], [-w[None], np.zeros((1, count))]])
    limits = np.r_[np.zeros(2 * d), -level + 1e-5 * np.abs(w).max()]
    bounds = [*zip(low, high, strict=True), *[(0, None)] * count]
    return linprog(np.r_[np.zeros(d), np.ones(count)], A_ub=rows, b_ub=limits, bounds=bounds).fun


@pytest.mark.parametrize("norm", NORMS)
def test_cheapest_point_is_the_corner_where_the_bounds_forbid_the_level(norm):
    low, high = torch.tensor([[-1.0, 0.0, -1.0]]), torch.tensor([[0.2, 1.0, 1.0]])
    point = cheapest_point(torch.tensor([[1.0, -2.0, -0.5]]), torch.tensor([100.0]), low, high, norm)
    torch.testing.assert_close(point, torch.tensor([[0.2, 0.0, -1.0]]))


@pytest.mark.parametrize("norm", NORMS)
def test_a_level_that_zero_reaches_needs_no_change(norm):
    point = cheapest_point(torch.tensor([[1.0, -2.0]]), torch.tensor([-1.0]), -torch.ones(1, 2), torch.ones(1, 2), norm)
    assert float(norms_of(point, norm)) == 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_newtons_method_is_soon_done_whether_a_level_can_be_reached_or_not(norm, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(9, 500, generator=generator)
    low, high = -torch.rand(9, 500, generator=generator), torch.rand(9, 500, generator=generator)
    most = (gradient * torch.where(gradient > 0, high, low)).sum(dim=1)
    level = most * torch.tensor([-2.0, -1.0, -0.1, 1e-6, 0.1, 0.5, 0.999, 1.0, 2.0])
    asked = []
    original = box.dots
    monkeypatch.setattr(box, "dots", lambda a, b: asked.append(1) or original(a, b))
    point = cheapest_point(gradient, level, low, high, norm)
    assert 0 < len(asked) <= 2 * 20
    reached = (gradient * point).sum(dim=1)
    torch.testing.assert_close(reached, level.clamp(min=0).minimum(most), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("apart", [1, 30, 1000])
def test_in_l1_the_steepest_are_found_among_many_that_are_nearly_as_steep(apart):
    # The least perturbation on which 60 of them, of value 0.5 at most, reach a level is that of the 60 steepest.
    d, moved = 784, 60
    generator = torch.Generator().manual_seed(0)
    order = torch.stack([torch.randperm(d, generator=generator) for _ in range(4)])
    gradient = 1 + order * (apart * torch.finfo(torch.float32).eps)
    level = 0.5 * gradient.double().topk(moved, dim=1).values.sum(dim=1)
    bound = torch.full((4, d), 0.5)
    point = cheapest_point(gradient, level.float(), -bound, bound, "l1")
    steepest = gradient.topk(moved + 1, dim=1).indices  # the last digits of the level may move one more
    assert not point.scatter(1, steepest, 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cheapest_point_in_l1_moves_the_steepest_coordinates_first(dtype):
    d = 3072  # more coordinates than a sort may mix up unnoticed, with ties, zeros and the smallest numbers
    gradient = torch.randn(5, d, generator=torch.Generator().manual_seed(0), dtype=dtype)
    gradient[:, ::7], gradient[:, 1::7], gradient[1] = 0, 1e-44, 0.25
    gradient[2, 10] = 100
    level = gradient.abs().sum(dim=1) / 20
    point = cheapest_point(gradient, level, -torch.ones_like(gradient), torch.ones_like(gradient), "l1")
    torch.testing.assert_close((gradient * point).sum(dim=1), level, rtol=1e-4, atol=0)
    for slope, change in zip(gradient.abs(), point.abs(), strict=True):
        whole = int((change == 1).sum())
        assert int((change > 0).sum()) <= whole + 1
        assert whole == 0 or float(slope[change == 1].min()) >= float(slope[change == 0].max())


def test_cheapest_point_in_l1_is_the_same_whether_a_few_coordinates_are_enough_or_not():
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(6, 300, generator=generator)
    low, high = -torch.rand(6, 300, generator=generator), torch.rand(6, 300, generator=generator)
    most = (gradient * torch.where(gradient > 0, high, low)).sum(dim=1)
    level = most * torch.tensor([0.01, 0.2, 0.6, 0.99, 1.0, 2.0])  # from a few coordinates to all and to too much
    few = cheapest_point(gradient, level, low, high, "l1")
    torch.testing.assert_close(few, box.fill_best_first(gradient, level, low, high, most=300))
    changed = (few != 0).sum(dim=1).tolist()
    assert changed[0] < 20
    assert changed[3] > 200
    assert changed[5] == 300


@pytest.mark.parametrize("norm", NORMS)
def test_what_numpy_computes_on_the_cpu_torch_computes_elsewhere(norm, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    gradient, delta = torch.randn(2, 20, 50, generator=generator)
    low, high = -torch.rand(20, 50, generator=generator), torch.rand(20, 50, generator=generator)
    level, eps = torch.linspace(-1, 60, 20), torch.linspace(0, 30, 20)

    def both():
        return cheapest_point(gradient, level, low, high, norm), project_ball_(delta.clone(), norm, eps)

    expected = both()
    used = []
    monkeypatch.setattr(box, "as_array", lambda tensor: used.append(tensor) or tensor)
    monkeypatch.setattr(box, "dots", lambda a, b: used.append(a) or torch.linalg.vecdot(a, b))
    torch.testing.assert_close(both(), expected)
    assert used
    assert all(isinstance(value, torch.Tensor) for value in used)
