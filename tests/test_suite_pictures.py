"""What corruptions look like: made of the dataset, stored with it, shown beside the matrix."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import synthetic
from browsers import opened
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser
from sites import build
from sqlalchemy import select

from benchmark.board.record import dataset_row
from benchmark.board.suite_pictures import SIDE, store_suite_pictures, suite_pictures
from benchmark.data import get_dataset
from benchmark.data.corruptions import corrupt
from benchmark.data.suites import Suite, get_suite
from db.migrate import upgrade
from db.queries import SUITE, dataset_array
from db.schema import DatasetArray, Evaluation, Model, State
from db.session import Database

DIGITS = get_dataset("digits")


def test_a_picture_is_the_first_image_under_the_corruption() -> None:
    suite = get_suite("mnist-c").on(DIGITS)
    assert isinstance(suite, Suite)
    found = suite_pictures(suite)
    assert found is not None
    assert found.shape == (15, 1, 1, 8, 8)
    for k, name in enumerate(suite.axes[0].labels):
        expected = corrupt(DIGITS.stored(0, 1).astype(np.float32) / DIGITS.levels, name, 1, family="mnist")
        assert np.array_equal(found[k, 0], expected[0]), name


def test_a_suite_of_other_images_has_none_and_large_pictures_are_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = get_suite("cifar-c").on(DIGITS)
    assert isinstance(cifar, Suite)
    assert suite_pictures(cifar) is None
    monkeypatch.setattr("benchmark.board.suite_pictures.SIDE", SIDE // 24)
    suite = get_suite("mnist-c").on(DIGITS)
    assert isinstance(suite, Suite)
    small = suite_pictures(suite)
    assert small is not None
    assert small.shape[-2:] == (4, 4)


def evaluated(database: Database, suite: str, state: State = State.DONE) -> int:
    with database.write() as session:
        dataset = dataset_row(session, DIGITS)
        now = datetime.now(UTC)
        model = Model(slug=f"m-{suite}", digest=synthetic.digest(suite), title="m", card={}, added_at=now)
        session.add(model)
        session.flush()
        session.add(
            Evaluation(
                key=synthetic.digest(suite, state), model_id=model.id, dataset_id=dataset.id, n=10, samples=10,
                measure="corruptions", version=1, parameters={"suite": suite}, norm=None, seed=0, state=state,
                created_at=now,
            )
        )  # fmt: skip
        return dataset.id


def test_what_boards_use_is_stored_once(database: Database) -> None:
    dataset = evaluated(database, "mnist-c")
    evaluated(database, "cifar-c")  # of other images: nothing to show
    evaluated(database, "gone-since")  # no suite that is here
    evaluated(database, "imagenet-c", State.QUEUED)
    assert store_suite_pictures(database) == ["digits mnist-c"]
    assert store_suite_pictures(database) == []
    with database.read() as session:
        stored = dataset_array(session, dataset, f"{SUITE}mnist-c")
        assert len(session.scalars(select(DatasetArray.name)).all()) == 1
    assert stored is not None
    assert stored.shape == (15, 1, 1, 8, 8)


# On the pages


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    """Three corruptions at three severities, of 8 × 8 pixels."""
    return np.random.default_rng(8).integers(0, 256, (3, 3, 1, 8, 8)).astype(np.uint8)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, pictures: NDArray[np.uint8]) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    made = synthetic.populate(database, models=3, n=20, exact=0, weather=True)
    with database.write() as session:
        for evaluation in session.scalars(select(Evaluation).where(Evaluation.measure == "weather")):
            evaluation.parameters = {"suite": "storms"}
        session.add(DatasetArray(dataset_id=made.dataset_id, name=f"{SUITE}storms", data=pictures))
    database.engine.dispose()
    build(folder)
    return (folder / "public").as_uri()


BOARD = "boards/synthetic-20-standard"


@pytest.mark.browser
def test_each_tile_shows_its_own_cell(browser: Browser, site: str, pictures: NDArray[np.uint8]) -> None:
    page_path = next(path for path in Path(site.removeprefix("file://"), BOARD).glob("grid-*.html"))
    with opened(browser, site, java_script_enabled=False) as watched:
        page = watched.open(f"{BOARD}/{page_path.name}")
        tiles = page.locator("#pictures .tile")
        assert tiles.count() == 9
        for k in range(9):
            shot = Image.open(io.BytesIO(tiles.nth(k).screenshot())).convert("L")
            side = shot.width / 8
            at = [int((i + 0.5) * side) for i in range(8)]
            seen = np.asarray(shot)[np.ix_(at, at)].astype(int)
            assert np.abs(seen - pictures[k // 3, k % 3, 0]).max() <= 1
        assert tiles.nth(5).get_attribute("aria-label") == "snow, severity 3"
        assert page.locator("table.gridranks thead .tile").count() == 3 * 4


@pytest.mark.browser
def test_a_cell_of_a_models_matrix_shows_its_picture_under_the_pointer_and_the_focus(
    browser: Browser, site: str
) -> None:
    with opened(browser, site) as watched:
        page = watched.open(f"{BOARD}/models/dropout-e/index.html".replace("dropout-e", "standard-training-a"))
        cell = page.locator("#grids td.peek").nth(4)
        tile = cell.locator(".tile")
        assert not tile.is_visible()
        cell.hover()
        assert tile.is_visible()
        assert tile.get_attribute("aria-label") == "snow, severity 2"
        page.mouse.move(0, 0)
        assert not tile.is_visible()
        cell.focus()
        assert tile.is_visible()
