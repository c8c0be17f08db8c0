"""Curves in parts: what a killed call had done is kept, and never taken for that of something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import RobustnessCurve, robustness_curve
from benchmark.data import get_dataset
from benchmark.errors import InputError
from benchmark.results import Flag
from benchmark.resuming import joined
from models_zoo import load_model

X, Y = get_dataset("digits").load(24)


def settings(**changed: object) -> dict:
    return {"norm": "linf", "effort": "quick", "seed": 3} | changed


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return load_model("digits-standard")


@pytest.fixture(scope="module")
def whole(model: torch.nn.Module) -> RobustnessCurve:
    return robustness_curve(model, X, Y, chunk=10, **settings())


class Killed(BaseException):
    pass


def test_a_killed_call_goes_on_where_it_was_and_gives_the_same(
    model: torch.nn.Module, whole: RobustnessCurve, tmp_path: Path
) -> None:
    def kill(done: int, of: int) -> None:
        assert of == 24
        if done == 20:
            raise Killed

    with pytest.raises(Killed):
        robustness_curve(model, X, Y, chunk=10, progress=kill, resume=tmp_path / "c.npz", **settings())
    assert not (tmp_path / "c.npz").exists()
    seen: list[int] = []
    again = robustness_curve(
        model, X, Y, chunk=10, progress=lambda done, of: seen.append(done), resume=tmp_path / "c.npz", **settings()
    )
    assert seen == [20, 24]
    assert again.distances.tolist() == whole.distances.tolist()
    assert np.array_equal(again.adversarials, whole.adversarials)
    assert again.origin == whole.origin
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]
    assert RobustnessCurve.load(tmp_path / "c.npz").distances.tolist() == whole.distances.tolist()


def test_a_finished_curve_is_read_and_nothing_is_computed(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = robustness_curve(model, X[:6], Y[:6], resume=tmp_path / "c.npz", **settings())
    monkeypatch.setattr("benchmark.library.run_attack", lambda *a, **k: pytest.fail("it was computed again"))
    assert robustness_curve(model, X[:6], Y[:6], resume=tmp_path / "c.npz", **settings()).distances.tolist() == (
        first.distances.tolist()
    )


@pytest.mark.parametrize("change", ["seed", "norm", "images", "labels", "weights", "chunk"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, change: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    path = tmp_path / "c.npz"
    robustness_curve(network, X[:6], Y[:6], resume=path, **settings())
    before = path.read_bytes()
    x, y, more = X[:6].clone(), Y[:6].clone(), {}
    if change == "images":
        x[0, 0, 0, 0] += 1e-3
    elif change == "labels":
        y[2] = (y[2] + 1) % 10
    elif change == "weights":
        with torch.no_grad():
            network[1].weight[0, 0] += 1e-6
    else:
        more = {"seed": {"seed": 4}, "norm": {"norm": "l2"}, "chunk": {"chunk": 3}}[change]
    with pytest.raises(InputError, match="is of another computation"):
        robustness_curve(network, x, y, resume=path, **settings(**more))
    assert path.read_bytes() == before


def test_one_part_is_the_whole_and_a_bar_changes_nothing(
    model: torch.nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = robustness_curve(model, X[:6], Y[:6], **settings())
    shown = robustness_curve(model, X[:6], Y[:6], progress=True, **settings())
    assert shown.distances.tolist() == plain.distances.tolist()
    assert "6/6" in capsys.readouterr().out


def test_every_distance_of_a_curve_in_parts_is_proven(model: torch.nn.Module, whole: RobustnessCurve) -> None:
    assert whole.adversarials is not None
    found = torch.from_numpy(whole.adversarials)
    broken = np.flatnonzero((whole.distances > 0) & np.isfinite(whole.distances))
    assert len(broken) > 10
    with torch.no_grad():
        assert (model(found[broken]).argmax(1) != Y[broken]).all()
    moved = (found.double() - X.double()).abs().flatten(1).amax(1).numpy()
    assert moved[broken] == pytest.approx(whole.distances[broken], abs=1e-12)


def test_flags_of_parts_are_joined_one_of_each_code_the_largest() -> None:
    def curve(*values: float) -> RobustnessCurve:
        flags = tuple(Flag("seeds-disagree", f"{v}", v) for v in values)
        return RobustnessCurve(distances=np.array([0.5]), norm="linf", flags=flags)

    found = joined([curve(0.1), curve(0.7), curve(), curve(0.3)])
    assert [(flag.code, flag.value) for flag in found.flags] == [("seeds-disagree", 0.7)]
    assert len(found) == 4


def test_a_chunk_is_a_number_of_samples(model: torch.nn.Module) -> None:
    with pytest.raises(InputError, match="chunk is 0"):
        robustness_curve(model, X, Y, chunk=0, **settings())
