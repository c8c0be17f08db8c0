"""A part of a protocol is a part: what it lacks is said, and its row is ranked nowhere."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import run
from benchmark.data import all_datasets
from benchmark.jobs.protocol import protocols
from db.queries.completeness import missing
from db.schema import State
from models_zoo.own_code import VARIABLE


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new workspace with the standard protocol."""
    monkeypatch.setenv(VARIABLE, "")
    assert run(["init", str(tmp_path / "board")]) == 0
    return tmp_path / "board"


def status(root: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert run(["status", "--json", "-w", str(root)]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    return rows


def test_one_attack_on_a_new_model_is_no_complete_row(root, capsys):
    part = ["--attack", "engine", "--limit", "4", "-m", "digits-16-16"]
    assert run(["evaluate", *part, "-w", str(root)]) == 0
    assert "not complete" in "".join(capsys.readouterr())
    (row,) = status(root, capsys)
    assert row["status"] == "incomplete"
    assert {"clean", "verdict", "certificate"} <= {text.split()[0] for text in row["missing"]}
    assert run(["publish", "-w", str(root), "-j", "1"]) == 0
    page = (root / "public" / "boards" / "digits-4-standard" / "index.html").read_text()
    assert '<td class="rank">' not in page
    assert "evaluations still to come" in page


def test_an_attack_that_the_protocol_does_not_ask_for_makes_no_row(root, capsys):
    assert run(["evaluate", "--attack", "hein", "--limit", "2", "-m", "digits-16-16", "-w", str(root)]) == 1
    assert "does not ask for the attack 'hein'" in capsys.readouterr().err
    assert status(root, capsys) == []


@dataclass(frozen=True)
class Done:
    """An evaluation that a protocol wants, done."""

    measure: str
    parameters: dict[str, Any]
    state: State = State.DONE
    outputs: tuple[dict[str, Any], ...] = ()
    samples: int = 1
    bundle: None = None


@pytest.mark.parametrize("dataset", all_datasets().values(), ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("protocol", protocols().values(), ids=lambda protocol: f"{protocol.name}@{protocol.version}")
def test_a_row_with_all_that_its_protocol_plans_is_complete(protocol, dataset):
    """The plan and the completeness read the words of a protocol (``stated``, ``standard``, ``*``) alike."""
    eps = {norm: list(values) for norm, values in dataset.eps.items()}
    planned = [Done(m.name, json.loads(json.dumps(asdict(p)))) for m, p in protocol.wanted(dataset)]
    assert missing(protocol.spec, eps, planned) == ()
    for one in planned:
        if one.measure == "clean":
            assert missing(protocol.spec, eps, [other for other in planned if other is not one]) != ()
