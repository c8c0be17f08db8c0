"""A folder with a synthetic board of every kind of row, and its built site; for the site's tests."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import synthetic
from sqlalchemy import select

import sitegen
from benchmark.evidence.store import EvidenceStore
from db.migrate import upgrade
from db.schema import Cell, Change, Evaluation, Flag, Protocol, State
from db.session import Database
from sitegen import BuildReport

HOSTILE = "<script>alert(1)</script> \"quoted\" & 'more'"
BOARD = "boards/synthetic-40-standard"


def make_place(folder: Path) -> Path:
    """A database, evidence and a built site: complete, stale and incomplete rows, flags, a hostile title, changes."""
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    made = synthetic.populate(
        database, models=6, n=40, store=EvidenceStore(folder / "artifacts"), title=HOSTILE, exact=8, weather=True
    )
    unlucky, left_behind = list(made.models)[4:6]
    with database.write() as session:
        spec = {"columns": list(synthetic.COLUMNS)}
        newer = Protocol(name="standard", version=3, title="Newer", spec=spec, added_at=synthetic.START)
        session.add(newer)
        session.flush()
        for cell in session.scalars(select(Cell).where(Cell.model_id != made.models[left_behind])).all():
            cell.protocol_id = newer.id
            if cell.model_id == made.models[unlucky] and cell.evaluation.measure == "clever":
                cell.evaluation.state, cell.evaluation.reason = State.FAILED, "the logits of image 3 are NaN"
        evaluation = session.scalars(select(Evaluation).where(Evaluation.measure == "curve")).first()
        assert evaluation is not None
        evaluation.flags.append(Flag(code="zero-gradients", message=f"12 % of the gradients are zero. {HOSTILE}"))
        session.add(
            Change(
                at=synthetic.START + timedelta(days=2),
                kind="challenge-accepted",
                model_id=evaluation.model_id,
                dataset_id=made.dataset_id,
                detail={
                    "by": "challenge: Eve",
                    "norms": {"linf": {"lowered": 3, "found": 1, "new": 0}},
                    "boards": [
                        {
                            "protocol": "standard",
                            "version": 3,
                            "n": 40,
                            "norms": {
                                "linf": [
                                    {
                                        "eps": 0.1,
                                        "before": {"robust_accuracy": 0.5, "rank": 1},
                                        "after": {"robust_accuracy": 0.425, "rank": 2},
                                    }
                                ]
                            },
                        }
                    ],
                },
            )
        )
    database.engine.dispose()  # so that the database is one file
    build(folder)
    return folder


def make_plain(folder: Path, *, models: int, n: int) -> Path:
    """A board of ordinary rows that one attack has measured, without exact results; its built site."""
    database = Database(f"sqlite:///{folder / 'board.db'}")
    upgrade(database)
    synthetic.populate(database, models=models, n=n, exact=0, attacks=("shrinking",))
    database.engine.dispose()
    build(folder)
    return folder / "public"


def build(folder: Path, **options: object) -> BuildReport:
    database = Database(f"sqlite:///{folder / 'board.db'}")
    try:
        return sitegen.build(database, folder / "public", artifacts=folder / "artifacts", **options)  # type: ignore[arg-type]
    finally:
        database.engine.dispose()
