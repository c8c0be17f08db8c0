"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sqlalchemy import create_engine, make_url

from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.session import Database

# The tests run side by side, on tiny networks: threads inside each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)

SHARED = Path(__file__).parent.parent.parent / "shared"


def skip_loudly(reason: str) -> None:
    """Skip, and say so among the warnings too; in CI a missing tool is an error."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {reason}")
    warnings.warn(UserWarning(f"SKIPPED: {reason}"), stacklevel=2)
    pytest.skip(reason)


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


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A private PostgreSQL server of Debian's package, in a temporary folder, reached by a socket."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        skip_loudly("there is no PostgreSQL server (Debian's package postgresql)")
    with tempfile.TemporaryDirectory(prefix="curveboard-pg-") as folder:
        yield from _serve(programs[-1], Path(folder))


def _serve(programs: Path, folder: Path) -> Iterator[str]:
    # The server refuses to run as root; Debian's package makes a user for it.
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres")
        folder.chmod(0o700)

    def call(*command: str | Path) -> None:
        subprocess.run([*as_user, *map(str, command)], check=True, capture_output=True, cwd=folder)

    data = folder / "data"
    call(
        programs / "initdb", "--pgdata", data, "--auth", "trust", "--username", "curveboard", "--no-sync", "-E", "UTF8"
    )
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c synchronous_commit=off"
    call(programs / "pg_ctl", "--pgdata", data, "--options", options, "--wait", "--log", folder / "log", "start")
    try:
        yield f"postgresql+psycopg://curveboard@/postgres?host={folder}"
    finally:
        call(programs / "pg_ctl", "--pgdata", data, "--mode", "immediate", "stop")


@pytest.fixture(scope="session")
def postgresql_template(postgresql_url: str) -> str:
    """A migrated database on the private server, to be copied."""
    _create(postgresql_url, "template_migrated")
    upgrade(Database(_named(postgresql_url, "template_migrated")))
    return "template_migrated"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def backend(request: pytest.FixtureRequest) -> str:
    """What touches the database is tested on SQLite and on PostgreSQL."""
    return str(request.param)


@pytest.fixture
def empty_database(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """A database without tables."""
    if backend == "sqlite":
        return Database(f"sqlite:///{tmp_path / 'test.db'}")
    return Database(_create(request.getfixturevalue("postgresql_url"), f"test_{uuid.uuid4().hex}"))


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
    url = _create(request.getfixturevalue("postgresql_url"), f"test_{uuid.uuid4().hex}", template)
    return Workspace.create(tmp_path / "board", database_url=url)


def _create(server: str, name: str, template: str = "template1") -> str:
    """Create a database on the server; returns its URL."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    engine.dispose()
    return _named(server, name)


def _named(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def made_board(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small evaluated board on SQLite, made once; not to be changed."""
    import boards

    return boards.new_board(tmp_path_factory.mktemp("made") / "board")


@pytest.fixture
def board(made_board: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the small board, to be changed."""
    import boards

    return boards.copied(made_board, tmp_path / "copied")
