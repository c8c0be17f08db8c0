"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
import torch
from loudly import skip_loudly
from postgres import PrivateServer, private_server

from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.session import Database

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The tests run side by side, on tiny networks: threads inside each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

SHARED = Path(__file__).parent.parent.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    # A skipped test warns that it was skipped; that warning alone is no error.
    config.addinivalue_line("filterwarnings", "default:SKIPPED:UserWarning")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights beside the project."""
    if not SHARED.is_dir():
        skip_loudly("the real data and weights in ../shared are not here")
    return SHARED


@pytest.fixture(scope="session")
def seeded_cache(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own that holds all public files of the zoo and the datasets, taken from ``shared``."""
    from benchmark.data import all_datasets
    from models_zoo import catalogue
    from models_zoo.data import MNIST_FILES
    from models_zoo.fetch import CACHE_VARIABLE, seed

    cache = tmp_path_factory.mktemp("cache")
    wanted = [weights.remote for entry in catalogue().values() for weights in entry.weights if weights.urls]
    wanted += [file for dataset in all_datasets().values() for file in dataset.files]
    wanted += [file for pair in MNIST_FILES.values() for file in pair]
    seed([shared], wanted, cache=cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(cache))
        yield cache


LONGEST = ("test_year.py", "test_faults.py", "test_site_parity.py", "test_site_browser.py", "test_framework_forms.py")
"""Files that are begun first, so that no worker ends with one of them while the others have nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `make test` keeps this order (``--no-loadscope-reorder``)."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PrivateServer]:
    """A private PostgreSQL server; not to be stopped."""
    with private_server() as server:
        yield server


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """A PostgreSQL server that may be stopped, and is started again."""
    with private_server(durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_template(postgresql: PrivateServer) -> str:
    """A migrated database on the private server, to be copied."""
    template = Database(postgresql.create("template_migrated"))
    upgrade(template)
    template.engine.dispose()  # a database in use cannot be copied
    return "template_migrated"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def backend(request: pytest.FixtureRequest) -> str:
    """What touches the database is tested on SQLite and on PostgreSQL."""
    return str(request.param)


@pytest.fixture
def empty_database(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database without tables."""
    if backend == "sqlite":
        (tmp_path / "test.db").touch()  # to open one makes none
        return Database(f"sqlite:///{tmp_path / 'test.db'}")
    return Database(request.getfixturevalue("postgresql").create())


@pytest.fixture
def database(empty_database: Database) -> Database:
    """A migrated database."""
    upgrade(empty_database)
    return empty_database


@pytest.fixture
def workspace(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A workspace with a migrated database."""
    if backend == "sqlite":
        made = Workspace.create(tmp_path / "board")
        upgrade(Database(made.database_url))
        return made
    template = request.getfixturevalue("postgresql_template")
    url = request.getfixturevalue("postgresql").create(template=template)
    return Workspace.create(tmp_path / "board", database_url=url)


@pytest.fixture(scope="session")
def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    import boards

    return boards.new_board(tmp_path_factory.mktemp("made") / "board")


@pytest.fixture(scope="module")
def made_board(_made_once: Workspace) -> Iterator[Workspace]:
    """A small evaluated board on SQLite, made once; not to be changed, and the module that does is told."""
    import boards

    before = boards.contents(_made_once)
    yield _made_once
    assert boards.contents(_made_once) == before, "this module's tests changed the board that all share: take `board`"


@pytest.fixture
def board(made_board: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the small board, to be changed."""
    import boards

    return boards.copied(made_board, tmp_path / "copied")


def _package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        skip_loudly(f"{name} is not installed (pip install 'curveboard[{name}]')")


@pytest.fixture(scope="module")
def jax() -> ModuleType:
    return _package("jax")


@pytest.fixture(scope="module")
def keras() -> ModuleType:
    """Keras, on the backend that KERAS_BACKEND names."""
    return _package("keras")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium; for a module alone, as no other event loop runs beside it."""
    from browsers import started

    with started() as browser:
        yield browser


@pytest.fixture
def nothing_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What strangers sent is looked at in this process, where a test's stand-ins are."""
    for module in ("benchmark.jobs.checking", "benchmark.evidence.ingest"):
        monkeypatch.setattr(f"{module}.run_apart", lambda work, *arguments, **_: work(*arguments))
