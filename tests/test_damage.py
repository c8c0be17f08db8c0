"""What a database cannot hold is found and named: by verify, doctor and db check, without a traceback."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from benchmark.cli import run
from benchmark.workspace import Workspace


def connect(workspace: Workspace) -> sqlite3.Connection:
    connection = sqlite3.connect(workspace.root / "curveboard.db", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection


def rewrite(workspace: Workspace, name: str, change) -> None:
    """Change the first stored array of that name."""
    connection = connect(workspace)
    key, blob = connection.execute("SELECT id, data FROM arrays WHERE name = ? ORDER BY id", (name,)).fetchone()
    buffer = io.BytesIO()
    np.save(buffer, change(np.load(io.BytesIO(blob))))
    connection.execute("UPDATE arrays SET data = ? WHERE id = ?", (buffer.getvalue(), key))
    connection.close()


def negative(array):
    array[2] = -0.5
    return array


def undefined(array):
    array[2] = np.nan
    return array


@pytest.mark.parametrize("verb", [["verify"], ["db", "check"], ["doctor"]])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("distance_linf", negative, "-0.5 at row 2"),
        ("distance_l1", negative, "-0.5 at row 2"),
        ("distance_linf", undefined, "nan at row 2"),
        ("distance_linf", lambda a: a[:-1], "shape"),
        ("distance_linf", lambda a: np.stack([a, a], axis=1), "shape"),
        ("distance_linf", lambda a: a.astype("S8"), "number a sample"),
    ],
)
def test_a_distance_that_cannot_be_is_found(board, capsys, verb, *, name, change, message):
    rewrite(board, name, change)
    assert run([*verb, "-w", str(board.root)]) == 4
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE arrays SET data = x'00112233' WHERE id = 3", "arrays, row 3, data"),
        ("UPDATE arrays SET data = 'text' WHERE id = 3", "arrays, row 3, data"),
        ("UPDATE arrays SET data = x'' WHERE id = 3", "arrays, row 3, data"),
        ("UPDATE models SET card = '{' WHERE id = 1", "models, row 1, card"),
        ("UPDATE models SET card = '[]' WHERE id = 1", "models, row 1, card"),
        ("UPDATE datasets SET card = 'junk'", "datasets, row 1, card"),
        ("UPDATE datasets SET size = 'many'", "datasets, row 1, size"),
        ("UPDATE evaluations SET state = 'asleep' WHERE id = 2", "evaluations, row 2, state"),
        ("UPDATE evaluations SET finished_at = 'noon' WHERE id = 2", "evaluations, row 2, finished_at"),
        ("UPDATE evaluations SET outputs = '7' WHERE id = 2", "evaluations, row 2, outputs"),
        ("UPDATE scores SET value = 'good' WHERE id = 1", "scores, row 1, value"),
        ("DELETE FROM models WHERE id = 1", "refers to a row of models that is not there"),
        ("""UPDATE datasets SET card = json_set(card, '$.eps.linf', json('[-1]'))""", "datasets, row 1, card"),
        ("""UPDATE datasets SET card = json_set(card, '$.eps', 3)""", "datasets, row 1, card"),
    ],
)
def test_junk_is_named_by_table_row_and_column(board, capsys, statement, message):
    connection = connect(board)
    connection.execute(statement)
    connection.close()
    assert run(["db", "check", "-w", str(board.root)]) == 4
    assert message in capsys.readouterr().out
    # Other verbs say what is wrong too, or do without it; none of them crashes.
    for verb in (["verify"], ["status"], ["doctor"], ["history"], ["publish"]):
        assert run([*verb, "-w", str(board.root)]) in {0, 1, 4}
        assert "Traceback" not in capsys.readouterr().err


def test_a_damaged_page_is_named(board, capsys):
    path = board.root / "curveboard.db"
    connection = connect(board)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'chunks'").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    path.write_bytes(data)
    assert run(["db", "check", "-w", str(board.root)]) == 4
    assert "damaged" in capsys.readouterr().out
    for verb in (["verify"], ["doctor"], ["bundle", "digits-standard"]):
        assert run([*verb, "-w", str(board.root)]) in {1, 4}
        said = capsys.readouterr()
        assert "malformed" in said.out + said.err


def test_lower_bounds_above_distances_are_found(board, capsys):
    connection = connect(board)
    connection.execute(
        "UPDATE evaluations SET outputs = json_insert(outputs, '$[#]', "
        """json('{"name": "proven", "kind": "lower", "title": "t", "threat": "linf", "array": "distance_l2"}')) """
        "WHERE measure = 'line' AND norm = 'linf'"
    )
    connection.close()
    assert run(["verify", "-w", str(board.root)]) == 4
    assert "but there is a verified one at" in capsys.readouterr().out


def test_doctor_misses_evidence_that_is_gone_or_damaged(board, capsys):
    files = sorted(path for path in Path(board.artifacts).rglob("*.safetensors"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-1])
    assert run(["doctor", "-w", str(board.root)]) == 4
    assert "2 of 6 files cannot be used" in capsys.readouterr().out


def test_a_sound_board_is_said_to_be_sound(made_board, capsys):
    assert run(["db", "check", "-w", str(made_board.root)]) == 0
    assert run(["doctor", "-w", str(made_board.root)]) == 0
    assert "6 files, each there and readable" in capsys.readouterr().out


def test_an_empty_check_is_no_success(tmp_path, capsys):
    assert run(["init", str(tmp_path / "new")]) == 0
    assert run(["verify", "-w", str(tmp_path / "new")]) == 1
    assert "nothing to verify" in capsys.readouterr().err
