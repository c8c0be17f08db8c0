"""A backup is consistent while evaluators write, and what is restored from it is the same board."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
from pathlib import Path

import boards
import pytest

from benchmark.cli import run
from benchmark.workspace import Workspace


def test_a_lost_disk_is_restored_to_the_same_board(board, tmp_path, capsys):
    before = boards.all_distances(board)
    assert run(["backup", str(tmp_path / "b.backup"), "-w", str(board.root)]) == 0
    shutil.rmtree(board.root)
    assert run(["restore", str(tmp_path / "b.backup"), str(tmp_path / "again")]) == 0
    again = Workspace.load(tmp_path / "again")
    assert boards.all_distances(again) == before
    assert run(["verify", "-w", str(again.root)]) == 0
    assert run(["doctor", "-w", str(again.root)]) == 0
    capsys.readouterr()
    assert boards.evaluate(again) == 0
    assert "Nothing to do" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_still_in_the_write_ahead_log_is_in_the_backup(board, tmp_path):
    holder = sqlite3.connect(board.root / "curveboard.db", isolation_level=None)
    holder.execute("BEGIN")  # a reader, which keeps the log from being folded into the file
    holder.execute("SELECT * FROM models").fetchone()
    writer = sqlite3.connect(board.root / "curveboard.db", isolation_level=None)
    writer.execute("UPDATE models SET title = 'written a moment ago'")
    assert run(["backup", str(tmp_path / "b.backup"), "-w", str(board.root)]) == 0
    holder.close()
    writer.close()
    assert run(["restore", str(tmp_path / "b.backup"), str(tmp_path / "again")]) == 0
    with sqlite3.connect(tmp_path / "again" / "curveboard.db") as connection:
        assert {title for (title,) in connection.execute("SELECT title FROM models")} == {"written a moment ago"}


def test_no_backup_is_made_of_what_is_damaged(board, tmp_path, capsys):
    next(Path(board.artifacts).rglob("*.safetensors")).unlink()
    assert run(["backup", str(tmp_path / "b.backup"), "-w", str(board.root)]) == 1
    assert not (tmp_path / "b.backup").exists()
    assert "evidence" in capsys.readouterr().err.lower()


def test_nothing_is_overwritten(made_board, tmp_path, capsys):
    assert run(["backup", str(tmp_path / "b.backup"), "-w", str(made_board.root)]) == 0
    assert run(["backup", str(tmp_path / "b.backup"), "-w", str(made_board.root)]) == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    assert run(["restore", str(tmp_path / "b.backup"), str(tmp_path / "full")]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_database_on_a_server_is_left_to_its_own_tools(made_board, tmp_path, capsys):
    url = "postgresql://nobody@127.0.0.1:1/none"
    assert run(["backup", str(tmp_path / "b"), "-w", str(made_board.root), "--database", url]) == 1
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.9])
def test_a_cut_or_damaged_backup_restores_nothing(made_board, tmp_path, capsys, share):
    path = tmp_path / "b.backup"
    assert run(["backup", str(path), "-w", str(made_board.root)]) == 0
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert run(["restore", str(path), str(tmp_path / "cut")]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["b.backup"]


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "files/../../out", "other/x", "evidence/short", "files/a\\b"])
def test_a_backup_writes_nowhere_else(tmp_path, capsys, name):
    path = tmp_path / "b.backup"
    with tarfile.open(path, "w") as archive:
        table = {}
        for member, data in ((name, b"x"), ("curveboard.db", b"x"), ("files/curveboard.toml", b"")):
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
            table[member] = {"sha256": "0" * 64}
        text = json.dumps({"format": "curveboard-backup/1", "members": table}).encode()
        info = tarfile.TarInfo("backup.json")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    assert run(["restore", str(path), str(tmp_path / "new")]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["b.backup"]
