"""The corruption protocol on real images of CIFAR-10: added, evaluated, killed, gone on with, published."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import select

from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.data.corruptions import COMMON, frost
from benchmark.data.suites import get_suite
from benchmark.measures import Task, get_measure
from benchmark.plugins import use
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.queries import SUITE, boards, dataset_arrays
from db.schema import Chunk, Evaluation, State
from db.session import Database
from models_zoo.architectures import build
from models_zoo.catalogue import catalogue
from models_zoo.errors import FetchError
from models_zoo.loading import load_entry

pytestmark = pytest.mark.shared

N = 8
CARD = """
slug = "tiny"
title = "A tiny network"
dataset = "cifar-sample"

[model]
form = "weights"
architecture = "mlp"
arguments = { inputs = 3072, hidden = [16], outputs = 10 }

[[weights]]
file = "weights.safetensors"
"""


@pytest.fixture(autouse=True)
def at_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Frost without the network; and which workspace the commands used is forgotten."""
    pictures = tuple(np.random.default_rng(k).random((3, 60, 60)) for k in range(5))
    monkeypatch.setattr(frost, "photographs", lambda shrink: pictures)
    yield
    use(None)


@pytest.fixture
def sample(shared: Path, tmp_path: Path) -> Workspace:
    """A workspace with the sample as a dataset, and a tiny network for it."""
    made = Workspace.create(tmp_path / "board")
    upgrade(Database(made.database_url))
    assert run(["dataset", "add", str(shared / "data" / "cifar10-jpeg-test-2000.npz"), "--name", "cifar-sample",
                "-w", str(made.root)]) == 0  # fmt: skip
    model = tmp_path / "tiny"
    model.mkdir()
    (model / "model.toml").write_text(CARD)
    torch.manual_seed(3)
    network = build("mlp", {"inputs": 3072, "hidden": [16], "outputs": 10})
    save_file(network.state_dict(), model / "weights.safetensors")
    assert run(["submit", str(model), "-w", str(made.root)]) == 0
    return made


def evaluate(workspace: Workspace) -> int:
    return run(["evaluate", "-w", str(workspace.root), "-m", "tiny", "--protocol", "corruptions", "--limit", str(N)])


def chunks(workspace: Workspace) -> dict[int, str]:
    with Database(workspace.database_url).read() as session:
        query = select(Chunk.id, Evaluation.measure).join(Evaluation).where(Evaluation.measure != "conformance")
        return {row.id: row.measure for row in session.execute(query)}


def test_a_killed_evaluation_goes_on_and_gives_what_the_measure_gives(
    sample: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(get_measure("corruptions")), "chunk", 2)
    child = multiprocessing.get_context("fork").Process(target=evaluate, args=(sample,))
    child.start()
    assert child.pid is not None
    until = time.monotonic() + 240
    while list(chunks(sample).values()).count("corruptions") < 2 and child.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    kept = chunks(sample)
    assert 2 <= list(kept.values()).count("corruptions") < N // 2
    assert evaluate(sample) == 0
    after = chunks(sample)
    assert kept.items() <= after.items()  # nothing that was committed was done again
    assert list(after.values()).count("corruptions") == N // 2
    with Database(sample.database_url).read() as session:
        (row,) = next(board for board in boards(session) if board.protocol.name == "corruptions").rows
        found = session.scalars(select(Evaluation).where(Evaluation.measure == "corruptions")).one()
        assert row.missing == ()
        assert {e.state for e in session.scalars(select(Evaluation))} == {State.DONE}
        stored = np.concatenate([a.data for c in found.chunks for a in c.arrays if a.name == "prediction"])
        flags = {flag.code for flag in found.flags}
        names = {score.name: score.value for score in found.scores}
        assert f"{SUITE}cifar-c" in dataset_arrays(session, found.dataset_id)
    use(sample.root)
    dataset = get_dataset("cifar-sample")
    network = load_entry(catalogue([sample.models])["tiny"])
    x, y = dataset.load(N)
    measure = get_measure("corruptions")
    task = Task(model=network, module=network, x=x, y=y, dataset=dataset)
    given = measure.run(task, measure.Parameters(suite="cifar-c")).arrays
    np.testing.assert_array_equal(stored, given["prediction"])
    assert "missing-cells" not in flags
    standard = [i for i, name in enumerate(get_suite("cifar-c").axes[0].labels) if name in COMMON]
    assert names["mean_accuracy"] == pytest.approx((stored == y.numpy()[:, None, None])[:, standard].mean())


def test_its_page_shows_the_matrix_with_its_pictures(sample: Workspace) -> None:
    assert evaluate(sample) == 0
    assert run(["publish", "-w", str(sample.root)]) == 0
    (page,) = (sample.root / "public" / "boards").glob("cifar-sample-*-corruptions/models/tiny/index.html")
    text = page.read_text(encoding="utf-8")
    assert text.count('class="tile"') >= 15 * 5
    first = text[: text.index('<nav class="toc"')]  # its own figures come first, not curves that nobody measured
    assert "<dt>Mean accuracy</dt>" in first
    assert 'id="curves"' not in text
    assert 'aria-label="fog, severity 5"' in text
    (sheet,) = (sample.root / "public" / "suites").glob("cifar-sample-*-cifar-c.png")
    assert sheet.stat().st_size > 10_000


def test_what_could_not_be_had_is_nowhere_shown_as_if_it_had_been(
    sample: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(shrink: float) -> None:
        raise FetchError("no such host")

    monkeypatch.setattr(frost, "photographs", gone)
    assert evaluate(sample) == 0
    assert run(["publish", "-w", str(sample.root)]) == 0
    public = sample.root / "public"
    (page,) = (public / "boards").glob("cifar-sample-*-corruptions/models/tiny/index.html")
    text = page.read_text(encoding="utf-8")
    assert 'aria-label="fog, severity 5"' in text
    assert 'aria-label="frost' not in text
    assert 'title="frost, severity 5: no picture"' in text
    along = text[text.index('<section id="traces">') :].partition("</section>")[0]
    assert "<svg" not in along
    assert "Accuracy by corruption strength</b>: no value" in along
    assert " ranked" not in (public / "boards" / "index.html").read_text(encoding="utf-8").partition('class="cards"')[2]
