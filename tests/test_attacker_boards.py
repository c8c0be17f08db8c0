"""Targeted and strength curves on a board: verified under their own threat, ranked by it, and shown."""

import json

import numpy as np
import pytest
import torch
from boards import board_ledger
from sqlalchemy import select

from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.evidence.store import EvidenceStore
from benchmark.measures.strength import iterative_attacks
from benchmark.verification import verify
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Chunk, Evaluation
from db.session import Database
from models_zoo import load_model

MODEL = "digits-standard"
THREAT = "linf-targeted-next"
N = 6
PROTOCOL = """
name = "goals"
version = 1
title = "Goals"
threats = ["linf-targeted-next"]

[[measures]]
measure = "clean"

[[measures]]
measure = "targeted"
norm = "linf"
choice = "next"
effort = "quick"

[[measures]]
measure = "strength"
norm = "linf"
eps = 0.1
attacks = "*"
iterations = 30
queries = 40
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace.create(tmp_path_factory.mktemp("goals"))
    upgrade(Database(workspace.database_url))
    (workspace.protocols / "goals.toml").write_text(PROTOCOL)
    models = ["-m", MODEL, "-m", "digits-adv-linf"]
    command = ["evaluate", "-w", str(workspace.root), "--protocol", "goals", "--limit", str(N), *models]
    assert run(command) == 0
    return workspace


def test_the_ledger_of_the_threat_is_what_its_evidence_proves(workspace):
    targeted, plain = (board_ledger(workspace, MODEL, threat, N).distances for threat in (THREAT, "linf"))
    x, y = get_dataset("digits").load(N)
    targets = (y + 1) % 10
    with Database(workspace.database_url).read() as session:
        rows = session.scalars(select(Evaluation).where(Evaluation.measure == "targeted"))
        row = next(row for row in rows if row.model.slug == MODEL)
        files = [chunk.evidence_digest for chunk in session.scalars(select(Chunk).where(Chunk.evaluation_id == row.id))]
    found = x.clone()
    for digest in filter(None, files):
        indices, examples = EvidenceStore(workspace.artifacts).get(digest)
        found[indices] = torch.from_numpy(examples)
    proven = verify(load_model(MODEL), x, y, found, targets=targets).distances["linf"].numpy()
    np.testing.assert_array_equal(targeted, proven)
    assert np.isfinite(targeted).mean() > 0.5
    assert (targeted >= plain).all(), "an example of the goal is one of any other class, too"


def test_the_page_of_the_threat_and_the_traces_are_published(workspace):
    assert run(["publish", "-w", str(workspace.root)]) == 0
    (page,) = workspace.root.rglob("boards/*goals*/index.html")
    assert "targeted next" in page.read_text()
    (own,) = workspace.root.rglob(f"models/{MODEL}/index.html")
    text = own.read_text()
    assert "Robust accuracy against iterations" in text
    assert "Robust accuracy against queries" in text
    assert "Strength of attacks by queries, ℓ∞ ≤ 0.1" in text


def test_the_board_ranks_by_strength_at_each_amount_of_work_and_draws_its_curves(workspace):
    (page,) = workspace.root.rglob("boards/*goals*/grid-strength-by-queries-linf.html")
    text = page.read_text()
    assert "Queries 20" in text
    assert "hopskipjump" in text
    assert "worst case" in text
    assert 'id="along"' in text
    assert text.count('class="line s') == 2
    (table,) = workspace.root.rglob("boards/*goals*/grid-strength-by-queries-linf.json")
    given = json.loads(table.read_text())
    assert given["axes"][1]["labels"] == ["0", "1", "2", "5", "10", "20", "40"]
    assert set(given["axes"][0]["labels"]) == {*iterative_attacks("linf"), "worst case"} - {
        "pgd",
        "engine",
        "fab-t",
        "hein",
    }
    first, last = ({m["model"]: m["mean"]["value"] for m in given["sections"][k]["models"]} for k in (1, -1))
    assert all(last[slug] <= first[slug] for slug in first)
