"""Targeted and strength curves on a board: verified under their own threat, ranked by it, and shown."""

import numpy as np
import pytest
import torch
from boards import board_ledger
from sqlalchemy import select

from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.evidence.store import EvidenceStore
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
eps = 0.05
iterations = 20
queries = 20
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = Workspace.create(tmp_path_factory.mktemp("goals"))
    upgrade(Database(workspace.database_url))
    (workspace.protocols / "goals.toml").write_text(PROTOCOL)
    command = ["evaluate", "-w", str(workspace.root), "--protocol", "goals", "--limit", str(N), "-m", MODEL]
    assert run(command) == 0
    return workspace


def test_the_ledger_of_the_threat_is_what_its_evidence_proves(workspace):
    targeted, plain = (board_ledger(workspace, MODEL, threat, N).distances for threat in (THREAT, "linf"))
    x, y = get_dataset("digits").load(N)
    targets = (y + 1) % 10
    with Database(workspace.database_url).read() as session:
        row = session.scalars(select(Evaluation).where(Evaluation.measure == "targeted")).one()
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
