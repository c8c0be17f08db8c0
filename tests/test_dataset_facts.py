"""Inter-class distances: against a direct computation, and stored once for the largest slice."""

from __future__ import annotations

import pytest
import torch
from sqlalchemy import select
from sqlalchemy.orm import Session
from synthetic import START, digest

from benchmark.board.dataset_facts import dataset_facts, store_dataset_facts
from benchmark.data import get_dataset
from benchmark.threat import distances
from db import queries
from db.schema import Cell, Dataset, Evaluation, Model, Protocol, State
from db.session import Database

NORMS = ("linf", "l2", "l1")


def test_the_nearest_image_of_another_class_is_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.board.dataset_facts._PAIRS", 70)  # several chunks
    x = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(30) % 3
    facts = dataset_facts(x, y, NORMS)
    for norm in NORMS:
        for i in range(30):
            others = torch.nonzero(y != y[i]).flatten()
            found = distances(x[i].expand(len(others), -1, -1, -1), x[others], norm)
            assert facts[f"nearest_{norm}"][i] == pytest.approx(float(found.min()), rel=1e-6)
            assert facts[f"nearest_index_{norm}"][i] == int(others[found.argmin()])
    assert facts["images"].dtype == "uint8"
    assert facts["images"].shape == (30, 1, 4, 4)


def test_a_single_class_has_no_other() -> None:
    facts = dataset_facts(torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64), NORMS)
    assert facts["nearest_l2"].tolist() == [float("inf")] * 3
    assert facts["nearest_index_l2"].tolist() == [-1] * 3


def test_the_facts_are_stored_once_and_again_for_a_larger_slice(database: Database) -> None:
    digits = get_dataset("digits")
    with database.write() as session:
        dataset = Dataset(
            name="digits", digest=digits.digest, title="Digits", size=500, card={"eps": {}}, added_at=START
        )
        unknown = Dataset(name="nowhere", digest=digest(1), title="?", size=5, card={}, added_at=START)
        model = Model(slug="m", digest=digest(2), title="M", card={}, added_at=START)
        protocol = Protocol(name="p", version=1, title="P", spec={}, added_at=START)
        session.add_all([dataset, unknown, model, protocol])
        session.flush()
        for k, (of, n) in enumerate([(dataset, 40), (unknown, 5)]):
            _cell(session, of.id, model.id, protocol.id, n, k)
        dataset_id, model_id, protocol_id = dataset.id, model.id, protocol.id
    assert store_dataset_facts(database) == ["digits"]
    assert store_dataset_facts(database) == []
    with database.write() as session:
        _cell(session, dataset_id, model_id, protocol_id, 60, 9)
    assert store_dataset_facts(database) == ["digits"]
    with database.read() as session:
        labels = queries.dataset_array(session, dataset_id, "labels")
        assert labels is not None
        assert labels.tolist() == digits.load(60)[1].tolist()
        assert session.scalars(select(Dataset.name).where(Dataset.id == dataset_id)).one() == "digits"


def _cell(session: Session, dataset_id: int, model_id: int, protocol_id: int, n: int, k: int) -> None:  # noqa: PLR0917
    evaluation = Evaluation(
        key=digest("key", k), model_id=model_id, dataset_id=dataset_id, n=n, samples=n, measure="clean", version=1,
        parameters={}, norm=None, seed=0, state=State.QUEUED, created_at=START,
    )  # fmt: skip
    session.add(evaluation)
    session.flush()
    session.add(
        Cell(protocol_id=protocol_id, model_id=model_id, dataset_id=dataset_id, n=n, evaluation_id=evaluation.id)
    )
