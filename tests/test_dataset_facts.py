"""Inter-class distances: against a direct computation, and stored once for the largest slice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sqlalchemy import select
from sqlalchemy.orm import Session
from synthetic import START, digest

from benchmark.board.dataset_facts import compared, dataset_facts, store_dataset_facts
from benchmark.data import Dataset as Data
from benchmark.data import get_dataset, manifest_digest
from benchmark.threat import distances
from db import queries
from db.schema import Cell, Dataset, Evaluation, Model, Protocol, State
from db.session import Database

NORMS = ("linf", "l2", "l1")


def test_the_nearest_image_of_another_class_is_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.board.dataset_facts._PAIRS", 70)  # several blocks of rows
    monkeypatch.setattr("benchmark.board.dataset_facts._NUMBERS", 16 * 11)  # and of columns
    dataset = of_images(np.random.default_rng(0).integers(0, 256, (30, 1, 4, 4), dtype=np.uint8), np.arange(30) % 3)
    x, y = dataset.load()
    facts = dataset_facts(dataset, 30, NORMS)
    for norm in NORMS:
        for i in range(30):
            others = torch.nonzero(y != y[i]).flatten()
            found = distances(x[i].expand(len(others), -1, -1, -1), x[others], norm)
            assert facts[f"nearest_{norm}"][i] == pytest.approx(float(found.min()), rel=1e-6)
            assert facts[f"nearest_index_{norm}"][i] == int(others[found.argmin()])
    assert facts["images"].dtype == "uint8"
    np.testing.assert_array_equal(facts["images"], dataset.read()[0])


def test_a_single_class_has_no_other() -> None:
    facts = dataset_facts(of_images(np.eye(3, 4, dtype=np.uint8).reshape(3, 1, 2, 2), np.zeros(3)), 3, NORMS)
    assert facts["nearest_l2"].tolist() == [float("inf")] * 3
    assert facts["nearest_index_l2"].tolist() == [-1] * 3


def test_of_many_large_images_thumbnails_are_stored_and_the_first_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 128, 96), dtype=np.uint8)
    images[:, :, :64, :] = 40
    dataset = of_images(images, np.arange(12) % 2)
    monkeypatch.setattr("benchmark.board.dataset_facts.COMPARED", 8 * 8 * 3 * 128 * 96)
    monkeypatch.setattr("benchmark.board.dataset_facts.SHOWN", 10 * 3 * 64 * 48)
    facts = dataset_facts(dataset, 12, ["l2"])
    assert "images" not in facts
    assert facts["thumbnails"].shape == (10, 3, 64, 48)
    assert (facts["thumbnails"][:, :, :32] == 40).all()
    assert facts["labels"].shape == (12,)
    assert facts["nearest_l2"].shape == facts["nearest_index_l2"].shape == (8,)
    assert facts["nearest_index_l2"].max() < 8


def test_the_published_sets_are_compared_as_far_as_stated() -> None:
    assert compared((1, 28, 28), 10000) == 10000
    assert 6000 < compared((3, 32, 32), 10000) < 7000
    assert 900 < compared((3, 224, 224), 50000) < 1000


def of_images(images: np.ndarray, labels: np.ndarray) -> Data:
    """A dataset of these images."""
    labels = labels.astype(np.int64)
    return Data(
        name="made",
        title="Made up",
        shape=images.shape[1:],
        classes=("a", "b", "c"),
        size=len(images),
        levels=255,
        digest=manifest_digest(images, labels, levels=255),
        eps={},
        licence="",
        source="",
        read=lambda: (images, labels),
    )


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
