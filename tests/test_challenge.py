"""Challenges: a stranger's examples are re-checked one by one; what holds and lowers a distance joins the board."""

from __future__ import annotations

import errno
import json
import os

import boards
import numpy as np
import pytest
import safetensors.numpy
import torch
from sqlalchemy import func, select

from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.evidence import files as evidence
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs.attempt import cut
from benchmark.workspace import Workspace
from db.queries import changes
from db.schema import Chunk, Evaluation
from db.session import Database


def challenge(workspace: Workspace, path, *options: str) -> int:
    return run(["challenge", "digits-standard", str(path), "-w", str(workspace.root), *options])


def answer(workspace: Workspace, path, capsys, *options: str) -> dict:
    capsys.readouterr()
    challenge(workspace, path, "--json", *options)
    return json.loads(capsys.readouterr().out)


def saved(path, indices, examples):
    if path.suffix == ".npz":
        np.savez(path, indices=indices, examples=examples)
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file({"indices": indices, "examples": examples}, path)
    else:
        torch.save({"indices": torch.from_numpy(indices), "examples": torch.from_numpy(examples)}, path)
    return path


def evaluations(workspace: Workspace) -> int:
    with Database(workspace.database_url).read() as session:
        return session.scalar(select(func.count()).select_from(Evaluation)) or 0


def true_distances(examples, norm):
    """By the definition, in numpy, in float64."""
    x, _ = get_dataset("digits").load(len(examples))
    delta = (examples.astype(np.float64) - x.numpy().astype(np.float64)).reshape(len(examples), -1)
    return np.linalg.norm(delta, {"linf": np.inf, "l2": 2, "l1": 1}[norm], axis=1)


# What holds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_examples_that_hold_lower_the_ledger_to_their_distance(board, tmp_path, suffix):
    indices, examples, correct = boards.near_examples()
    before = {norm: boards.board_ledger(board, norm=norm) for norm in boards.NORMS}
    assert challenge(board, saved(tmp_path / f"found{suffix}", indices, examples), "--author", "Eve") == 0
    for norm in boards.NORMS:
        after = boards.board_ledger(board, norm=norm).distances
        expected = np.where(correct, np.minimum(before[norm].distances, true_distances(examples, norm)), 0)
        assert np.allclose(after, expected, rtol=1e-12, atol=0)
        assert (after < before[norm].distances).sum() > 10


def test_order_and_gaps_in_the_file_do_not_matter(board, tmp_path):
    indices, examples, _ = boards.near_examples()
    rows = np.array([17, 2, 3, 11, 12, 5])
    before = boards.board_ledger(board).distances
    assert challenge(board, saved(tmp_path / "some.npz", indices[rows], examples[rows])) == 0
    lowered = np.flatnonzero(boards.board_ledger(board).distances < before)
    assert set(lowered) <= set(rows.tolist())
    assert len(lowered) > 3


def test_a_challenge_covers_only_the_samples_it_brings(board, tmp_path):
    # Samples between two challenged ones were not looked at; they must not count as robust.
    indices, examples, _ = boards.near_examples(n=40)
    rows = np.array([25, 26, 35])
    assert challenge(board, saved(tmp_path / "far.npz", indices[rows], examples[rows])) == 0
    found = boards.board_ledger(board, n=40)
    assert np.flatnonzero(found.covered[boards.N :]).tolist() == [5, 6, 15]
    assert np.isinf(found.distances[27:35]).all()


@pytest.mark.parametrize(
    ("indices", "pieces"),
    [
        ([], []),
        ([3], [(3, 4)]),
        ([1, 2, 3], [(1, 3), (3, 4)]),
        ([0, 2, 3, 7], [(0, 1), (2, 3), (3, 4), (7, 8)]),
        (range(7), [(0, 3), (3, 6), (6, 7)]),
    ],
)
def test_missing_samples_are_cut_at_multiples_of_the_chunk(indices, pieces):
    missing = np.zeros(9, dtype=np.bool_)
    missing[list(indices)] = True
    assert list(cut(missing, 3)) == pieces


def test_the_challenger_is_credited_in_the_changelog(board, tmp_path, capsys):
    indices, examples, _ = boards.near_examples()
    path = saved(tmp_path / "found.npz", indices, examples)
    challenge(board, path, "--author", "Eve", "--paper", "arXiv:2601.00001", "--norm", "l2")
    with Database(board.database_url).read() as session:
        change = changes(session, limit=1)[0]
        row = session.scalars(select(Evaluation).where(Evaluation.measure == "challenge")).one()
        digests = set(session.scalars(select(Chunk.evidence_digest).where(Chunk.evaluation_id == row.id)))
    assert (change.kind, change.model, change.detail["by"]) == (
        "challenge-accepted",
        "digits-standard",
        "challenge: Eve",
    )
    assert row.norm == "l2"
    assert row.parameters["paper"] == "arXiv:2601.00001"
    stored, kept = EvidenceStore(board.artifacts).get(digests.pop())
    assert np.array_equal(kept.view(np.uint32), examples[stored].view(np.uint32))
    assert run(["history", "-w", str(board.root), "--limit", "1"]) == 0
    assert "challenge: Eve" in capsys.readouterr().out


def test_the_same_file_again_changes_nothing(board, tmp_path, capsys):
    indices, examples, _ = boards.near_examples()
    path = saved(tmp_path / "found.npz", indices, examples)
    assert challenge(board, path) == 0
    before, count = boards.all_distances(board), evaluations(board)
    capsys.readouterr()
    assert challenge(board, path) == 0
    assert "accepted before" in capsys.readouterr().out
    assert (boards.all_distances(board), evaluations(board)) == (before, count)


def test_a_dry_run_answers_and_changes_nothing(board, tmp_path, capsys):
    indices, examples, _ = boards.near_examples()
    before, count = boards.all_distances(board), evaluations(board)
    files = sorted(board.artifacts.rglob("*"))
    said = answer(board, saved(tmp_path / "found.npz", indices, examples), capsys, "--dry-run")
    assert sum(bool(v["lowers"]) for v in said["verdicts"]) > 10
    assert (boards.all_distances(board), evaluations(board)) == (before, count)
    assert sorted(board.artifacts.rglob("*")) == files


def test_what_lowers_nothing_changes_nothing(board, tmp_path, capsys):
    x, y = get_dataset("digits").load(boards.N)
    pool = get_dataset("digits").pool(500)
    far = boards.on_the_way(boards.load_model("digits-standard"), x, y, pool, halvings=0).numpy()
    count = evaluations(board)
    said = answer(board, saved(tmp_path / "far.npz", np.arange(boards.N), far), capsys)
    assert said["merged"] == 0
    assert said["counts"]["holds"] > 10
    assert evaluations(board) == count


# What does not hold ------------------------------------------------------------------------------------------------


def test_the_answer_says_what_is_wrong_with_each_example(board, tmp_path, capsys):
    x, _ = get_dataset("digits").load(boards.N)
    indices, examples, correct = boards.near_examples()
    good = np.flatnonzero(correct)[:6]
    rows, files = indices[good].copy(), examples[good].copy()
    files[0] = x[good[0]].numpy()  # the clean image
    files[1, 0, 0, 0] = np.float32(1 + 3e-7)
    files[2, 0, 0, 0] = np.nan
    rows[3] = 500
    rows[4] = rows[5]
    said = answer(board, saved(tmp_path / "bad.npz", rows, files), capsys)
    verdicts = {v["position"]: (v["verdict"], v["detail"]) for v in said["verdicts"]}
    label = int(get_dataset("digits").load(boards.N)[1][good[0]])
    assert verdicts[0] == ("label not changed", f"the model still says {label}")
    assert verdicts[1][0] == "outside the box"
    assert verdicts[1][1].startswith("by 2.4e-07") or verdicts[1][1].startswith("by 3.6e-07")
    assert verdicts[2] == ("not finite", "1 of its values are not finite numbers")
    assert verdicts[3] == ("index out of range", "the dataset has 0 to 499")
    assert verdicts[4][0] == "holds" or verdicts[4][0] == "label not changed"
    assert verdicts[5][0] == "duplicate index"
    assert "row 4" in verdicts[5][1]


def test_examples_that_hold_count_although_others_do_not(board, tmp_path, capsys):
    indices, examples, correct = boards.near_examples()
    good = np.flatnonzero(correct)[:2]
    files = examples[good].copy()
    files[0] -= 1
    assert challenge(board, saved(tmp_path / "half.npz", indices[good], files)) == 0
    assert "1 of 2 examples hold, 1 lower a distance" in capsys.readouterr().out


def test_an_example_within_rounding_of_the_boundary_proves_nothing(board, tmp_path, capsys):
    # Walk in float64 to within one float32 of the boundary: another machine could see the other side.
    x, y = get_dataset("digits").load(boards.N)
    model = boards.load_model("digits-standard")
    exact = boards.on_the_way(model, x, y, x, halvings=60).numpy()
    said = answer(board, saved(tmp_path / "edge.npz", np.arange(boards.N), exact), capsys, "--dry-run")
    assert said["counts"].get("label changed only within floating-point slack", 0) > 5


def test_a_misclassified_image_needs_no_example(board, tmp_path, capsys):
    indices, examples, correct = boards.near_examples(n=60)
    wrong = np.flatnonzero(~correct)
    assert len(wrong)
    said = answer(board, saved(tmp_path / "w.npz", indices[wrong], examples[wrong]), capsys)
    assert {v["verdict"] for v in said["verdicts"]} == {"already misclassified"}


@pytest.mark.parametrize("broken", ["clean", "outside", "indices"])
def test_a_wrong_file_changes_nothing_and_exits_4(board, tmp_path, capsys, broken):
    indices, examples, _ = boards.near_examples()
    x, _ = get_dataset("digits").load(boards.N)
    bad = {
        "clean": (indices, x.numpy()),
        "outside": (indices, examples + 1),
        "indices": (indices + 10_000, examples),
    }[broken]
    before, count, files = boards.all_distances(board), evaluations(board), sorted(board.artifacts.rglob("*"))
    assert challenge(board, saved(tmp_path / "bad.npz", *bad)) == 4
    assert "Nothing was changed" in capsys.readouterr().out
    assert (boards.all_distances(board), evaluations(board)) == (before, count)
    assert sorted(board.artifacts.rglob("*")) == files


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.zeros(2), np.zeros((2, 1, 8, 8), np.float32)), "indices are whole numbers"),
        ((np.zeros((2, 1), int), np.zeros((2, 1, 8, 8), np.float32)), "indices are whole numbers"),
        ((np.zeros(0, int), np.zeros((0, 1, 8, 8), np.float32)), "at least one"),
        ((np.arange(2), np.zeros((3, 1, 8, 8), np.float32)), "one for each index"),
        ((np.arange(2), np.zeros((2, 1, 8, 8), np.uint8)), "floats in"),
        ((np.arange(2), np.zeros((2, 64), np.float32)), "floats in"),
        ((np.arange(2), np.zeros((2, 3, 8, 8), np.float32)), "of 'digits' each is (1, 8, 8)"),
    ],
)
def test_a_file_of_other_arrays_is_refused(board, tmp_path, capsys, arrays, message):
    assert challenge(board, saved(tmp_path / "odd.npz", *arrays)) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_judged_as_the_float32_they_become(board, tmp_path, capsys, dtype):
    indices, examples, _ = boards.near_examples()
    said = answer(board, saved(tmp_path / "f.npz", indices, examples.astype(dtype)), capsys, "--dry-run")
    assert said["counts"]["holds"] > 10


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_any_whole_numbers_are_indices(board, tmp_path, capsys, dtype):
    indices, examples, _ = boards.near_examples()
    said = answer(board, saved(tmp_path / "i.npz", indices.astype(dtype), examples), capsys, "--dry-run")
    assert said["counts"]["holds"] > 10


@pytest.mark.parametrize(("option", "text"), [("--author", "Eve\x1b[2J"), ("--paper", "x" * 301)])
def test_names_with_control_characters_or_without_end_are_refused(board, tmp_path, capsys, option, text):
    indices, examples, _ = boards.near_examples()
    assert challenge(board, saved(tmp_path / "f.npz", indices, examples), option, text) == 1
    assert "printable" in capsys.readouterr().err


def test_wrong_names_are_usage_errors_or_said(board, tmp_path, capsys):
    indices, examples, _ = boards.near_examples()
    path = saved(tmp_path / "f.npz", indices, examples)
    assert challenge(board, path, "--dataset", "mnist") == 1
    assert "is for the dataset 'digits'" in capsys.readouterr().err
    assert challenge(board, path, "--norm", "l3") == 2
    assert challenge(board, tmp_path / "none.npz") == 1
    assert "There is no file" in capsys.readouterr().err
    assert run(["challenge", "digits-standart", str(path), "-w", str(board.root)]) == 1
    assert "Did you mean 'digits-standard'" in capsys.readouterr().err


def test_a_challenge_on_postgresql_too(workspace, tmp_path):
    boards.build(workspace)
    before = boards.board_ledger(workspace).distances
    indices, examples, _ = boards.near_examples()
    assert challenge(workspace, saved(tmp_path / "found.npz", indices, examples), "--author", "Eve") == 0
    assert (boards.board_ledger(workspace).distances < before).sum() > 10


def test_a_full_disk_is_said_and_nothing_is_changed(board, tmp_path, capsys, monkeypatch):
    indices, examples, _ = boards.near_examples()
    before, count = boards.all_distances(board), evaluations(board)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(evidence.os, "fsync", full)
    assert challenge(board, saved(tmp_path / "found.npz", indices, examples)) == 1
    assert "curveboard gc" in capsys.readouterr().err
    assert (boards.all_distances(board), evaluations(board)) == (before, count)
