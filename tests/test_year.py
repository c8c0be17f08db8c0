"""A maintainer's year: fifty submissions, renewals, withdrawals, renames, three versions of an attack, two
challenges, a lost disk and a restored backup, with the board right after each.

Right is what a bookkeeping says that knows nothing of the program: linear models in numpy, their distances by bisection
in float64, minima, counts. With CURVEBOARD_FUZZ everything is looked at after every step (``make fuzz``).
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boards
import lives
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from sqlalchemy import select

from benchmark import plugins
from benchmark.board.ledger import ledger
from benchmark.cli import run
from benchmark.data import get_dataset
from benchmark.measures import Result
from benchmark.workspace import Workspace
from db.queries import boards as all_boards
from db.queries import changes
from db.schema import Dataset, Model
from db.session import Database

N = 20
THOROUGH = "CURVEBOARD_FUZZ" in os.environ
HALVINGS = {1: 1, 2: 2, 3: 6}
"""How closely each version of the attack looks."""
NORMS = ("linf", "l2", "l1")
RANKED = ("linf", "l2")
PROTOCOL = """
name = "year"
version = 1
title = "A year"
[[measures]]
measure = "clean"
[[measures]]
measure = "walk"
norm = ["linf", "l2"]
attack = "steady"
"""

Distances = dict[str, NDArray[np.float64]]


class Walk(boards.Line):
    """The walk of the other tests, by an attack that gets better with its version."""

    name = "walk"
    current = 1

    @dataclass(frozen=True)
    class Settings:
        norm: str = "l2"
        attack: str = "steady"

    Parameters = Settings

    def attack_version(self, parameters):
        return Walk.current

    def run(self, task, parameters):
        found = boards.on_the_way(task.model, task.x, task.y, task.pool, halvings=HALVINGS[Walk.current])
        return Result(adversarials=found)


# The bookkeeping -----------------------------------------------------------------------------------------------------


def size(delta: NDArray[np.float64], norm: str) -> NDArray[np.float64]:
    rows = np.abs(delta.reshape(len(delta), -1))
    return {"linf": rows.max(1), "l2": np.sqrt((rows**2).sum(1)), "l1": rows.sum(1)}[norm]


class Linear:
    """A linear classifier, and the distances that a walk to the nearest image of another class finds."""

    def __init__(self, folder: Path) -> None:
        weight, bias = (load_file(folder / "w.safetensors")[name] for name in lives.parameter_names())
        self.weight, self.bias = weight.astype(np.float64), bias.astype(np.float64)

    def labels(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        return (x.reshape(len(x), -1).astype(np.float64) @ self.weight.T + self.bias).argmax(1)

    def walk(self, x: NDArray[np.float32], y: NDArray[np.int64], pool: NDArray[np.float32], halvings: int):
        """Examples, shape of ``x``, float32."""
        classes = self.labels(pool)
        apart = np.sqrt(((x.reshape(len(x), 1, -1).astype(float) - pool.reshape(1, len(pool), -1)) ** 2).sum(2))
        apart[classes[None] == y[:, None]] = np.inf
        target = pool[apart.argmin(1)]
        low, high = np.zeros(len(x)), np.ones(len(x))
        for _ in range(halvings):
            middle = (low + high) / 2
            crossed = self.labels(between(x, target, middle)) != y
            high, low = np.where(crossed, middle, high), np.where(crossed, low, middle)
        return between(x, target, high)

    def distances(self, x, y, examples) -> Distances:
        """0 where misclassified; every example changes the label."""
        right = self.labels(x) == y
        assert (self.labels(examples)[right] != y[right]).all()
        delta = examples.astype(np.float64) - x.astype(np.float64)
        return {norm: np.where(right, size(delta, norm), 0.0) for norm in NORMS}


def between(x, target, share):
    part = share.astype(np.float32).reshape(-1, 1, 1, 1)
    return np.clip(x + part * (target - x), 0, 1).astype(np.float32)


@dataclass
class Entry:
    """A model as the bookkeeping knows it: where its files are, and what was found by whom."""

    folder: Path
    results: dict[str, Distances] = field(default_factory=dict)
    renewals: int = 0
    lacks: bool = False

    def ledger(self, norm: str) -> NDArray[np.float64]:
        return np.min([found[norm] for found in self.results.values()] or [np.full(N, np.inf)], axis=0)


@dataclass
class Book:
    """What there is: models by name, withdrawn ones, and the kinds of the changelog's entries so far."""

    models: dict[str, Entry] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    log: list[tuple[str, str]] = field(default_factory=list)

    def ranked(self) -> list[str]:
        return [slug for slug, entry in self.models.items() if slug not in self.withdrawn and not entry.lacks]

    def accuracy(self, slug: str, norm: str, eps: float) -> float:
        return float((self.models[slug].ledger(norm) > eps).mean())

    def rank(self, slug: str, norm: str, eps: float) -> int:
        own = self.accuracy(slug, norm, eps)
        return 1 + sum(self.accuracy(other, norm, eps) > own for other in self.ranked())


class Year:
    """The board, and its bookkeeping beside it; each method is something that a maintainer does."""

    def __init__(self, home: Path) -> None:
        self.home, self.book, self.seeds = home, Book(), iter(range(1, 10_000))
        assert run(["init", str(home / "board")]) == 0
        self.workspace = Workspace.load(home / "board")
        (self.workspace.protocols / "year.toml").write_text(PROTOCOL)
        dataset = get_dataset("digits")
        self.eps = dataset.eps
        self.x, self.y = (values.numpy() for values in dataset.load(N))
        self.pool = dataset.pool(dataset.size).numpy()

    def command(self, *arguments: str) -> int:
        return run([*arguments, "-w", str(self.workspace.root)])

    def evaluate(self, *options: str) -> None:
        assert self.command("evaluate", "--protocol", "year", "--limit", str(N), "-d", "digits", *options) == 0

    def search(self, slug: str) -> None:
        """The bookkeeping of an evaluation by the present version of the attack, in the order of the jobs."""
        entry, model = self.book.models[slug], Linear(self.book.models[slug].folder)
        examples = model.walk(self.x, self.y, self.pool, HALVINGS[Walk.current])
        for norm in RANKED:
            before = {n: entry.ledger(n) for n in NORMS}
            entry.results[f"{norm} {Walk.current}"] = model.distances(self.x, self.y, examples)
            fell = any((entry.ledger(n) < before[n] * (1 - 1e-6)).any() for n in NORMS)
            if fell and len(entry.results) > len(RANKED) and not entry.lacks:
                self.book.log.append((slug, "distances-lowered"))

    def submit(self, slug: str) -> None:
        folder = lives.make(self.home / f"in-{next(self.seeds)}", slug, len(self.book.log))
        assert lives.submit(self.workspace, folder) == 0
        self.book.models[slug] = Entry(folder)
        self.evaluate("-m", slug)
        self.search(slug)
        self.book.log.append((slug, "model-added"))
        self.check(slug)

    def renew(self, slug: str) -> None:
        old = self.book.models[slug]
        folder = lives.make(self.home / f"in-{next(self.seeds)}", slug, 1000 + len(self.book.log))
        assert lives.submit(self.workspace, folder, "--replace") == 0
        self.book.models[slug] = Entry(folder, renewals=old.renewals + 1)
        self.evaluate("-m", slug)
        self.search(slug)
        self.book.log.append((slug, "new-weights"))
        self.check(slug)

    def rename(self, old: str, new: str) -> None:
        assert self.command("rename", old, new, "--reason", "it asked for it") == 0
        entry = self.book.models.pop(old)
        self.book.models[new] = entry
        self.book.log += [(old, "renamed")] * (entry.renewals + 1)
        self.check(new)

    def withdraw(self, slug: str) -> None:
        assert self.command("withdraw", "-m", slug, "--reason", "trained on the test images") == 0
        entry = self.book.models[slug]
        self.book.withdrawn.add(slug)
        self.book.log += [(slug, "withdrawn")] * (entry.renewals + 1)
        self.check(slug)

    def challenge(self, slug: str, samples: int) -> str:
        """Somebody brings nearer examples; returns the name under which the bookkeeping has them."""
        entry, model = self.book.models[slug], Linear(self.book.models[slug].folder)
        examples = model.walk(self.x, self.y, self.pool, 9)[:samples]
        np.savez(self.home / "c.npz", indices=np.arange(samples), examples=examples)
        assert self.command("challenge", slug, str(self.home / "c.npz"), "--author", "Eve") == 0
        found = model.distances(self.x[:samples], self.y[:samples], examples)
        name = f"challenge {len(self.book.log)}"
        entry.results[name] = {n: np.concatenate([found[n], np.full(N - samples, np.inf)]) for n in NORMS}
        self.book.log.append((slug, "challenge-accepted"))
        self.check(slug)
        return name

    def withdraw_challenge(self, slug: str, name: str) -> None:
        assert self.command("withdraw", "--measure", "challenge", "-m", slug, "--reason", "other images") == 0
        del self.book.models[slug].results[name]
        self.book.log.append((slug, "withdrawn"))
        self.check(slug)

    def new_version(self, version: int) -> None:
        Walk.current = version
        self.evaluate()
        with Database(self.workspace.database_url).read() as session:
            order = [slug for slug in sorted(self.book.models) if slug not in self.book.withdrawn]
            assert session.scalar(select(Model.id).limit(1)) is not None
        for slug in order:
            self.search(slug)
        self.look_at_everything()

    def withdraw_version(self, slug: str) -> None:
        """The present version's findings on a model are withdrawn, and found again."""
        asked = [
            "--attack",
            "steady",
            "--attack-version",
            str(Walk.current),
            "-m",
            slug,
            "--reason",
            "its seed was the clock",
        ]
        assert self.command("withdraw", *asked) == 0
        entry = self.book.models[slug]
        for norm in RANKED:
            del entry.results[f"{norm} {Walk.current}"]
            self.book.log.append((slug, "withdrawn"))
        entry.lacks = True
        self.check(slug)
        self.evaluate("-m", slug)  # it does not come back by itself
        self.check(slug)
        self.evaluate("-m", slug, "--rerun", "failed")
        self.search(slug)
        entry.lacks = False
        self.book.log.append((slug, "model-returned"))
        self.check(slug)

    def back_up(self) -> Path:
        path = self.home / "board.backup"
        assert self.command("backup", str(path)) == 0
        self.saved = copy.deepcopy(self.book)
        return path

    def lose_and_restore(self, path: Path) -> None:
        shutil.rmtree(self.workspace.root)
        assert run(["restore", str(path), str(self.home / "again")]) == 0
        self.workspace, self.book = Workspace.load(self.home / "again"), self.saved
        self.look_at_everything()

    def lose_folder(self, slug: str) -> None:
        """A model's folder is gone for a while."""
        shutil.move(self.workspace.models / slug, self.home / "mislaid")
        self.look_at_everything(verified=False)
        assert self.command("verify", slug) == 4
        shutil.move(self.home / "mislaid", self.workspace.models / slug)
        self.check(slug, told_now=False)

    # What is right ---------------------------------------------------------------------------------------------------

    def check(self, slug: str, *, told_now: bool = True) -> None:
        """After a step about a model: statuses and changelog of all, its ledgers and ranks; it verifies.

        Ranks are those of the moment, so they are compared where the step has just made an entry.
        """
        with Database(self.workspace.database_url).read() as session:
            (board,) = all_boards(session)
            assert {row.model.slug for row in board.ranked} == set(self.book.ranked())
            assert len(board.rows) == sum(entry.renewals + 1 for entry in self.book.models.values())
            assert told(session) == self.book.log
            self._ledgers(session, slug)
            self._last_standing([c for c in changes(session, model=slug) if c.kind != "verified"], slug, told_now)
        if THOROUGH:
            self.look_at_everything()
        elif self.book.models[slug].results:
            assert self.command("verify", slug, "--sample", "5") == 0

    def _ledgers(self, session, slug: str) -> None:
        model_id = session.scalars(select(Model.id).where(Model.slug == slug).order_by(Model.id.desc())).first()
        dataset_id = session.scalars(select(Dataset.id)).one()
        for norm in NORMS:
            found = ledger(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=N).distances
            np.testing.assert_allclose(found, self.book.models[slug].ledger(norm), rtol=1e-5, err_msg=f"{slug} {norm}")

    def _last_standing(self, entries, slug: str, told_now: bool) -> None:
        """What the changelog remembers of the row is what the bookkeeping has."""
        boards_told = [board for change in reversed(entries) for board in change.detail.get("boards", ())]
        if slug not in self.book.ranked():
            assert slug in self.book.withdrawn or boards_told[-1].get("left")
            return
        assert not any(set(board["norms"]) - set(RANKED) for board in boards_told), "nobody attacked there"
        for norm in RANKED:
            points = next(board["norms"][norm] for board in reversed(boards_told) if norm in board["norms"])
            for point in points:
                assert point["after"]["robust_accuracy"] == self.book.accuracy(slug, norm, point["eps"]), (slug, norm)
        newest = entries[0].detail.get("boards", ()) if told_now else ()
        for norm, points in (newest[-1]["norms"] if newest else {}).items():
            for point in points:
                assert point["after"]["rank"] == self.book.rank(slug, norm, point["eps"]), (slug, norm, point)

    def look_at_everything(self, *, verified: bool = True) -> None:
        """Every ledger, the published figures and ranks, the evidence, the database."""
        with Database(self.workspace.database_url).read() as session:
            assert told(session) == self.book.log
            for slug in self.book.models:
                self._ledgers(session, slug)
        assert self.command("publish") == 0
        (path,) = self.workspace.public.glob("boards/*/board.json")
        rows = [row for row in json.loads(path.read_text())["models"] if row["status"] == "complete"]
        assert sorted(row["slug"] for row in rows) == sorted(self.book.ranked())
        for row in rows:
            for norm in RANKED:
                for eps in self.eps[norm]:
                    assert row[f"{norm}_{eps:g}"] == pytest.approx(self.book.accuracy(row["slug"], norm, eps))
                    broken = not any(self.book.accuracy(other, norm, eps) for other in self.book.ranked())
                    rank = None if broken else self.book.rank(row["slug"], norm, eps)
                    assert row[f"{norm}_{eps:g}_rank"] == rank, (row["slug"], norm, eps)
        assert self.command("verify", *([] if THOROUGH else ["--sample", "3"])) == 0
        if verified:
            assert self.command("doctor") == 0
            assert self.command("db", "check") == 0


def told(session) -> list[tuple[str, str]]:
    """The changelog: of whom, and what kind; without what only says that something was checked again."""
    return [(c.called, c.kind) for c in reversed(changes(session)) if c.kind != "verified"]


@contextmanager
def walking() -> Iterator[None]:
    real = plugins.discover("benchmark.measures", "MEASURE")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walk, "current", 1)
        patch.setattr("benchmark.measures.discover", lambda *_: {**real, "walk": Walk()})
        # Only what was submitted is evaluated: the zoo is not part of this year.
        patch.setattr(sys.modules["models_zoo.catalogue"], "_package_entries", dict)
        yield


@pytest.fixture
def backend() -> str:
    return "sqlite"


@pytest.mark.timeout(7200)
def test_a_year(tmp_path, capsys):
    with walking():
        year = Year(tmp_path)
        names = [f"net-{number:02}" for number in range(50)]
        for slug in names[:10]:
            year.submit(slug)
        first = year.challenge("net-03", 12)
        year.renew("net-01")
        year.renew("net-03")  # the challenge was against the old weights
        year.look_at_everything()
        assert first.startswith("challenge")

        for slug in names[10:20]:
            year.submit(slug)
        year.new_version(2)
        year.rename("net-01", "old-one")
        second = year.challenge("net-05", N)
        year.withdraw("net-07")

        for slug in names[20:30]:
            year.submit(slug)
        year.withdraw_challenge("net-05", second)
        backup = year.back_up()
        year.submit("lost")
        year.rename("net-11", "lost-too")
        year.lose_and_restore(backup)
        year.rename("net-11", "kept")

        for slug in names[30:40]:
            year.submit(slug)
        year.new_version(3)
        year.withdraw_version("net-12")
        year.lose_folder("net-13")
        year.renew("kept")

        for slug in names[40:]:
            year.submit(slug)
        year.rename("old-one", "net-01")
        year.withdraw("net-40")
        year.renew("net-13")
        year.look_at_everything()
        capsys.readouterr()
        assert year.command("history", "net-01") == 0
        assert "net-01: joined" in capsys.readouterr().out
