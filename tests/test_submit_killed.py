"""A submission that is killed leaves nothing, one that takes too long or too much is stopped, each is checked once."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lives
import numpy as np
import pytest
import torch
from sqlalchemy import select

from benchmark.apart import Limits
from benchmark.cli import run
from benchmark.conformance import Check, Report
from benchmark.data import get_dataset
from benchmark.jobs.checking import Checked, check_apart
from benchmark.jobs.settling import settle
from benchmark.jobs.submission import accept
from benchmark.workspace import Workspace
from db.schema import Evaluation, Model, State
from db.session import Database
from models_zoo.cards import read_card
from models_zoo.renaming import STAGING, staging

ROUNDS = 3 * int(os.environ.get("CURVEBOARD_FUZZ", "1"))
SOUND = Checked(Report((Check("parameters", "pass", 650.0, "parameters", "650 parameters."),)), 1.0)


@pytest.fixture
def board(tmp_path) -> Workspace:
    assert run(["init", str(tmp_path / "board")]) == 0
    return Workspace.load(tmp_path / "board")


def rows(workspace: Workspace) -> tuple[list[str], list[State]]:
    """The slugs in the database, and the states of all evaluations."""
    with Database(workspace.database_url).read() as session:
        return list(session.scalars(select(Model.slug))), list(session.scalars(select(Evaluation.state)))


def consistent(workspace: Workspace) -> bool:
    """Whether folders and database agree, nothing is half there, and nothing runs that nobody owns."""
    slugs, states = rows(workspace)
    folders = [path.name for path in workspace.models.iterdir()]
    return sorted(slugs) == sorted(folders) and set(states) <= {State.DONE}


def test_killed_at_any_moment_it_leaves_nothing(board, tmp_path):
    rng, program = random.Random(0), "from benchmark.cli import main; main()"
    whole = None
    for number in range(ROUNDS + 1):
        folder = lives.make(tmp_path, f"net-{number}", number)
        command = [sys.executable, "-P", "-c", program, "submit", str(folder), "-w", str(board.root)]
        begin = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if whole is None:  # the first is let finish, so that it is known how long one takes
            said, _ = process.communicate(timeout=120)
            assert process.returncode == 0, said.decode()
            whole = time.monotonic() - begin
            assert consistent(board)
            continue
        time.sleep(rng.uniform(0.3, 1.0) * whole)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + 60
        while not consistent(board) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert consistent(board), f"round {number}: {rows(board)}, {sorted(board.models.iterdir())}"
    assert run(["publish", "-w", str(board.root)]) == 0


@pytest.mark.parametrize("replaced", [False, True])
def test_one_killed_after_its_commit_is_finished_by_the_next_command(board, tmp_path, replaced):
    if replaced:
        assert lives.submit(board, lives.make(tmp_path, "net", 1)) == 0
    with staging(board.models) as folder:
        shutil.copytree(lives.make(tmp_path / "new", "net", 2), folder / "model")
        entry = read_card(folder / "model" / "model.toml")
        accept(Database(board.database_url), board.models, entry, SOUND, device="cpu")
        (board.models / "net").rename(folder / "model")  # as if it had not been moved yet
        if replaced:
            (folder / "replaced").rename(board.models / "net")
        left = board.models / f"{STAGING}left"
        shutil.copytree(folder, left)
    settle(Database(board.database_url), board.models)
    assert [path.name for path in board.models.iterdir()] == ["net"]
    assert read_card(board.models / "net" / "model.toml").digest == entry.digest
    assert rows(board)[0].count("net") == 1 + replaced


def test_what_a_killed_one_left_before_its_commit_goes_and_a_living_ones_stays(board, tmp_path):
    left = board.models / f"{STAGING}left"
    shutil.copytree(lives.make(tmp_path, "net", 1), left / "model")
    with staging(board.models) as living:
        settle(Database(board.database_url), board.models)
        assert [path.name for path in board.models.iterdir()] == [living.name]
    assert list(board.models.iterdir()) == []


def test_the_report_is_made_once_and_stored_as_it_was_made(board, tmp_path, monkeypatch, capsys):
    calls: list[str] = []

    def counted(entry, *arguments, **named):
        calls.append(entry.slug)
        return check_apart(entry, *arguments, **named)

    monkeypatch.setattr("benchmark.jobs.checking.check_apart", counted)
    monkeypatch.setattr("benchmark.conformance.check_conformance", lambda *_, **__: pytest.fail("checked here as well"))
    assert lives.submit(board, lives.make(tmp_path, "net", 1)) == 0
    assert calls == ["net"]
    assert "Accepted" in capsys.readouterr().out
    with Database(board.database_url).read() as session:
        (evaluation,) = session.scalars(select(Evaluation))
        values = {score.name: score.value for score in evaluation.scores}
        assert (evaluation.state, evaluation.owner, evaluation.samples) == (State.DONE, None, 500)
        assert values["parameters"] == 650
        assert evaluation.provenance["packages"]["torch"]


SLOW = """
import time
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        time.sleep(30)
        return self.linear(x.flatten(1))

def make(folder):
    return Slow()
"""


@pytest.fixture
def images():
    x, y = get_dataset("digits").load(500)
    return x.numpy(), y.numpy()


def test_one_that_takes_too_long_is_refused_and_its_process_ends(board, tmp_path, capsys):
    made = lives.make(tmp_path, "slow", 1)
    (made / "model.py").write_text(SLOW)
    about = 'slug = "slow"\ntitle = "Slow"\ndataset = "digits"\n'
    (made / "model.toml").write_text(f'{about}[model]\nform = "code"\ncode = "model.py"\nfactory = "make"\n')
    begin = time.monotonic()
    assert lives.submit(board, made, "--trust-code", "--time-limit", "4") == 4
    assert time.monotonic() - begin < 25
    assert "more than 4 s" in capsys.readouterr().out
    assert list(board.models.iterdir()) == []


def _takes_with_torch(*_: object) -> list[dict[str, object]]:
    return [dataclasses.asdict(Check("sum", "pass", float(torch.ones(2 << 28).sum()), "", ""))]


def _takes_with_numpy(*_: object) -> list[dict[str, object]]:
    return [dataclasses.asdict(Check("sum", "pass", float(np.ones(2 << 28, np.float32).sum()), "", ""))]


@pytest.mark.parametrize("work", [_takes_with_torch, _takes_with_numpy])
def test_one_that_takes_too_much_memory_is_refused(tmp_path, images, monkeypatch, work):
    """2 GiB, far above one limit and far below the other: how much a new process has to spare differs a lot."""
    entry = read_card(lives.make(tmp_path, "net", 1) / "model.toml")
    monkeypatch.setattr("benchmark.jobs.checking._check", work)
    report = check_apart(entry, *images, classes=10, limits=Limits(memory=1 << 30)).report
    assert (report.verdict, [check.name for check in report.checks]) == ("refuse", ["memory"])
    assert "more than 1024 MiB" in report.checks[0].message
    assert check_apart(entry, *images, classes=10, limits=Limits(memory=4 << 30)).report.verdict == "pass"


def test_one_whose_process_dies_is_refused(tmp_path, images, monkeypatch):
    entry = read_card(lives.make(tmp_path, "net", 1) / "model.toml")
    monkeypatch.setattr("benchmark.jobs.checking._check", _dies)
    report = check_apart(entry, *images, classes=10).report
    assert (report.verdict, report.checks[0].name) == ("refuse", "process")


def _dies(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_limits_hold_for_what_the_command_line_sends(monkeypatch, tmp_path, board):
    seen: list[Limits] = []

    def noted(*_arguments: object, limits: Limits, **_named: object) -> Checked:
        seen.append(limits)
        return SOUND

    monkeypatch.setattr("benchmark.jobs.checking.check_apart", noted)
    assert lives.submit(board, lives.make(tmp_path, "net", 1), "--time-limit", "7") == 0
    assert (seen[0].seconds, seen[0].memory) == (7, 16 << 30)
    assert Path(board.models / "net").is_dir()
