"""A database of the version before is migrated: what was evaluated stays valid, and nothing of it is lost."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from sqlalchemy import text

from benchmark.board.ledger import ledger
from benchmark.data import get_dataset
from benchmark.jobs.plan import make_plan, wanted_jobs
from benchmark.jobs.protocol import get_protocol
from benchmark.measures import get_measure
from benchmark.results import Output
from db import migrate
from db.queries import RowStatus, boards
from db.schema import Change, Evaluation
from db.session import Database
from db.urls import sqlite_file
from models_zoo import get_entry

AT = "2026-01-01 00:00:00"

# What the evaluator of before wrote for the standard protocol on the digits: (measure, version, parameters, samples).
BEFORE = [
    ("conformance", 1000, "{}", 20),
    ("clean", 1000, "{}", 20),
    *(
        ("curve", 1002, f'{{"norm": "{n}", "attack": "engine", "effort": "standard"}}', 20)
        for n in ("linf", "l2", "l1")
    ),
    *(
        ("autoattack", 1000, f'{{"norm": "{n}", "eps": {eps}, "version": "standard", "samples": 100}}', 20)
        for n, eps in (("linf", 0.05), ("l2", 0.25), ("l1", 0.5))
    ),
    *(
        (
            "clever",
            1000,
            f'{{"norm": "{n}", "targets": "untargeted", "preset": "board", "order": 1, "limit": 100, "batches": null, '
            '"samples": null, "radius": null}',
            20,
        )
        for n in ("linf", "l2", "l1")
    ),
    *(("certificate", 2000, f'{{"norm": "{n}", "method": "auto", "samples": 100}}', 20) for n in ("linf", "l2", "l1")),
    *(
        ("exact", 1000, f'{{"norm": "{n}", "time_limit": 10.0, "samples": 20, "most_neurons": 64}}', 20)
        for n in ("linf", "l1")
    ),
]
SPEC = {"name": "standard", "version": 1, "title": "t", "measures": [{"measure": "clean"}]}
DISTANCES = np.linspace(0, 1.9, 20)


@pytest.fixture
def before(empty_database: Database) -> Database:
    """A database at the first migration, with a row of the standard protocol, a challenge and a replay."""
    if (path := sqlite_file(empty_database.url)) is not None:
        path.touch()  # only an upgrade makes it
    with empty_database.engine.begin() as connection:
        command.upgrade(migrate._config(connection), "0001")
        run = connection.execute
        entry, dataset = get_entry("digits-standard"), get_dataset("digits")
        card = json.dumps({"eps": {norm: list(eps) for norm, eps in dataset.eps.items()}})
        where = {"at": AT, "card": card, "spec": json.dumps(SPEC), "m": entry.digest, "d": dataset.digest}
        run(text("INSERT INTO models VALUES (1, 'digits-standard', :m, 't', '{}', :at)"), where)
        run(
            text(
                "INSERT INTO datasets (id, name, digest, title, size, card, added_at) "
                "VALUES (1, 'digits', :d, 't', 500, :card, :at)"
            ),
            where,
        )
        run(
            text(
                "INSERT INTO protocols (id, name, version, title, spec, added_at) "
                "VALUES (1, 'standard', 1, 't', :spec, :at)"
            ),
            where,
        )
        run(text("INSERT INTO evidence VALUES (:digest, 1, 1, :at)"), {"digest": "e" * 64, "at": AT})
        others = [
            ("challenge", 1000, json.dumps({"norm": "l2", "author": "Eve", "paper": "", "sha256": "f" * 64}), 20),
            ("transfer", 1000, json.dumps({"norm": "l2", "evidence": "a" * 64}), 20),
        ]
        for number, (measure, version, parameters, samples) in enumerate([*BEFORE, *others], 1):
            values = {
                "id": number,
                "key": str(number),
                "measure": measure,
                "version": version,
                "parameters": parameters,
                "norm": json.loads(parameters).get("norm"),
                "samples": samples,
                "at": AT,
            }
            run(
                text(
                    "INSERT INTO evaluations (id, key, model_id, dataset_id, n, samples, measure, version, parameters, "
                    "norm, seed, state, attempts, created_at, finished_at, provenance) VALUES (:id, :key, 1, 1, 20, "
                    ":samples, :measure, :version, :parameters, :norm, 0, 'done', 1, :at, :at, '{}')"
                ),
                values,
            )
            run(
                text(
                    "INSERT INTO chunks VALUES (:id, :id, 0, 20, 1.0, 1, 1, :digest, '[]')",
                ),
                {"id": number, "digest": "e" * 64 if measure == "challenge" else None},
            )
            if measure == "curve":
                buffer = io.BytesIO()
                np.save(buffer, DISTANCES)
                run(
                    text("INSERT INTO arrays (id, chunk_id, name, data) VALUES (:id, :id, :name, :data)"),
                    {"id": number, "name": f"distance_{values['norm']}", "data": buffer.getvalue()},
                )
            if measure not in {"challenge", "transfer"}:
                run(
                    text(
                        "INSERT INTO cells (id, protocol_id, model_id, dataset_id, n, evaluation_id) "
                        "VALUES (:id, 1, 1, 1, 20, :id)"
                    ),
                    {"id": number},
                )
    return empty_database


def plan(database: Database):
    entry, dataset = get_entry("digits-standard"), get_dataset("digits")
    standard = get_protocol("standard")
    # AutoAttack was in the standard protocol then; now it is for a protocol of one's own.
    autoattack = {"measure": "autoattack", "norm": ["linf", "l2", "l1"], "eps": "reference", "samples": 100}
    protocol = replace(standard, measures=[*standard.measures, autoattack])
    wanted = list(wanted_jobs(protocol, [entry], {"digits": dataset}, limits={"digits": 20}, seed=0, models={}))
    with database.read() as session:
        return make_plan(session, wanted)


def evaluations(database: Database) -> list[Evaluation]:
    with database.read() as session:
        return session.query(Evaluation).order_by(Evaluation.id).all()


def test_what_was_evaluated_has_the_keys_of_today_and_is_not_run_again(before):
    migrate.upgrade(before)
    found = plan(before)
    changed = {job.measure for job in found.jobs}
    # Measures whose version was raised since then are run again: what they mean has changed. All others have nothing.
    raised = {
        measure
        for measure, version, parameters, _ in BEFORE
        if (own := get_measure(measure)).version != version // 1000
        or own.attack_version(own.Parameters(**json.loads(parameters))) != version % 1000
    }
    assert changed == raised | {"verdict"}, "the verdict was not asked for then"
    assert {"clean", "autoattack", "exact"} - raised == {"clean", "autoattack", "exact"} - changed


def test_nothing_is_lost(before):
    migrate.upgrade(before)
    assert migrate.differences(before) == []
    with before.read() as session:
        found = ledger(session, model_id=1, dataset_id=1, norm="l2", n=20)
        (board,) = boards(session)
        for table, count in (("chunks", len(BEFORE) + 2), ("cells", len(BEFORE)), ("arrays", 3)):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar() == count
    np.testing.assert_array_equal(found.distances, DISTANCES)
    assert [row.status for row in board.rows] == [RowStatus.COMPLETE]
    assert board.threats == ("l1", "l2", "linf")


def test_declared_outputs_are_those_of_todays_measures(before):
    migrate.upgrade(before)
    dataset = get_dataset("digits")
    for row in evaluations(before):
        stored = {output["name"]: Output.from_json(output) for output in row.outputs}
        own = get_measure(row.measure)
        today = {output.name: output for output in own.outputs(own.Parameters(**row.parameters), dataset)}
        assert stored or row.measure == "transfer"
        for name, output in stored.items():
            if name in today:
                assert (output.kind, output.threat, output.array) == (
                    today[name].kind,
                    today[name].threat,
                    today[name].array,
                )


def test_versions_come_apart_and_challenges_become_measures(before):
    migrate.upgrade(before)
    rows = {(row.measure, row.norm): row for row in evaluations(before)}
    assert (rows["curve", "l2"].version, rows["curve", "l2"].attack_version) == (1, 2)
    challenge = rows["challenge", "l2"]
    assert challenge.parameters["evidence"] == "e" * 64
    assert challenge.provenance["method"]["contributor"] == "challenge: Eve"
    assert get_measure("challenge").needs(get_measure("challenge").Parameters(**challenge.parameters)).examples


def test_a_row_that_was_called_complete_with_a_part_of_its_protocol_is_not_any_more(before):
    with before.engine.begin() as connection:
        asked = {**SPEC, "measures": [{"measure": "clean"}, {"measure": "curve", "norm": ["l2", "l0"], "attack": "*"}]}
        connection.execute(text("UPDATE protocols SET spec = :spec"), {"spec": json.dumps(asked)})
    migrate.upgrade(before)
    with before.read() as session:
        (row,) = boards(session)[0].rows
    assert row.status is RowStatus.INCOMPLETE
    assert row.missing == ("curve norm=l0 attack=* (never planned)",)


def test_the_changelog_forgets_accuracies_in_norms_that_nobody_searched(before):
    point = [{"eps": 0.1, "before": None, "after": {"robust_accuracy": 1.0, "rank": 1}}]
    norms = dict.fromkeys(("linf", "l2"), point)
    told = [{"protocol": p, "version": 1, "n": 20, "rows": 1, "norms": norms} for p in ("standard", "bare", "gone")]
    with before.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO protocols VALUES (2, 'bare', 1, 't', :spec, :at)"), {"spec": json.dumps(SPEC), "at": AT}
        )
        connection.execute(text("INSERT INTO cells VALUES (100, 2, 1, 1, 20, 2)"))  # of the clean accuracy alone
        connection.execute(
            text(
                "INSERT INTO changes (id, at, kind, model_id, dataset_id, detail) "
                "VALUES (1, :at, 'model-added', 1, 1, :detail)"
            ),
            {"at": AT, "detail": json.dumps({"boards": told})},
        )
    migrate.upgrade(before)
    with before.read() as session:
        found = session.get_one(Change, 1).detail["boards"]
    assert {board["protocol"]: set(board["norms"]) for board in found} == {
        "standard": {"linf", "l2"},
        "bare": set(),
        "gone": {"linf", "l2"},  # without cells nothing can be said against it
    }


def test_the_migration_knows_nothing_of_todays_code():
    folder = Path(migrate.__file__).parent / "migrations"
    texts = [path.read_text() for path in (*folder.glob("versions/*.py"), folder / "outputs_0002.py")]
    assert len(texts) >= 4
    assert not any("benchmark" in line for t in texts for line in t.splitlines() if line.startswith(("import", "from")))
