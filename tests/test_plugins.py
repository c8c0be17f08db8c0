"""Where plug-ins are found: the workspace's folders, entry points; and what is said of those that are none."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from benchmark import plugins
from benchmark.errors import BenchmarkError
from models_zoo import architectures
from models_zoo.errors import OwnCodeError, ZooError

NAMED = "from types import SimpleNamespace\nATTACK = SimpleNamespace(name={name!r})\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace in use for the test."""
    monkeypatch.setenv("CURVEBOARD_PLUGINS", str(tmp_path))
    (tmp_path / "attacks").mkdir()
    return tmp_path


def attacks() -> list[str]:
    return list(plugins.discover("benchmark.attacks", "ATTACK"))


def entry_points_are(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    plugins._discovered.cache_clear()
    point = EntryPoint("theirs", value, "curveboard.attacks")
    monkeypatch.setattr("benchmark.plugins.entry_points", lambda group: [point])


def test_a_file_of_the_workspace_is_a_plug_in(workspace: Path) -> None:
    (workspace / "attacks" / "own.py").write_text(
        "from ._shared import NAME\n" + NAMED.format(name="?") + "ATTACK.name = NAME\n"
    )
    (workspace / "attacks" / "_shared.py").write_text("NAME = 'own'\n")
    assert {"own", "engine"} <= set(attacks())


def test_without_a_workspace_only_the_installed_are_found(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "attacks" / "own.py").write_text(NAMED.format(name="own"))
    assert "own" in attacks()
    monkeypatch.delenv("CURVEBOARD_PLUGINS")
    assert "own" not in attacks()


def test_worker_processes_find_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "attacks").mkdir()
    (tmp_path / "attacks" / "own.py").write_text(NAMED.format(name="own"))
    monkeypatch.setenv("CURVEBOARD_PLUGINS", "")  # so that it is put back
    plugins.use(tmp_path)
    code = "from benchmark import plugins; assert 'own' in plugins.discover('benchmark.attacks', 'ATTACK')"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ATTACK = (", r"own\.py cannot be imported: '\(' was never closed, line 1"),
        ("\nimport no_such_module", r"own\.py cannot be imported: ModuleNotFoundError.*, line 2\. Repair or remove it"),
        ("ATACK = 1", r"own\.py holds no ATTACK.*_own\.py"),
        ("ATTACK = 1", "is 1, without a name"),
        (NAMED.format(name="engine"), "Two of the attacks are called 'engine': .*own.py"),
    ],
)
def test_a_file_that_is_no_plug_in_is_named_with_the_reason(workspace: Path, text: str, said: str) -> None:
    (workspace / "attacks" / "own.py").write_text(text)
    with pytest.raises((BenchmarkError, OwnCodeError), match=said):
        attacks()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("benchmark.attacks.fab", 'must name the constant in it: theirs = "benchmark.attacks.fab:ATTACK"'),
        ("benchmark.attacks.fab:nothing", "cannot be loaded: AttributeError"),
        ("json:dumps", "without a name"),
    ],
)  # fmt: skip
def test_an_entry_point_that_names_no_plug_in_is_told_the_right_value(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    entry_points_are(monkeypatch, value)
    with pytest.raises(BenchmarkError, match=re.escape(said)):
        attacks()
    plugins._discovered.cache_clear()


def test_an_architecture_of_the_workspace_is_built(workspace: Path) -> None:
    folder = workspace / "architectures"
    folder.mkdir()
    (folder / "own_net.py").write_text(
        "from torch import nn\nVERSION = 4\ndef build(*, classes): return nn.Linear(4, classes)\n"
    )
    assert architectures.version_of("own_net") == 4
    assert architectures.build("own_net", {"classes": 3}).out_features == 3
    (folder / "broken_net.py").write_text("VERSION = 1\nimport no_such_module\n")
    with pytest.raises(OwnCodeError, match=r"broken_net\.py cannot be imported: .*line 2"):
        architectures.build("broken_net", {})
    (folder / "mlp.py").write_text("VERSION = 1\n")
    with pytest.raises(ZooError, match=r"'mlp' is defined by models_zoo\.architectures\.mlp and by"):
        architectures.architectures()
