"""`curveboard zoo`: seeding the cache, fetching, training again."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.cli import run
from models_zoo import get_entry
from models_zoo.fetch import CACHE_VARIABLE, sha256_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(made))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURVEBOARD_WORKSPACE", raising=False)
    return made


def test_a_folder_without_anything_wanted_seeds_nothing(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights.pt").write_bytes(b"not wanted")
    assert run(["zoo", "seed", str(tmp_path / "folder")]) == 0
    assert f"0 files are now in {cache}." in capsys.readouterr().out
    assert list(cache.iterdir()) == []


@pytest.mark.shared
def test_a_seeded_model_is_fetched_without_asking_anybody(
    shared: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(["zoo", "seed", str(shared / "weights"), str(shared / "data" / "mnist" / "t10k-labels-idx1-ubyte.gz")]) == 0
    )
    assert "6 files" in capsys.readouterr().out
    weights = get_entry("wong2018-mnist-linf0.1").weights[0]
    assert sha256_of(cache / weights.sha256) == weights.sha256
    assert run(["zoo", "seed", str(shared / "data" / "mnist")]) == 0
    assert run(["zoo", "fetch", "wong2018-mnist-linf0.1"]) == 0
    assert weights.sha256 in capsys.readouterr().out


def test_training_again_says_how_far_it_is_from_what_is_shipped(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["zoo", "train", "-o", str(tmp_path / "zoo"), "digits-softplus"]) == 0
    said = capsys.readouterr().out
    assert float(said.rpartition(" ")[2]) < 1e-3
    assert {p.name for p in (tmp_path / "zoo").iterdir()} == {"digits-softplus.toml", "digits-softplus.safetensors"}


def test_an_unknown_slug_suggests_the_nearest(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", "train", "-o", str(tmp_path / "zoo"), "digits-conf"]) == 1
    assert "'digits-conv'" in capsys.readouterr().err
    assert run(["zoo", "fetch", "wong2018-mnist"]) == 1
    assert "'wong2018-mnist-linf0.1'" in capsys.readouterr().err
