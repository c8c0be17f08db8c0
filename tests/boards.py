"""A small real board for tests: two models on the digits, attacked by a measure that is fast and exactly repeatable."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sqlalchemy import select
from torch import Tensor, nn

from benchmark import plugins
from benchmark.board.ledger import Ledger, ledger
from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.measures import Measure, Needs, Result
from benchmark.results import Output, Score
from benchmark.workspace import Workspace
from db.migrate import upgrade
from db.schema import Dataset, Model
from db.session import Database
from models_zoo import load_model

MODELS = ("digits-standard", "digits-16-16")
N = 20
NORMS = ("linf", "l2", "l1")

PROTOCOL = """
name = "lines"
version = {version}
title = "A protocol for tests"

[[measures]]
measure = "clean"

[[measures]]
measure = "line"
norm = ["linf", "l2"]
attack = {attacks}
"""


def on_the_way(model: nn.Module, x: Tensor, y: Tensor, pool: Tensor, *, halvings: int) -> Tensor:
    """The image on the line to the nearest pool image of another class, beyond the boundary that bisection finds."""
    with torch.no_grad():
        classes = model(pool).argmax(dim=1)
        apart = torch.cdist(x.flatten(1).double(), pool.flatten(1).double())
        apart[classes[None, :] == y[:, None]] = torch.inf
        target = pool[apart.argmin(dim=1)]
        low, high = torch.zeros(len(x)), torch.ones(len(x))
        for _ in range(halvings):
            middle = (low + high) / 2
            moved = x + middle.view(-1, 1, 1, 1) * (target - x)
            crossed = model(moved.clamp(0, 1)).argmax(dim=1) != y
            high, low = torch.where(crossed, middle, high), torch.where(crossed, low, middle)
        return (x + high.view(-1, 1, 1, 1) * (target - x)).clamp(0, 1)


class Line(Measure["Line.Settings"]):
    """Walks to the nearest image of another class; the attack ``near`` looks more closely than ``far``."""

    name = "line"
    version = 1
    title = "A measure for tests"
    chunk = 7

    @dataclass(frozen=True)
    class Settings:
        norm: str = "l2"
        attack: str = "far"

    Parameters = Settings

    def needs(self, parameters):
        return Needs(pool=True)

    def outputs(self, parameters, dataset):
        return [
            Output("found", "scalar", "Found", unit="share"),
            Output(
                "distance",
                "upper",
                "Distance",
                threat=parameters.norm,
                array=f"distance_{parameters.norm}",
            ),
        ]

    def run(self, task, parameters):
        halvings = {"far": 1, "near": 12}[parameters.attack]
        found = on_the_way(task.model, task.x, task.y, task.pool, halvings=halvings)
        return Result(arrays={"first": np.full(len(task.x), task.first)}, adversarials=found)

    def summarise(self, inputs, parameters):
        arrays = inputs.arrays
        return [Score("found", float(np.isfinite(arrays[f"distance_{parameters.norm}"]).mean()), unit="share")]


@contextmanager
def line_registered() -> Iterator[None]:
    """The measure is there for as long as the block runs."""
    real = plugins.discover("benchmark.measures", "MEASURE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmark.measures.discover", lambda *_: {**real, "line": Line()})
        yield


def protocol(workspace: Workspace, *attacks: str) -> None:
    """Write the protocol file, a version for each number of attacks."""
    text = PROTOCOL.format(version=len(attacks), attacks=list(attacks)).replace("'", '"')
    (workspace.protocols / "lines.toml").write_text(text)


def evaluate(workspace: Workspace, models: Sequence[str] = MODELS, *, n: int = N) -> int:
    """``curveboard evaluate`` with the protocol; returns the exit code."""
    named = [option for slug in models for option in ("-m", slug)]
    with line_registered():
        return run(["evaluate", "-w", str(workspace.root), "--protocol", "lines", "--limit", str(n), *named])


def build(workspace: Workspace) -> Workspace:
    """A board of two models with the attack ``far``."""
    protocol(workspace, "far")
    assert evaluate(workspace) == 0
    return workspace


def new_board(folder: Path) -> Workspace:
    """The same in a new workspace on SQLite."""
    workspace = Workspace.create(folder)
    upgrade(Database(workspace.database_url))
    return build(workspace)


def copied(workspace: Workspace, folder: Path) -> Workspace:
    """A copy to be changed."""
    shutil.copytree(workspace.root, folder)
    return Workspace.load(folder)


def contents(workspace: Workspace) -> list[str]:
    """Everything in a SQLite board's database, as statements."""
    with closing(sqlite3.connect(workspace.root / "curveboard.db")) as connection:
        return list(connection.iterdump())


def board_ledger(workspace: Workspace, slug: str = MODELS[0], norm: str = "l2", n: int = N) -> Ledger:
    """A ledger of the board."""
    with Database(workspace.database_url).read() as session:
        model_id = session.scalars(select(Model.id).where(Model.slug == slug)).one()
        dataset_id = session.scalars(select(Dataset.id).where(Dataset.name == "digits")).one()
        return ledger(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=n)


def all_distances(workspace: Workspace) -> dict[tuple[str, str], bytes]:
    """Every ledger of the board, byte for byte."""
    return {
        (slug, norm): board_ledger(workspace, slug, norm, n=500).distances.tobytes()
        for slug in MODELS
        for norm in NORMS
    }


def near_examples(
    slug: str = MODELS[0], n: int = N
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Examples that lower the board's distances, of all samples, and which samples are classified correctly."""
    model = load_model(slug)
    x, y = get_dataset("digits").load(n)
    with torch.no_grad():
        correct = model(x).argmax(dim=1) == y
    found = on_the_way(model, x, y, x, halvings=8)
    return np.arange(n, dtype=np.int64), found.numpy(), correct.numpy()
