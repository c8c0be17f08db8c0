"""Distances, projections and the cheapest step in a box, against sorting and linear programming."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import brentq, linprog

from benchmark.threat import DUAL, NORMS, cheapest_step, distances, in_box, norms_of, project_ball_

ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
vectors = arrays(np.float32, (3, 7), elements=st.floats(-4, 4, width=32).map(lambda v: v if abs(v) > 1e-3 else 0.0))
radii = arrays(np.float32, (3,), elements=st.floats(0, 6, width=32))


@pytest.mark.parametrize("norm", NORMS)
def test_norms_are_those_of_numpy_in_float64(norm):
    generator = torch.Generator().manual_seed(0)
    x, z = torch.rand(5, 2, 3, 3, generator=generator), torch.rand(5, 2, 3, 3, generator=generator)
    expected = np.linalg.norm((z.double() - x.double()).numpy().reshape(5, -1), ord=ORDER[norm], axis=1)
    assert distances(x, z, norm).dtype == torch.float64
    np.testing.assert_allclose(distances(x, z, norm).numpy(), expected, rtol=1e-14)


def test_dual_of_the_dual_is_the_norm():
    assert all(DUAL[DUAL[norm]] == norm for norm in NORMS)


def test_box_has_no_tolerance():
    x = torch.zeros(4, 1, 1, 2)
    x[1, 0, 0, 0], x[2, 0, 0, 1], x[3, 0, 0, 0] = 1.0000001, -1e-7, torch.nan
    assert in_box(x).tolist() == [True, False, False, False]


@pytest.mark.parametrize("norm", NORMS)
@given(v=vectors, r=radii)
@settings(max_examples=60, deadline=None)
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
@given(w=vectors, room=arrays(np.float32, (3, 7), elements=st.floats(0, 1, width=32)), share=st.floats(0.01, 0.99))
@settings(max_examples=60, deadline=None)
def test_cheapest_step_is_optimal(norm, w, room, share):
    room = np.where(room < 1e-3, 0, room).astype(np.float32)
    most = (np.abs(w).astype(float) * room).sum(1)
    gain = (most * share).astype(np.float32)
    step = cheapest_step(torch.tensor(w), torch.tensor(gain), torch.tensor(room), norm).double().numpy()
    assert (np.abs(step) <= room * (1 + 1e-6)).all()
    np.testing.assert_allclose((w * step).sum(1), gain, rtol=1e-5, atol=1e-5)
    for i in range(len(w)):
        optimum = _optimum(np.abs(w[i]).astype(float), float(gain[i]), room[i].astype(float), norm)
        np.testing.assert_allclose(np.linalg.norm(step[i], ord=ORDER[norm]), optimum, rtol=1e-4, atol=1e-5)


def _optimum(slope, gain, room, norm):
    """Smallest norm of a step >= 0 of at most ``room`` with the gain, by a solver."""
    if gain <= 0:
        return 0.0
    if norm == "l1":
        return linprog(np.ones(len(slope)), A_ub=-slope[None], b_ub=[-gain], bounds=[(0, r) for r in room]).fun
    speed = np.ones_like(slope) if norm == "linf" else slope
    level = brentq(lambda t: slope @ np.minimum(speed * t, room) - gain * (1 - 1e-12), 0, 1e7, xtol=1e-14)
    return np.linalg.norm(np.minimum(speed * level, room), ord=ORDER[norm])


@pytest.mark.parametrize("norm", NORMS)
def test_cheapest_step_goes_to_the_corner_where_the_box_forbids_the_gain(norm):
    room = torch.tensor([[0.2, 0.0, 1.0]])
    step = cheapest_step(torch.tensor([[1.0, -2.0, -0.5]]), torch.tensor([100.0]), room, norm)
    torch.testing.assert_close(step, torch.tensor([[0.2, 0.0, -1.0]]))


@pytest.mark.parametrize("norm", NORMS)
def test_no_gain_needs_no_step(norm):
    step = cheapest_step(torch.tensor([[1.0, -2.0]]), torch.tensor([-1.0]), torch.ones(1, 2), norm)
    assert float(norms_of(step, norm)) == 0
