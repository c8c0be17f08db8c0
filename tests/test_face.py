"""``import curveboard`` and the command line, in folders that hold modules of the same names as ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchmark
import curveboard

ROOT = Path(__file__).parent.parent


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder with a ``benchmark.py``, a ``db/`` and a ``models_zoo/`` of the user's own."""
    (tmp_path / "benchmark.py").write_text("raise SystemExit('the wrong benchmark')")
    for name in ("db", "models_zoo", "sitegen"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the wrong {name}')")
    return tmp_path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages side by side, as a wheel lays them out."""
    home = tmp_path_factory.mktemp("site-packages")
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("curveboard", "benchmark", "models_zoo", "db", "site/sitegen"):
        shutil.copytree(ROOT / folder, home / Path(folder).name, ignore=ignore)
    return home


def python(folder: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def repository() -> str:
    return f"{ROOT}{os.pathsep}{ROOT / 'site'}"


USE = (
    "import curveboard, db.session, models_zoo, sitegen\n"
    "assert curveboard.__version__ and curveboard.robustness_curve\n"
    "import benchmark; print(benchmark.__file__)"
)


def test_the_library_wins_over_the_users_files(crowded: Path) -> None:
    done = python(crowded, "-c", USE, path=repository())
    assert done.stdout.strip() == str(ROOT / "benchmark" / "__init__.py"), done.stderr


def test_an_installed_library_does_too(crowded: Path, installed: Path) -> None:
    done = python(crowded, "-c", USE, path=str(installed))
    assert done.stdout.strip() == str(installed / "benchmark" / "__init__.py"), done.stderr


def test_so_does_the_command_line(crowded: Path, installed: Path) -> None:
    for path in (repository(), str(installed)):
        done = python(crowded, "-m", "curveboard", "list", "protocols", path=path)
        assert "standard" in done.stdout, done.stderr


def test_a_stranger_that_was_imported_before_is_named(tmp_path: Path) -> None:
    (tmp_path / "db.py").write_text("")
    done = python(tmp_path, "-c", "import db, curveboard", path=repository())
    assert done.returncode == 1
    assert (
        f"A module 'db' is loaded from {tmp_path / 'db.py'}, but curveboard has a package of that name" in done.stderr
    )


def test_the_face_is_the_librarys() -> None:
    assert set(benchmark.__all__) < set(curveboard.__all__)
    assert curveboard.RobustnessCurve is benchmark.RobustnessCurve
    assert set(curveboard.__all__) == set(dir(curveboard))
    with pytest.raises(AttributeError, match="module 'curveboard' has no attribute 'robustness_curv'"):
        curveboard.robustness_curv  # noqa: B018


def test_importing_it_does_not_load_torch() -> None:
    done = python(ROOT, "-c", "import sys, curveboard; sys.exit('torch' in sys.modules)", path=repository())
    assert done.returncode == 0, done.stderr


def test_the_distribution_holds_it_and_its_command() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert 'packages = ["curveboard", "benchmark", "models_zoo", "db", "site/sitegen"]' in text
    assert 'curveboard = "curveboard:main"' in text
