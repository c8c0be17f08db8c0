"""A model's name changes, its folder goes, its weights are renewed: results and history stay whose they are."""

from __future__ import annotations

import json
import shutil

import boards
import lives
import pytest
from sqlalchemy import select

from benchmark.cli import run
from benchmark.workspace import Workspace
from db.queries import RowStatus, changes
from db.queries import boards as all_boards
from db.schema import Change, Model
from db.session import Database
from models_zoo.renaming import STAGING

MODEL = "digits-16-16"


def rename(workspace: Workspace, *options: str) -> int:
    return run(["rename", *options, "-w", str(workspace.root)])


def plan(workspace: Workspace, *options: str) -> int:
    """``curveboard evaluate --plan``; its models of the digits alone, as a rule."""
    asked = ["evaluate", "-w", str(workspace.root), "--protocol", "lines", "-d", "digits", "--limit", "20", "--plan"]
    with boards.line_registered():
        return run([*asked, *options])


def statuses(workspace: Workspace) -> dict[str, RowStatus]:
    with Database(workspace.database_url).read() as session:
        (board,) = all_boards(session)
        return {row.model.slug: row.status for row in board.rows}


@pytest.fixture(scope="module")
def made_own(tmp_path_factory) -> Workspace:
    """A board of one model of the zoo and one that was submitted, ``ours``."""
    home = tmp_path_factory.mktemp("own")
    assert run(["init", str(home / "board")]) == 0
    workspace = Workspace.load(home / "board")
    assert lives.submit(workspace, lives.make(home, "ours", 1)) == 0
    boards.protocol(workspace, "far")
    assert boards.evaluate(workspace, [MODEL, "ours"]) == 0
    return workspace


@pytest.fixture
def own(made_own, tmp_path) -> Workspace:
    return boards.copied(made_own, tmp_path / "board")


def test_results_evidence_and_history_stay_with_a_renamed_model(own, capsys):
    before = {norm: boards.board_ledger(own, "ours", norm).distances.tolist() for norm in boards.NORMS}
    assert rename(own, "ours", "theirs", "--reason", "its author asked for it") == 0
    assert {norm: boards.board_ledger(own, "theirs", norm).distances.tolist() for norm in boards.NORMS} == before
    assert statuses(own) == {MODEL: RowStatus.COMPLETE, "theirs": RowStatus.COMPLETE}
    assert not (own.models / "ours").exists()
    capsys.readouterr()
    assert plan(own, "-m", "theirs", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [], "nothing is to run again"
    assert run(["verify", "theirs", "-w", str(own.root)]) == 0
    capsys.readouterr()
    assert run(["history", "theirs", "-w", str(own.root)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "re-checked" not in line]
    assert "ours: is called theirs from now on (its author asked for it)" in said[0]
    assert "ours: joined the board of digits" in said[1]
    assert run(["history", "ours", "-w", str(own.root)]) == 1
    assert "'ours' was renamed; it is called 'theirs' now" in capsys.readouterr().err


def test_the_site_shows_the_new_name_and_tells_of_the_old(own):
    assert rename(own, "ours", "theirs") == 0
    assert run(["publish", "-w", str(own.root)]) == 0
    page = next(own.public.glob("boards/*/models/theirs/index.html")).read_text()
    assert "ours is called theirs from now on" in page
    assert "ours joined the board" in page
    assert not list(own.public.glob("boards/*/models/ours"))
    assert "theirs/index.html" in (own.public / "changes" / "index.html").read_text()


def test_a_board_of_an_earlier_day_has_the_name_of_that_day(own):
    with Database(own.database_url).read() as session:
        moment = changes(session)[0].at
    assert rename(own, "ours", "theirs") == 0
    with Database(own.database_url).read() as session:
        assert {row.model.slug for row in all_boards(session, as_of=moment)[0].rows} == {MODEL, "ours"}
        assert changes(session, as_of=moment)[0].model in {"ours", MODEL}


def test_an_old_name_is_given_to_nobody_else(own, tmp_path, capsys):
    assert rename(own, "ours", "theirs") == 0
    other = lives.make(tmp_path, "ours", 2)
    assert lives.submit(own, other) == 1
    assert "The name 'ours' was that of the model 'theirs'" in capsys.readouterr().err
    shutil.copytree(other, own.models / "ours")
    assert plan(own) == 0
    assert "Left out: The name 'ours'" in capsys.readouterr().err
    assert rename(own, "theirs", "ours") == 1  # the folder of the intruder is there
    shutil.rmtree(own.models / "ours")
    assert rename(own, "theirs", "ours") == 0, "it may have its own name back"
    assert statuses(own)["ours"] is RowStatus.COMPLETE


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((MODEL, "mine"), "comes with the package"),
        (("ours", MODEL), "The zoo has a model called"),
        (("ours", "ours"), "called 'ours' already"),
        (("nobody", "mine"), "'nobody'"),
        (("ours", "../mine"), "cannot be used"),
        (("ours", "con"), "cannot be used"),
        (("ours", "mine", "--reason", "a\x1b[2Jb"), "cannot be printed"),
    ],
)
def test_what_cannot_be_renamed_is_said_and_changes_nothing(own, names, message, capsys):
    assert rename(own, *names) == 1
    said = capsys.readouterr().err
    assert message in said
    assert "\x1b" not in said
    assert statuses(own) == {MODEL: RowStatus.COMPLETE, "ours": RowStatus.COMPLETE}
    assert sorted(path.name for path in own.models.iterdir()) == ["ours"]


@pytest.mark.parametrize("when", ["before the database", "after the database"])
def test_an_interrupted_rename_is_finished_by_the_same_command(own, tmp_path, when, capsys):
    kept = tmp_path / "kept"
    shutil.copytree(own.models / "ours", kept)
    if when == "after the database":
        assert rename(own, "ours", "theirs") == 0
        shutil.copytree(kept, own.models / "ours")
    else:
        shutil.copytree(kept, own.models / "theirs")
        card = own.models / "theirs" / "model.toml"
        card.write_text(card.read_text().replace('slug = "ours"', 'slug = "theirs"'))
    assert plan(own) == 0, "nobody else is kept from anything meanwhile"
    assert "under another name" in capsys.readouterr().err
    assert rename(own, "ours", "theirs") == 0
    assert sorted(path.name for path in own.models.iterdir()) == ["theirs"]
    assert statuses(own) == {MODEL: RowStatus.COMPLETE, "theirs": RowStatus.COMPLETE}
    with Database(own.database_url).read() as session:
        assert len(session.scalars(select(Change).where(Change.kind == "renamed")).all()) == 1


def test_a_model_whose_folder_is_gone_is_shown_as_gone_and_blocks_nobody(own, capsys):
    shutil.rmtree(own.models / "ours")
    for verb in (["status"], ["publish"], ["verify"]):
        capsys.readouterr()
        assert run([*verb, "-w", str(own.root)]) == 0
        said = capsys.readouterr()
        assert "ours: its files are gone" in said.out + said.err
    assert "Its files are gone" in next(own.public.glob("boards/*/models/ours/index.html")).read_text()
    assert "Its files are gone" not in next(own.public.glob(f"boards/*/models/{MODEL}/index.html")).read_text()
    assert run(["verify", "ours", "-w", str(own.root)]) == 4, "an empty check is no success"
    capsys.readouterr()
    assert run(["status", "-w", str(own.root), "--json"]) == 0
    assert {row["model"]: row["files"] for row in json.loads(capsys.readouterr().out)["rows"]} == {
        MODEL: None,
        "ours": "gone",
    }
    assert plan(own, "-m", "ours") == 1
    assert plan(own, "-m", MODEL) == 0


def test_the_name_of_a_model_that_is_gone_is_not_taken_unasked(own, tmp_path, capsys):
    shutil.move(own.models / "ours", tmp_path / "kept")
    other = lives.make(tmp_path, "ours", 2)
    assert lives.submit(own, other) == 1
    assert "whose folder is gone" in capsys.readouterr().err
    assert lives.submit(own, tmp_path / "kept") == 0, "the same model may come back"
    assert lives.submit(own, other, "--replace") == 0


def test_a_card_that_cannot_be_read_blocks_nobody(own, capsys):
    (own.models / "broken").mkdir()
    (own.models / "broken" / "model.toml").write_text("slug = ")
    unknown = own.models / "elsewhere"
    shutil.copytree(own.models / "ours", unknown)
    text = (unknown / "model.toml").read_text().replace('"ours"', '"elsewhere"').replace('"digits"', '"martian"')
    (unknown / "model.toml").write_text(text.replace("hidden = []", "hidden = []\n"))
    for verb in (["status"], ["publish"], ["verify"], ["list", "models"]):
        assert run([*verb, "-w", str(own.root)]) == 0, verb
    capsys.readouterr()
    assert plan(own, "-m", "ours") == 0
    said = capsys.readouterr().err
    assert "Left out" in said
    assert "broken" in said


def test_new_weights_are_told_as_such_and_older_ones_do_not_come_back(own, tmp_path, capsys):
    assert lives.submit(own, lives.make(tmp_path, "ours", 2), "--replace") == 0
    assert boards.evaluate(own, ["ours"]) == 0
    capsys.readouterr()
    assert run(["history", "ours", "-w", str(own.root)]) == 0
    newest, first = (line for line in capsys.readouterr().out.splitlines() if "UTC" in line)
    assert "ours: new weights on the board of digits" in newest
    assert "ours: joined" in first
    with Database(own.database_url).read() as session:
        (change, *_) = changes(session)
        assert change.detail["boards"][0]["norms"]["linf"][0]["before"] is not None
        assert len(session.scalars(select(Model).where(Model.slug == "ours")).all()) == 2
    assert lives.submit(own, lives.make(tmp_path, "ours", 1), "--replace") == 1
    assert "older weights of 'ours'" in capsys.readouterr().err
    assert not list(own.models.glob(f"{STAGING}*"))


def test_a_withdrawn_model_is_neither_evaluated_nor_submitted_again(own, tmp_path, capsys):
    assert run(["withdraw", "-m", "ours", "--reason", "trained on the test images", "-w", str(own.root)]) == 0
    assert plan(own) == 0
    assert "Left out: The model 'ours' is withdrawn: trained on the test images" in capsys.readouterr().err
    assert lives.submit(own, lives.make(tmp_path, "ours", 1), "--replace") == 1
    assert "withdrawn: trained on the test images" in capsys.readouterr().err
    assert run(["publish", "-w", str(own.root)]) == 0
    assert (
        "It was withdrawn: trained on the test images."
        in next(own.public.glob("boards/*/models/ours/index.html")).read_text()
    )
