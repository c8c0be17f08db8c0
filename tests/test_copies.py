"""The same model under another name is told at once whose it is, and keeps nobody else from being evaluated."""

from __future__ import annotations

import shutil

import boards
import pytest
import tomli_w

from benchmark.cli import run
from benchmark.evidence.container import Container
from models_zoo import get_entry
from models_zoo.cards import card_table
from models_zoo.loading import local_file
from tests.test_bundle import SLUG, bundle, ingest, rewritten


@pytest.fixture
def copied_model(tmp_path):
    """A folder to be submitted: a model of the zoo, card and weights, under another name."""
    entry = get_entry(SLUG)
    home = tmp_path / "thief"
    home.mkdir()
    (home / "model.toml").write_text(tomli_w.dumps({**card_table(entry), "slug": "thief"}))
    for weights in entry.weights:
        shutil.copyfile(local_file(entry, weights), home / weights.name)
    return home


def test_a_copy_is_refused_when_it_is_submitted(board, copied_model, capsys):
    assert run(["submit", str(copied_model), "-w", str(board.root)]) == 1
    assert f"'thief' is '{SLUG}' under another name" in capsys.readouterr().err
    assert not (board.models / "thief").exists()


def test_a_copy_that_is_there_is_named_and_the_others_are_evaluated(board, copied_model, capsys):
    shutil.copytree(copied_model, board.models / "thief")
    boards.protocol(board, "far", "near")
    with boards.line_registered():
        asked = ["evaluate", "-w", str(board.root), "--protocol", "lines", "--limit", "20"]
        assert run([*asked, "-m", "thief"]) == 1
        assert f"'thief' is '{SLUG}' under another name" in capsys.readouterr().err
        assert run([*asked, "-d", "digits", "--plan"]) == 0
        said = capsys.readouterr()
        assert f"Left out: The model 'thief' is '{SLUG}'" in said.err
        assert "digits-standard" in said.out


def test_a_bundle_of_a_copy_enters_nowhere(board, tmp_path, capsys):
    def rename(manifest, members):
        manifest["model"]["slug"] = manifest["model"]["card"]["slug"] = "thief"

    path = bundle(board, tmp_path / "row.bundle")
    with Container(path) as container:
        assert container.manifest["model"]["slug"] == SLUG
    assert ingest(board, rewritten(path, tmp_path / "thief.bundle", rename)) == 1
    assert "under another name" in capsys.readouterr().err
    assert not (board.models / "thief").exists()
