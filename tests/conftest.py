"""Fixtures that many tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("CURVEBOARD_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights; tests that ask for it are skipped, loudly, where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"NO REAL DATA: there is no folder {SHARED}; set CURVEBOARD_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def seeded_cache(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of one's own with all public files of the zoo and the datasets, taken from the shared folder."""
    from benchmark.datasets import datasets
    from models_zoo import catalogue
    from models_zoo.fetch import CACHE_VARIABLE, seed

    cache = tmp_path_factory.mktemp("cache")
    wanted = [w.remote for entry in catalogue().values() for w in entry.weights if w.urls]
    wanted += [file for dataset in datasets().values() for file in dataset.files]
    seed([shared], wanted, cache=cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        yield cache
