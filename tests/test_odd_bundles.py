"""Odd values in bundles: refused in words, or entered as what they are; the board is published and sound after each."""

from __future__ import annotations

from pathlib import Path

import boards
import pytest
from sqlalchemy import func, select

from benchmark.cli import run
from benchmark.workspace import Workspace
from db.schema import Chunk, Evaluation, Flag
from db.session import Database
from tests.test_bundle import bundle, ingest, rewritten


@pytest.fixture(scope="module")
def packed(made_board, tmp_path_factory) -> Path:
    return bundle(made_board, tmp_path_factory.mktemp("bundle") / "row.bundle")


@pytest.fixture
def other(tmp_path) -> Workspace:
    assert run(["init", str(tmp_path / "other")]) == 0
    return Workspace.load(tmp_path / "other")


def line(manifest):
    return next(e for e in manifest["evaluations"] if e["measure"] == "line")


def chunk(**values):
    return lambda manifest: line(manifest)["chunks"][0].update(values)


def evaluation(**values):
    return lambda manifest: line(manifest).update(values)


def score(**values):
    return lambda manifest: line(manifest)["scores"][0].update(values)


def flag(**values):
    note = {"code": "odd", "message": "odd", "value": None}
    return lambda manifest: line(manifest).update(flags=[note | values])


REFUSED = {
    "negative seconds": chunk(seconds=-5.0),
    "a century of seconds": chunk(seconds=1e12),
    "negative passes": chunk(forward_passes=-1),
    "more passes than a database holds": chunk(forward_passes=10**30),
    "passes that are no whole number": chunk(backward_passes="many"),
    "a chunk beyond the slice": chunk(stop=10**9),
    "a chunk from the middle of nowhere": chunk(start=-3),
    "a slice of nothing": evaluation(n=0),
    "a slice of all the world": evaluation(n=10**12),
    "more samples than the slice": evaluation(samples=10**6),
    "a negative seed": evaluation(seed=-1),
    "a seed that no database holds": evaluation(seed=10**40),
    "a version of another kind": evaluation(version="two"),
    "a negative version": evaluation(attack_version=-4),
    "a state that is none": evaluation(state="finished"),
    "a state that is not final": evaluation(state="running"),
    "an interval the wrong way round": score(low=0.9, high=0.1),
    "a confidence above one": score(confidence=7.0),
    "a score's name without end": score(name="x" * 5000),
    "a flag's code without end": flag(code="x" * 5000),
    "a flag's value that is none": flag(value="much"),
    "a flag's message without end": flag(message="x" * 10_000_000),
    "a flag's message that is none": flag(message=["a"]),
    "provenance without end": evaluation(provenance={"a": "x" * 30_000_000}),
    "provenance that is none": evaluation(provenance=["a"]),
    "a date that is none": evaluation(finished_at="yesterday"),
    "a date of the future": evaluation(finished_at="2999-01-01T00:00:00+00:00"),
    "a date without end": evaluation(finished_at="x" * 100_000),
    "another dataset's digest": lambda manifest: manifest["dataset"].update(digest="0" * 64),
    "another dataset's name": lambda manifest: manifest["dataset"].update(name="mnist"),
    "a protocol's version of nowhere": lambda manifest: manifest["protocols"][0].update(version=10**30),
    "a protocol without end": lambda manifest: manifest["protocols"][0].update(spec={"measures": "x" * 30_000_000}),
    "a row on a slice of nowhere": lambda manifest: line(manifest).update(cells=[["lines", 1, 10**30]]),
    "a row on a negative slice": lambda manifest: line(manifest).update(cells=[["lines", 1, -20]]),
    "a method that is no table": evaluation(provenance={"method": 3}),
    "a method of lists": evaluation(provenance={"method": {"title": ["a"]}}),
    "packages of lists": evaluation(provenance={"packages": {"torch": ["<b>"]}}),
    "sources that are no numbers": evaluation(provenance={"sources": {"a": "many"}}),
    "seconds beyond all numbers": chunk(seconds="1e999"),
    "the same evaluation twice": lambda manifest: manifest["evaluations"].append(line(manifest)),
    "the same chunk twice": lambda manifest: line(manifest)["chunks"].append(line(manifest)["chunks"][0]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_values_enter_nothing(packed, other, tmp_path, capsys, name):
    path = rewritten(packed, tmp_path / "odd.bundle", lambda manifest, members: REFUSED[name](manifest))
    code = ingest(other, path)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert len(said.out) + len(said.err) < 20_000
    with Database(other.database_url).read() as session:
        assert session.scalar(select(func.count()).select_from(Chunk)) == 0
        assert session.scalar(select(func.count()).select_from(Evaluation)) == 0
    assert code in {1, 4}
    assert list(other.models.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        flag(message="\x1b[2J\u202eevil <script>alert(1)</script>"),
        evaluation(provenance={"python": "\x1b]0;x\x07", "packages": {"torch": "<b>"}, "cores": -1, "device": ["a"]}),
        evaluation(
            provenance={"method": {"title": "<script>", "paper": "javascript:alert(1)", "contributor": "\u202ex"}}
        ),
    ],
    ids=["message", "provenance", "method"],
)
def test_odd_texts_stay_texts(packed, other, tmp_path, capsys, change):
    path = rewritten(packed, tmp_path / "odd.bundle", lambda manifest, members: change(manifest))
    code = ingest(other, path)
    assert code in {0, 1}
    assert run(["publish", "-w", str(other.root)]) == 0
    assert run(["doctor", "-w", str(other.root)]) == 0
    assert run(["show", boards.MODELS[0], "-w", str(other.root)]) == (0 if code == 0 else 1)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\u202e" not in said.out + said.err
    for page in other.public.rglob("*.html"):
        text = page.read_text()
        assert "<script>alert(1)" not in text
        assert 'href="javascript:' not in text
    with Database(other.database_url).read() as session:
        assert session.scalar(select(func.count()).select_from(Flag)) in {0, 1}
