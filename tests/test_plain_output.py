"""Whatever strangers wrote, the terminal shows it and does nothing else."""

from __future__ import annotations

import json
import sqlite3

import pytest

from benchmark.cli import run
from benchmark.cli.plain import plain

HOSTILE = "a\x1b[2Jb\x9bc\u202ed\u2066e\x07f\u200bg\rh\U000e0001"


def test_text_is_kept_and_what_commands_a_terminal_is_written_out():
    assert plain("ℓ∞ ≤ 0.1 – été 模型 🙂\n\tx") == "ℓ∞ ≤ 0.1 – été 模型 🙂\n\tx"
    shown = plain(HOSTILE)
    assert all(c.isprintable() for c in shown)
    assert json.loads(f'"{shown}"') == HOSTILE


@pytest.mark.parametrize(
    "options", [["status"], ["status", "--json"], ["history"], ["history", "--json"], ["show", "digits-standard"]]
)
def test_no_verb_prints_what_a_database_holds_raw(board, capsys, options):
    with sqlite3.connect(board.root / "curveboard.db") as connection:
        connection.execute("UPDATE evaluations SET state = 'failed', reason = ?, measure = ?", (HOSTILE, HOSTILE[:60]))
        connection.execute("UPDATE models SET title = ?", (HOSTILE,))
        connection.execute("UPDATE changes SET kind = ?", (HOSTILE,))
    assert run([*options, "-w", str(board.root)]) in {0, 1}
    said = capsys.readouterr()
    assert (said.out + said.err).strip()
    assert all(c.isprintable() or c in "\n\t" for c in said.out + said.err)
    if "--json" in options:
        json.loads(said.out)


def test_errors_and_wrong_use_are_plain_too(tmp_path, capsys):
    for arguments in (
        ["verify", "--bundle", str(tmp_path / HOSTILE)],
        [HOSTILE],
        ["show", HOSTILE, "-w", str(tmp_path)],
    ):
        assert run(arguments) in {1, 2}
        said = capsys.readouterr().err
        assert said
        assert all(c.isprintable() or c in "\n\t" for c in said)
