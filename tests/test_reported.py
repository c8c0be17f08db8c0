"""Another board is believed what it proves; what it says it did not find is searched for here before it is ranked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import boards
import numpy as np
import pytest
from sqlalchemy import func, select

from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.evidence.bundle import npy
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.queries import RowStatus
from db.queries import boards as all_boards
from db.schema import Change, Dataset, Evaluation, Model, State
from db.session import Database
from tests.test_bundle import SLUG, bundle, ingest, rewritten


@pytest.fixture(scope="module")
def packed(made_board, tmp_path_factory) -> Path:
    return bundle(made_board, tmp_path_factory.mktemp("bundle") / "row.bundle")


@pytest.fixture
def other(tmp_path) -> Workspace:
    workspace = Workspace.create(tmp_path / "other")
    upgrade(Database(workspace.database_url))
    return workspace


def the_row(workspace: Workspace):
    with Database(workspace.database_url).read() as session:
        (board,) = all_boards(session)
        (row,) = board.rows
    return row


def nothing_found(manifest, members):
    """Every distance infinite but those of misclassified images, and no evidence: true as far as anybody can check."""
    for evaluation in manifest["evaluations"]:
        for chunk in evaluation["chunks"]:
            chunk["evidence"] = None
            for array, name in chunk["arrays"].items():
                if array.startswith("distance_"):
                    distances = np.load(io.BytesIO(members[name]))
                    members[name] = npy(np.where(distances > 0, np.inf, 0.0))
    for name in [name for name in members if name.startswith("evidence/")]:
        del members[name]


def test_nothing_found_elsewhere_is_not_ranked_until_this_board_has_searched(packed, other, tmp_path, capsys):
    lying = rewritten(packed, tmp_path / "lie.bundle", nothing_found)
    assert run(["verify", "--bundle", str(lying)]) == 0
    said = capsys.readouterr().out
    assert "not proven" in said
    assert "times none was found" in said
    assert ingest(other, lying) == 0
    assert the_row(other).status is RowStatus.REPORTED
    assert len(the_row(other).reported) == 3
    assert np.isinf(boards.board_ledger(other, norm="linf").distances).mean() >= 0.9
    capsys.readouterr()
    assert run(["recheck", SLUG, "-w", str(other.root)]) == 0
    assert "l2, linf" in capsys.readouterr().out
    assert the_row(other).status is RowStatus.COMPLETE
    for norm in ("linf", "l2"):
        assert np.isfinite(boards.board_ledger(other, norm=norm).distances).all(), "what it claimed is refuted"
    with Database(other.database_url).read() as session:
        assert [change.kind for change in session.scalars(select(Change))] == ["model-added"]
    assert run(["recheck", SLUG, "-w", str(other.root)]) == 1


def test_the_mark_stays_after_the_search_and_goes_with_what_was_reported(packed, other, capsys):
    assert ingest(other, packed) == 0
    assert run(["recheck", SLUG, "-w", str(other.root)]) == 0
    assert run(["publish", "-w", str(other.root)]) == 0
    page = next(other.public.glob(f"boards/*/models/{SLUG}/index.html"))
    assert "Reported by another board:" in page.read_text()
    assert "clean, line l2 and line linf" in page.read_text()
    capsys.readouterr()
    assert run(["status", "--json", "-w", str(other.root)]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["reported"] == 3
    boards.protocol(other, "far")
    with boards.line_registered():
        assert run(["evaluate", "-w", str(other.root), "--protocol", "lines", "-m", SLUG, "--rerun", "all"]) == 0
    assert run(["publish", "-w", str(other.root)]) == 0
    assert "Reported by another board:" not in page.read_text()


@pytest.fixture(scope="module")
def targeted_bundle(tmp_path_factory) -> Path:
    """A bundle of a board whose protocol ranks a targeted threat."""
    home = tmp_path_factory.mktemp("targeted")
    assert run(["init", str(home / "board")]) == 0
    workspace = Workspace.load(home / "board")
    (workspace.protocols / "aims.toml").write_text(
        'name = "aims"\nversion = 1\ntitle = "Targeted"\n[[measures]]\nmeasure = "clean"\n'
        '[[measures]]\nmeasure = "targeted"\nnorm = "l2"\nchoice = "next"\neffort = "quick"\n'
    )
    asked = ["evaluate", "-w", str(workspace.root), "--protocol", "aims", "-m", SLUG, "--limit", "6"]
    assert run(asked) == 0
    return bundle(workspace, home / "row.bundle")


def test_targeted_threats_are_searched_too(targeted_bundle, other, capsys):
    assert ingest(other, targeted_bundle) == 0
    assert the_row(other).status is RowStatus.REPORTED
    capsys.readouterr()
    assert run(["recheck", SLUG, "-w", str(other.root)]) == 0
    assert "l2-targeted-next" in capsys.readouterr().out
    assert the_row(other).status is RowStatus.COMPLETE
    with Database(other.database_url).read() as session:
        searched = [e for e in session.scalars(select(Evaluation)) if e.measure == "targeted" and e.bundle is None]
        assert [e.samples for e in searched] == [6]


def test_running_the_protocol_here_makes_the_row_this_boards_own(packed, other):
    assert ingest(other, packed) == 0
    boards.protocol(other, "far")
    with boards.line_registered():
        asked = ["evaluate", "-w", str(other.root), "--protocol", "lines", "-m", SLUG, "--rerun", "all"]
        assert run(asked) == 0
    row = the_row(other)
    assert (row.status, row.reported) == (RowStatus.COMPLETE, ())


def test_a_shorter_slice_does_not_launder_what_another_board_reported(packed, other, tmp_path):
    assert ingest(other, rewritten(packed, tmp_path / "lie.bundle", nothing_found)) == 0
    boards.protocol(other, "far")
    assert boards.evaluate(other, [SLUG], n=boards.N - 6) == 0
    with Database(other.database_url).read() as session:
        own = [e for e in session.scalars(select(Evaluation)) if e.bundle is None and e.measure == "line"]
        assert len(own) == 2
        for evaluation in own:
            (name,) = {a.name for c in evaluation.chunks for a in c.arrays} & {f"distance_{evaluation.norm}"}
            found = np.concatenate([a.data for c in evaluation.chunks for a in c.arrays if a.name == name])
            assert np.isfinite(found).all()


def test_a_challenge_of_all_samples_is_no_search(packed, other, tmp_path):
    assert ingest(other, packed) == 0
    indices, examples, _ = boards.near_examples()
    np.savez(tmp_path / "near.npz", indices=indices, examples=examples)
    assert run(["challenge", SLUG, str(tmp_path / "near.npz"), "-w", str(other.root)]) == 0
    assert the_row(other).status is RowStatus.REPORTED


# What forward passes and arithmetic can check ----------------------------------------------------------------------


def clean_accuracy(manifest, members):
    (clean,) = [e for e in manifest["evaluations"] if e["measure"] == "clean"]
    clean["scores"][0]["value"] = 1.0


def predictions(manifest, members):
    (clean,) = [e for e in manifest["evaluations"] if e["measure"] == "clean"]
    for chunk in clean["chunks"]:
        name = chunk["arrays"]["prediction"]
        members[name] = npy((np.load(io.BytesIO(members[name])) + 1) % 10)


def correctness(manifest, members):
    (clean,) = [e for e in manifest["evaluations"] if e["measure"] == "clean"]
    for chunk in clean["chunks"]:
        name = chunk["arrays"]["correct"]
        members[name] = npy(~np.load(io.BytesIO(members[name])))


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        (clean_accuracy, "the score accuracy is said to be"),
        (predictions, "states another class than the model gives"),
        (correctness, "against its own prediction"),
    ],
)
def test_clean_accuracy_is_checked_by_forward_passes(packed, other, tmp_path, capsys, *, lie, message):
    assert ingest(other, rewritten(packed, tmp_path / "lie.bundle", lie)) == 4
    assert message in capsys.readouterr().out
    with Database(other.database_url).read() as session:
        assert session.scalar(select(func.count()).select_from(Evaluation)) == 0


def test_a_measures_outputs_are_the_measures_not_the_bundles(packed, other, tmp_path, capsys):
    def hide(manifest, members):
        (clean,) = [e for e in manifest["evaluations"] if e["measure"] == "clean"]
        clean["outputs"] = []

    assert ingest(other, rewritten(packed, tmp_path / "lie.bundle", hide)) == 1
    assert "declares other outputs" in capsys.readouterr().err


# The board's own card ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eps", {"linf": [0.01]}),
        ("eps", {"linf": [1e308]}),
        ("title", "Mine"),
        ("licence", "none"),
        ("classes", ["a"] * 10),
    ],
)
def test_a_bundle_never_rewrites_a_registered_datasets_card(packed, board, tmp_path, name, value):
    def rewrite(manifest, members):
        manifest["dataset"][name] = value

    assert ingest(board, rewritten(packed, tmp_path / "card.bundle", rewrite)) == 0
    with Database(board.database_url).read() as session:
        (row,) = session.scalars(select(Dataset))
        assert row.title == get_dataset("digits").title
        assert row.card["licence"] == get_dataset("digits").licence
        assert row.card["classes"] == list(get_dataset("digits").classes)
        assert row.card["eps"] == {norm: list(values) for norm, values in get_dataset("digits").eps.items()}


@pytest.mark.parametrize("eps", [[0.0], [-1], [1e308], ["inf"], ["nan"], [0.1] * 1000, [None], 3])
def test_budgets_of_an_unknown_dataset_are_numbers_that_a_distance_can_be(packed, tmp_path, capsys, eps):
    def rewrite(manifest, members):
        manifest["dataset"]["name"] = "unheard-of"
        manifest["model"]["card"]["dataset"] = "unheard-of"
        manifest["dataset"]["eps"] = {"linf": eps}

    assert run(["verify", "--bundle", str(rewritten(packed, tmp_path / "eps.bundle", rewrite))]) == 1
    assert "Traceback" not in capsys.readouterr().err


# Crossings ---------------------------------------------------------------------------------------------------------


def certified(factor: float):
    """A bundle's change: the first linf evaluation says that the distances times so much are proven lower bounds."""

    def change(manifest, members):
        evaluation = next(e for e in manifest["evaluations"] if e["parameters"].get("norm") == "linf")
        lower = {**evaluation["outputs"][1], "name": "proven", "kind": "lower", "array": "radius"}
        evaluation["outputs"] = [*evaluation["outputs"], lower]
        for i, chunk in enumerate(evaluation["chunks"]):
            distances = np.load(io.BytesIO(members[chunk["arrays"]["distance_linf"]]))
            members[f"arrays/radius{i}.npy"] = npy(factor * np.where(np.isfinite(distances), distances, 0.0))
            chunk["arrays"]["radius"] = f"arrays/radius{i}.npy"

    return change


def test_a_lower_bound_above_a_verified_distance_enters_nowhere(packed, other, tmp_path, capsys):
    crossed = rewritten(packed, tmp_path / "crossed.bundle", certified(1.001))
    assert run(["verify", "--bundle", str(crossed)]) == 1
    assert ingest(other, crossed) == 1
    assert "but there is a verified one at" in capsys.readouterr().err
    with Database(other.database_url).read() as session:
        assert session.scalar(select(func.count()).select_from(Model)) == 0
    assert ingest(other, rewritten(packed, tmp_path / "sound.bundle", certified(0.999))) == 0


def test_a_lower_bound_above_what_this_board_has_found_enters_nowhere(packed, other, tmp_path, capsys):
    # Sound by itself, but the board knows nearer examples than the bundle.
    assert run(["init", str(tmp_path / "ours")]) == 0
    ours = Workspace.load(tmp_path / "ours")
    boards.protocol(ours, "far", "near")
    assert boards.evaluate(ours, [SLUG]) == 0
    sound = rewritten(packed, tmp_path / "sound.bundle", certified(0.999))
    assert run(["verify", "--bundle", str(sound)]) == 0
    with Database(ours.database_url).write() as session:  # it has all but the one that brings the bounds
        lines = session.scalars(select(Evaluation).where(Evaluation.norm == "linf"))
        row = next(line for line in lines if line.parameters["attack"] == "far")
        row.chunks, row.scores, row.state = [], [], State.QUEUED
    assert ingest(ours, sound) == 1
    assert "but there is a verified one at" in capsys.readouterr().err
