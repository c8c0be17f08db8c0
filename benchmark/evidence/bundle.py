"""Packing a row of the board into one file that a sceptic verifies on another machine, offline."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.data import Dataset, get_dataset
from benchmark.errors import InputError, UnknownNameError
from benchmark.evidence.container import write_container
from benchmark.evidence.store import EvidenceStore
from db.schema import Cell, Chunk, Evaluation, Model, Protocol, State, SummaryTable
from db.schema import Dataset as DatasetRow
from db.session import Database
from models_zoo import Entry, get_entry
from models_zoo.cards import card_table
from models_zoo.loading import local_file

FORMAT: Final = "curveboard-bundle/2"
MAX_DATASET: Final = 64 << 20
"""Bytes of raw images up to which a bundle carries its dataset; above, the other machine must have it."""


@dataclass(frozen=True)
class Bundled:
    """What went into a bundle.

    Attributes:
        path: The file.
        bytes: Its size.
        evaluations: How many evaluations.
        evidence: How many evidence files.
        weights: Whether the model's files are in it.
        dataset: Whether the images are in it.
    """

    path: Path
    bytes: int
    evaluations: int
    evidence: int
    weights: bool
    dataset: bool


def write_bundle(
    database: Database,
    store: EvidenceStore,
    folders: Sequence[Path],
    slug: str,
    path: Path,
    *,
    weights: bool = True,
) -> Bundled:
    """Pack card, weights, data, scores, provenance and evidence of a model.

    Args:
        database: The database.
        store: Its evidence.
        folders: Folders of submitted models.
        slug: The model.
        path: The file to write.
        weights: Whether to pack the model's files; without them the other machine must have or fetch them.

    Raises:
        UnknownNameError: If the board has no such model.
        InputError: If the board's row is of other weights than the zoo has, or the file cannot be written.
        EvidenceError: If evidence is missing or damaged.
    """
    entry = get_entry(slug, folders)
    with database.read() as session:
        model = session.scalar(select(Model).where(Model.slug == slug, Model.digest == entry.digest))
        if model is None:
            known = set(session.scalars(select(Model.slug)))
            if slug in known:
                raise InputError(
                    f"The weights of {slug!r} here are not those of its row on the board; evaluate it first."
                )
            raise UnknownNameError("model on this board", slug, known)
        dataset = get_dataset(entry.dataset)
        evaluations = _evaluations(session, model, dataset)
        packer = _Packer(store, entry, dataset, with_weights=weights)
        manifest = {
            "format": FORMAT,
            "curveboard": version("curveboard"),
            "model": {"slug": slug, "digest": model.digest, "card": _card(entry)},
            "dataset": packer.dataset_values(),
            "protocols": _protocols(session, evaluations),
            "evaluations": [packer.evaluation_values(session, evaluation) for evaluation in evaluations],
            "files": packer.file_values(),
        }
        write_container(path, manifest, packer.members(session, evaluations))
    return Bundled(path, path.stat().st_size, len(evaluations), len(packer.evidence), weights, packer.carries_dataset)


def _evaluations(session: Session, model: Model, dataset: Dataset) -> list[Evaluation]:
    query = (
        select(Evaluation)
        .join(DatasetRow, Evaluation.dataset_id == DatasetRow.id)
        .where(
            Evaluation.model_id == model.id,
            Evaluation.state.in_([State.DONE, State.UNSUPPORTED]),
            DatasetRow.name == dataset.name,
            DatasetRow.digest == dataset.digest,
        )
        .order_by(Evaluation.finished_at, Evaluation.id)
    )
    found = list(session.scalars(query))
    if not found:
        raise InputError(f"The model {model.slug!r} has no finished evaluation; there is nothing to bundle.")
    return found


def _card(entry: Entry) -> dict[str, Any]:
    """The card as `parse_card` reads it; trust in code is the maintainer's own and does not travel."""
    table = card_table(entry)
    table.pop("trusted", None)
    return table


def _protocols(session: Session, evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    ids = [evaluation.id for evaluation in evaluations]
    query = select(Protocol).where(Protocol.id.in_(select(Cell.protocol_id).where(Cell.evaluation_id.in_(ids))))
    return [
        {"name": row.name, "version": row.version, "title": row.title, "spec": row.spec}
        for row in session.scalars(query.order_by(Protocol.name, Protocol.version))
    ]


class _Packer:
    """Names the members of a bundle while the manifest is made, then yields their contents in the same order."""

    def __init__(self, store: EvidenceStore, entry: Entry, dataset: Dataset, *, with_weights: bool) -> None:
        self.store, self.entry, self.dataset = store, entry, dataset
        self.with_weights = with_weights
        self.carries_dataset = dataset.size * int(np.prod(dataset.shape)) <= MAX_DATASET
        self.evidence: list[str] = []
        self._arrays = self._tables = 0

    def dataset_values(self) -> dict[str, Any]:
        data = self.dataset
        return {
            "name": data.name,
            "digest": data.digest,
            "title": data.title,
            "shape": list(data.shape),
            "classes": list(data.classes),
            "size": data.size,
            "levels": data.levels,
            "eps": {norm: list(values) for norm, values in data.eps.items()},
            "licence": data.licence,
            "source": data.source,
            "included": self.carries_dataset,
        }

    def file_values(self) -> list[dict[str, str]]:
        """Name and member of each of the model's files."""
        if not self.with_weights:
            return []
        return [{"name": w.name, "member": f"weights/{i}"} for i, w in enumerate(self.entry.weights)]

    def evaluation_values(self, session: Session, evaluation: Evaluation) -> dict[str, Any]:
        cells = (
            select(Protocol.name, Protocol.version, Cell.n)
            .join(Protocol, Cell.protocol_id == Protocol.id)
            .where(Cell.evaluation_id == evaluation.id, Cell.model_id == evaluation.model_id)
            .order_by(Protocol.name, Protocol.version, Cell.n)
        )
        return {
            "key": evaluation.key,
            "n": evaluation.n,
            "samples": evaluation.samples,
            "measure": evaluation.measure,
            "version": evaluation.version,
            "attack_version": evaluation.attack_version,
            "parameters": evaluation.parameters,
            "content": evaluation.content,
            "outputs": evaluation.outputs,
            "seed": evaluation.seed,
            "state": evaluation.state.value,
            "reason": evaluation.reason,
            "started_at": _moment(evaluation.started_at),
            "finished_at": _moment(evaluation.finished_at),
            "provenance": evaluation.provenance,
            "cells": [list(row) for row in session.execute(cells)],
            "scores": [
                {
                    "name": s.name,
                    "value": s.value,
                    "low": s.low,
                    "high": s.high,
                    "confidence": s.confidence,
                    "unit": s.unit,
                    "direction": s.direction,
                }
                for s in evaluation.scores
            ],
            "flags": [{"code": f.code, "message": f.message, "value": f.value} for f in evaluation.flags],
            "tables": {table.name: self._table_values(table) for table in evaluation.tables},
            "chunks": [self._chunk_values(chunk) for chunk in evaluation.chunks],
        }

    def _table_values(self, table: SummaryTable) -> dict[str, Any]:
        self._tables += 1
        return {"member": f"tables/{self._tables - 1}.npy", "confidence": table.confidence}

    def _chunk_values(self, chunk: Chunk) -> dict[str, Any]:
        if chunk.evidence_digest is not None and chunk.evidence_digest not in self.evidence:
            self.evidence.append(chunk.evidence_digest)
        arrays = {}
        for array in _sorted_arrays(chunk):
            arrays[array[0]] = f"arrays/{self._arrays}.npy"
            self._arrays += 1
        return {
            "start": chunk.start,
            "stop": chunk.stop,
            "seconds": chunk.seconds,
            "forward_passes": chunk.forward_passes,
            "backward_passes": chunk.backward_passes,
            "evidence": chunk.evidence_digest,
            "notes": chunk.notes,
            "arrays": arrays,
        }

    def members(self, session: Session, evaluations: Sequence[Evaluation]) -> Iterator[tuple[str, bytes]]:
        """All members, one at a time."""
        number = 0
        for evaluation in evaluations:
            for chunk in evaluation.chunks:
                for _, data in _sorted_arrays(chunk):
                    yield f"arrays/{number}.npy", npy(data)
                    number += 1
        tables = (table.data for evaluation in evaluations for table in evaluation.tables)
        yield from ((f"tables/{i}.npy", npy(data)) for i, data in enumerate(tables))
        for digest in self.evidence:
            yield f"evidence/{digest}", self.store.read(digest)
        if self.carries_dataset:
            images, labels = self.dataset.read()
            yield "dataset/images.npy", npy(np.asarray(images))
            yield "dataset/labels.npy", npy(np.asarray(labels, dtype=np.int64))
        if self.with_weights:
            for i, weights in enumerate(self.entry.weights):
                yield f"weights/{i}", local_file(self.entry, weights).read_bytes()


def _sorted_arrays(chunk: Chunk) -> list[tuple[str, NDArray[Any]]]:
    return sorted(((array.name, array.data) for array in chunk.arrays), key=lambda pair: pair[0])


def _moment(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of a ``.npy`` file; never pickled."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()
