"""The command line as a whole: help, lists, errors, and its reference in the documentation."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from benchmark.cli import group, run

ROOT = Path(__file__).parent.parent


def test_help_does_not_load_torch_or_sqlalchemy():
    code = (
        "import sys\nfrom benchmark.cli import run\n"
        "assert run(['--help']) == 0\n"
        "heavy = {'torch', 'sqlalchemy', 'scipy', 'jinja2', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "evaluate" in done.stdout


@pytest.mark.parametrize("verb", group.list_commands(click.Context(group)))
def test_every_verb_explains_itself(verb, capsys):
    assert run([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: curveboard" in out
    assert len(out.splitlines()) > 3


def test_an_unknown_verb_is_a_usage_error_with_the_nearest(capsys):
    assert run(["evalute"]) == 2
    assert "Did you mean 'evaluate'" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["models", "datasets", "attacks", "measures", "protocols"])
def test_everything_can_be_listed_without_a_workspace(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["list", kind, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments", [["evaluate"], ["status"], ["show", "digits-standard"], ["export"], ["publish"], ["db", "check"]]
)
def test_without_a_workspace_the_error_says_how_to_make_one(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CURVEBOARD_WORKSPACE", raising=False)
    assert run(arguments) == 1
    assert "curveboard init" in capsys.readouterr().err


def test_a_workspace_is_found_by_folder_option_and_variable(workspace, monkeypatch, tmp_path, capsys):
    inner = workspace.root / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert run(["status"]) == 0
    monkeypatch.chdir(tmp_path)
    assert run(["status", "--workspace", str(workspace.root)]) == 0
    monkeypatch.setenv("CURVEBOARD_WORKSPACE", str(workspace.root))
    assert run(["status", "--json"]) == 0
    assert str(workspace.root) in capsys.readouterr().out


def test_another_database_can_be_named_by_url(workspace, tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'other.db'}"
    assert run(["status", "-w", str(workspace.root), "--database", url]) == 1
    assert "curveboard db upgrade" in capsys.readouterr().err
    assert run(["db", "upgrade", "--database", url]) == 0
    assert run(["db", "check", "--database", url]) == 0
    assert run(["status", "-w", str(workspace.root), "--database", url]) == 0


def test_init_never_overwrites(workspace, capsys):
    before = (workspace.root / "curveboard.toml").read_bytes()
    assert run(["init", str(workspace.root)]) == 1
    assert "there is a workspace already" in capsys.readouterr().err
    assert (workspace.root / "curveboard.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("database = ", "not valid TOML"),
        ("databse = 'x'", "unknown settings: databse"),
        ("database = 3", "database must be a string, got 3"),
        ("database = 'nonsense'", "cannot be used"),
    ],
)
def test_a_damaged_configuration_is_explained(workspace, capsys, text, message):
    (workspace.root / "curveboard.toml").write_text(text)
    assert run(["status", "-w", str(workspace.root)]) == 1
    assert message in capsys.readouterr().err


def test_doctor_finds_a_sound_workspace_and_a_missing_one(workspace, tmp_path, monkeypatch, capsys):
    assert run(["doctor", "-w", str(workspace.root)]) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(["doctor", "--json"]) == 4
    findings = {f["subject"]: f["ok"] for f in json.loads(capsys.readouterr().out)}
    assert findings["torch"]
    assert not findings["workspace"]


def test_the_reference_in_the_documentation_is_current():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (ROOT / "docs" / "cli.md").read_text() == generate.cli_reference(), "run: make docs"
