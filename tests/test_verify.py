"""verify, gc and replay: stored evidence against weights, whatever somebody did to the database or the files."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import boards
import numpy as np
import pytest
import torch
from sqlalchemy import func, select

from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.evidence.check import Report, Subject, check, choose
from benchmark.evidence.gc import collect
from benchmark.evidence.proofs import proofs_of
from benchmark.evidence.store import EvidenceStore
from benchmark.verification import SLACK
from benchmark.workspace import Workspace
from db.schema import Array, Chunk, Dataset, Evaluation, Evidence, Model, State
from db.session import Database
from models_zoo import load_model
from models_zoo.renaming import STAGING


def verify(workspace: Workspace, *options: str) -> int:
    return run(["verify", "-w", str(workspace.root), *options])


def report(workspace: Workspace, capsys, *options: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = verify(workspace, "--json", *options)
    return code, json.loads(capsys.readouterr().out)


def change_distance(workspace: Workspace, sample: int, change: Callable[[float], float], norm: str = "l2") -> None:
    """Tamper with the ledger of the first model: every stored distance of a sample in a norm."""
    with Database(workspace.database_url).write() as session:
        query = (
            select(Array, Chunk.start)
            .join(Chunk)
            .join(Evaluation)
            .join(Model)
            .where(Model.slug == boards.MODELS[0], Array.name == f"distance_{norm}")
        )
        for array, start in session.execute(query).all():
            if start <= sample < start + len(array.data):
                data = array.data.copy()
                data[sample - start] = change(data[sample - start])
                array.data = data


def evidence_files(workspace: Workspace) -> list[str]:
    return list(EvidenceStore(workspace.artifacts).digests())


# verify ------------------------------------------------------------------------------------------------------------


def test_a_sound_board_is_verified_with_forward_passes_only(board, capsys, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", lambda *_: pytest.fail("a backward pass"))
    code, said = report(board, capsys)
    assert (code, said["problems"]) == (0, [])
    assert (said["models"], said["samples"]) == (2, 2 * boards.N)
    assert said["examples"] >= 2 * 18  # the two norms' evaluations found the same examples: each file is checked once
    assert said["files"] == len(evidence_files(board))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d / 2, "its example is at"),
        (lambda d: d * (1 - 1e-6), "its example is at"),
        (lambda d: d * 2, "nearer than the ledger's"),
        (lambda d: np.inf, "nearer than the ledger's inf"),
        (lambda d: 0.0, "the ledger says 0, but the clean image is classified correctly"),
    ],
)
def test_a_distance_that_somebody_changed_is_found(board, capsys, change, words):
    change_distance(board, 5, change)
    code, said = report(board, capsys)
    assert code == 4
    assert {(p["model"], p["sample"], p["norm"]) for p in said["problems"]} == {(boards.MODELS[0], 5, "l2")}
    assert any(words in p["text"] for p in said["problems"])


def test_a_misclassified_image_must_have_distance_0(board, capsys):
    _, _, correct = boards.near_examples()
    (wrong, *_) = np.flatnonzero(~correct).tolist()
    change_distance(board, wrong, lambda d: 0.5)
    code, said = report(board, capsys)
    assert code == 4
    assert "the clean image is misclassified" in said["problems"][0]["text"]


def test_damaged_and_missing_evidence_is_listed_and_the_rest_still_checked(board, capsys):
    store = EvidenceStore(board.artifacts)
    first, second, *_ = evidence_files(board)
    Path(store.where(first)).write_bytes(b"damage")
    Path(store.where(second)).unlink()
    code, said = report(board, capsys)
    assert code == 4
    texts = " ".join(p["text"] for p in said["problems"])
    assert "is damaged" in texts
    assert "is missing" in texts
    assert "no example that holds" in texts
    assert said["examples"] > 10


def test_an_example_that_does_not_change_the_label_is_found(board, capsys):
    # Somebody replaces a file by one of the clean images, and the reference to it.
    store = EvidenceStore(board.artifacts)
    x, _ = get_dataset("digits").load(boards.N)
    with Database(board.database_url).write() as session:
        chunk = session.scalars(select(Chunk).where(Chunk.evidence_digest.is_not(None))).first()
        indices, _ = store.get(chunk.evidence_digest)
        stored = store.put(indices, x.numpy()[indices])
        when = session.scalars(select(Evidence.created_at)).first()
        session.add(Evidence(digest=stored.digest, bytes=stored.bytes, samples=stored.samples, created_at=when))
        session.flush()
        chunk.evidence_digest = stored.digest
    code, said = report(board, capsys)
    assert code == 4
    assert any("does not hold: the label does not change" in p["text"] for p in said["problems"])


def test_one_model_or_a_few_samples_can_be_asked_for(board, capsys):
    change_distance(board, 5, lambda d: d / 2)
    assert report(board, capsys, boards.MODELS[1])[0] == 0
    _, said = report(board, capsys, boards.MODELS[0], "--sample", "4", "--seed", "1")
    assert (said["models"], said["samples"]) == (1, 4)
    assert verify(board, "digits-standart") == 1
    assert "Did you mean 'digits-standard'" in capsys.readouterr().err


def test_random_samples_are_those_that_somebody_looked_at():
    covered = np.array([False, True, True, False, True, True])
    for seed in range(10):
        chosen = choose(covered, 2, seed)
        assert chosen.sum() == 2
        assert (chosen <= covered).all()
    assert np.array_equal(choose(covered, 9, 0), covered)
    assert np.array_equal(choose(covered, None, 0), covered)


def test_other_weights_of_the_same_name_are_said(board, capsys):
    with Database(board.database_url).write() as session:
        session.scalars(select(Model).where(Model.slug == boards.MODELS[0])).one().digest = "0" * 64
        session.scalars(select(Dataset)).one().title = "renamed"  # a title is no part of the identity
    code, said = report(board, capsys)
    assert code == 4
    assert [p["model"] for p in said["problems"]] == [boards.MODELS[0]]
    assert "the model here has digest" in said["problems"][0]["text"]


class Nudged(torch.nn.Module):
    """The model as another machine computes it: its logits differ in the last bits."""

    def __init__(self, model, size):
        super().__init__()
        self.model, self.size = model, size
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        logits = self.model(x)
        seed = int(x.double().sum() * 1e6) % 2**31  # the same image, the same rounding
        noise = torch.rand(logits.shape, generator=self.generator.manual_seed(seed)) * 2 - 1
        return logits + self.size * noise * logits.abs().amax(dim=1, keepdim=True)


@pytest.mark.parametrize("size", [1e-6, SLACK / 2.5])
def test_a_machine_that_rounds_otherwise_agrees(board, size):
    # What joined the ledger leads by more than the slack, so no rounding below it can refute it.
    outdo(board)
    model = Nudged(load_model(boards.MODELS[0]), size)
    found = checked(board, model)
    assert (found.problems, found.notes) == ([], [])
    assert found.examples > 30
    x, _ = get_dataset("digits").load(1)
    with torch.no_grad():
        assert not torch.equal(model(x), model.model(x))


class Tied(torch.nn.Module):
    def forward(self, x):
        return torch.zeros(len(x), 10)


class Random(torch.nn.Module):
    """A model whose logits are mostly noise."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x) + 50 * torch.randn(len(x), 10)


def checked(board, model) -> Report:
    x, y = get_dataset("digits").load(boards.N)
    with Database(board.database_url).read() as session:
        proofs = proofs_of(session, model_id=1, dataset_id=1)
    found = Report()
    chosen = np.arange(500) < boards.N
    check(Subject("m", model, x, y), proofs, EvidenceStore(board.artifacts), found, chosen=chosen)
    return found


def test_a_tie_of_clean_logits_may_fall_either_way(board):
    # Of equal logits argmax names the first: most images count as misclassified here, the ledger says otherwise.
    said = [str(problem) for problem in checked(board, Tied()).problems]
    assert said
    assert not any("clean image" in text for text in said)


def test_doubts_about_a_random_output_are_notes_and_distances_are_still_checked(board):
    found = checked(board, Random(load_model(boards.MODELS[0])))
    assert found.problems == []
    assert "its output is random" in found.notes[0]
    change_distance(board, 5, lambda d: d * 0.9)
    found = checked(board, Random(load_model(boards.MODELS[0])))
    assert {(problem.sample, problem.norm) for problem in found.problems} == {(5, "l2")}


# gc ----------------------------------------------------------------------------------------------------------------


def older(workspace: Workspace) -> None:
    """Make every file an hour old."""
    for path in workspace.artifacts.rglob("*.*"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3600))


def outdo(workspace: Workspace) -> None:
    """A nearer attack on both models: the evidence of the first is not needed any more."""
    boards.protocol(workspace, "far", "near")
    assert boards.evaluate(workspace) == 0


def size(workspace: Workspace) -> int:
    return sum(path.stat().st_size for path in workspace.artifacts.rglob("*") if path.is_file())


def test_evidence_that_no_ledger_needs_is_pruned_and_the_board_still_verifies(board, capsys):
    outdo(board)
    older(board)
    ledgers, before = boards.all_distances(board), size(board)
    proofs = examples_needed(board)
    capsys.readouterr()
    assert run(["gc", "-w", str(board.root), "--dry-run", "--json"]) == 0
    promised = json.loads(capsys.readouterr().out)
    assert size(board) == before
    assert run(["gc", "-w", str(board.root), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert {**promised, "dry_run": False} == done
    assert done["bytes"] == before - size(board) > 0
    assert boards.all_distances(board) == ledgers
    code, said = report(board, capsys)
    assert (code, said["examples"]) == (0, proofs)


def examples_needed(workspace: Workspace) -> int:
    with Database(workspace.database_url).read() as session:
        return sum(
            int(samples.sum())
            for model_id in session.scalars(select(Model.id))
            for samples in proofs_of(session, model_id=model_id, dataset_id=1).samples.values()
        )


def test_collecting_again_finds_nothing(board):
    outdo(board)
    older(board)
    database, store = Database(board.database_url), EvidenceStore(board.artifacts)
    assert collect(database, store).files > 0
    older(board)
    again = collect(database, store)
    assert (again.files, again.examples, again.bytes) == (0, 0, 0)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Evidence)) == len(list(store.digests()))


def test_the_evidence_of_an_unfinished_evaluation_is_kept(board):
    outdo(board)
    with Database(board.database_url).write() as session:
        row = session.scalars(select(Evaluation).where(Evaluation.measure == "line")).first()
        row.state = State.RUNNING
        digests = {chunk.evidence_digest for chunk in row.chunks}
    older(board)
    store = EvidenceStore(board.artifacts)
    collect(Database(board.database_url), store)
    assert digests <= set(store.digests())


def test_strays_go_unless_they_are_young(board):
    store = EvidenceStore(board.artifacts)
    kept = set(store.digests())
    stray = store.put(np.zeros(1, np.int64), np.zeros((1, 1, 8, 8), np.float32))
    half = Path(store.where(stray.digest)).with_name(".writing-abc")
    half.write_bytes(b"half")
    young = collect(Database(board.database_url), store)
    assert (young.files, young.spared) == (0, 2)
    older(board)
    assert collect(Database(board.database_url), store).files == 2
    assert set(store.digests()) == kept
    assert not half.exists()


def test_what_a_killed_submission_left_goes_after_a_day(board, capsys):
    left = board.models / f"{STAGING}abc" / "model"
    left.mkdir(parents=True)
    (left / "weights.safetensors").write_bytes(b"12345")
    assert run(["gc", "--workspace", str(board.root)]) == 0
    assert left.is_dir()
    yesterday = time.time() - 90_000
    os.utime(left.parent, (yesterday, yesterday))
    assert run(["gc", "--dry-run", "--json", "--workspace", str(board.root)]) == 0
    assert left.is_dir()
    capsys.readouterr()
    assert run(["gc", "--json", "--workspace", str(board.root)]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 1
    assert not left.parent.exists()


def test_a_damaged_file_is_left_for_verify_to_report(board):
    outdo(board)
    store = EvidenceStore(board.artifacts)
    damaged = evidence_files(board)[0]
    Path(store.where(damaged)).write_bytes(b"damage")
    older(board)
    assert "is damaged" in " ".join(collect(Database(board.database_url), store).notes)
    assert Path(store.where(damaged)).read_bytes() == b"damage"


def test_collecting_on_postgresql_too(workspace):
    boards.build(workspace)
    outdo(workspace)
    older(workspace)
    ledgers = boards.all_distances(workspace)
    assert collect(Database(workspace.database_url), EvidenceStore(workspace.artifacts)).files > 0
    assert boards.all_distances(workspace) == ledgers
    assert verify(workspace) == 0


# replay ------------------------------------------------------------------------------------------------------------


def strengthen(workspace: Workspace) -> None:
    """Give the second model nearer examples than the first has."""
    indices, examples, _ = boards.near_examples(boards.MODELS[1])
    path = workspace.root / "near.npz"
    np.savez(path, indices=indices, examples=examples)
    assert run(["challenge", boards.MODELS[1], str(path), "-w", str(workspace.root)]) == 0


def test_examples_of_one_model_lower_another_and_the_source_is_named(board, capsys):
    strengthen(board)
    before = {norm: boards.board_ledger(board, norm=norm).distances for norm in boards.NORMS}
    capsys.readouterr()
    assert run(["replay", boards.MODELS[0], "-w", str(board.root), "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)
    for norm in boards.NORMS:
        after = boards.board_ledger(board, norm=norm)
        lower = after.distances < before[norm]
        assert lower.sum() == said["wins"].get(norm, {}).get(boards.MODELS[1], 0)
        assert (after.distances <= before[norm]).all()
    assert sum(sum(wins.values()) for wins in said["wins"].values()) > 0
    assert run(["history", boards.MODELS[0], "-w", str(board.root)]) == 0
    assert f"from {boards.MODELS[1]})" in capsys.readouterr().out
    with Database(board.database_url).read() as session:
        recorded = session.scalars(select(Evaluation.provenance).where(Evaluation.measure == "transfer")).all()
    origins = [slug for provenance in recorded for slug in provenance["origins"].values()]
    assert len(origins) == sum(sum(wins.values()) for wins in said["wins"].values())
    assert set(origins) == {boards.MODELS[1]}
    assert verify(board) == 0


def test_a_replay_finds_what_trying_every_example_finds(board):
    strengthen(board)
    store = EvidenceStore(board.artifacts)
    model = load_model(boards.MODELS[0])
    x, y = get_dataset("digits").load(boards.N)
    best = boards.board_ledger(board, norm="l1").distances.copy()
    with Database(board.database_url).read() as session:
        query = select(Chunk.evidence_digest).join(Evaluation).join(Model).where(Model.slug == boards.MODELS[1])
        digests = {digest for digest in session.scalars(query) if digest}
    for digest in sorted(digests):
        indices, examples = store.get(digest)
        for index, example in zip(indices, torch.from_numpy(examples), strict=True):
            with torch.no_grad():
                logits = model(example[None])[0]
            if logits.argmax() != y[index] and logits.max() - logits[y[index]] > SLACK * logits.abs().max():
                best[index] = min(best[index], float((example.double() - x[index].double()).abs().sum()))
    assert run(["replay", boards.MODELS[0], "-w", str(board.root)]) == 0
    assert np.allclose(boards.board_ledger(board, norm="l1").distances, best, rtol=1e-12)


def test_what_was_tried_is_not_tried_again(board, capsys):
    strengthen(board)
    assert run(["replay", "-w", str(board.root)]) == 0
    ledgers = boards.all_distances(board)
    capsys.readouterr()
    run(["replay", "-w", str(board.root)])
    run(["replay", "-w", str(board.root), "--json"])
    said = json.loads(capsys.readouterr().out.partition("[")[2].join(["[", ""]))
    assert {(row["files"], row["passed"]) for row in said} == {(0, 0)}
    assert boards.all_distances(board) == ledgers


def test_a_dry_replay_changes_nothing(board, capsys):
    strengthen(board)
    ledgers, files = boards.all_distances(board), evidence_files(board)
    assert run(["replay", "-w", str(board.root), "--dry-run"]) == 0
    assert "Nothing was changed" in capsys.readouterr().out
    assert (boards.all_distances(board), evidence_files(board)) == (ledgers, files)
