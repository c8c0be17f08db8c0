"""Garbage collection: evidence pruned to what the ledgers need, and files that nothing needs deleted."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from benchmark.board.record import add_evidence
from benchmark.errors import EvidenceError
from benchmark.evidence.proofs import Proofs, proofs_of, rows_with_evidence
from benchmark.evidence.store import EvidenceStore, pack
from db.schema import Chunk, Evaluation, Evidence, State
from db.session import Database
from models_zoo.renaming import STAGING

GRACE: Final = 300.0
"""Seconds for which a file that nothing refers to is spared: an evaluator may be about to commit the reference."""


DAY: Final = 86400.0
"""Seconds for which the folder of a submission is spared: it may still be downloading."""


@dataclass
class Collected:
    """What was, or would be, freed.

    Attributes:
        files: Files deleted.
        bytes: Their sizes, less those of the smaller files that took their places.
        examples: Adversarial examples pruned out of files that stay.
        spared: Files left because they are younger than the grace period.
        notes: Files that could not be read, and were left.
    """

    files: int = 0
    bytes: int = 0
    examples: int = 0
    spared: int = 0
    notes: list[str] = field(default_factory=list)


def collect(
    database: Database,
    store: EvidenceStore,
    *,
    models: Path | None = None,
    dry_run: bool = False,
    grace: float = GRACE,
) -> Collected:
    """Delete what no ledger needs.

    An example is needed if it decides its sample in some norm, or belongs to an evaluation that has not finished.
    Distances stay in the database, whether their example is needed or not.

    Args:
        database: The database.
        store: Its evidence.
        models: The workspace's models, where killed submissions may have left folders.
        dry_run: Only count.
        grace: Age in seconds below which a file that nothing refers to is spared.

    Raises:
        EvidenceError: If files cannot be written or deleted.
    """
    collected = Collected()
    doomed: set[str] = set()
    if not dry_run:  # what nothing refers to goes first: pruning writes files, and the disk may be full
        _sweep(database, store, collected, doomed, dry_run=False, grace=grace)
    with database.read() as session:
        rows = rows_with_evidence(session)
    for model_id, dataset_id in rows:
        with database.read() if dry_run else database.write() as session:
            proofs = proofs_of(session, model_id=model_id, dataset_id=dataset_id)
            for digest, keep in _keeps(proofs).items():
                if _is_private(session, digest, model_id):
                    _prune(session, store, collected, doomed, digest=digest, keep=keep, dry_run=dry_run)
    _sweep(database, store, collected, doomed, dry_run=dry_run, grace=grace)
    for folder in models.glob(f"{STAGING}*") if models is not None else ():
        _delete(folder, collected, dry_run=dry_run, grace=DAY)
    return collected


def _keeps(proofs: Proofs) -> dict[str, NDArray[np.bool_]]:
    """For each evidence file of a model the samples whose example is proofs, shape (dataset size,), bool."""
    size = len(next(iter(proofs.ledgers.values())).distances)
    nothing = np.zeros(size, dtype=np.bool_)
    keeps: dict[str, NDArray[np.bool_]] = defaultdict(nothing.copy)
    for part in proofs.chunks:
        if part.digest is not None:
            wanted = proofs.samples.get(part.evaluation_id, nothing)
            keeps[part.digest][part.start : part.stop] |= wanted[part.start : part.stop]
    return dict(keeps)


def _is_private(session: Session, digest: str, model_id: int) -> bool:
    """Whether only finished evaluations of this model refer to the file."""
    others = (
        select(Chunk.id)
        .join(Evaluation, Chunk.evaluation_id == Evaluation.id)
        .where(Chunk.evidence_digest == digest)
        .where((Evaluation.model_id != model_id) | (Evaluation.state != State.DONE))
        .limit(1)
    )
    return session.scalar(others) is None


def _prune(
    session: Session,
    store: EvidenceStore,
    collected: Collected,
    doomed: set[str],
    *,
    digest: str,
    keep: NDArray[np.bool_],
    dry_run: bool,
) -> None:
    """Replace a file by one with only the needed examples; the old one is doomed, for `_sweep` to delete."""
    try:
        indices, examples = store.get(digest)
    except EvidenceError as error:
        collected.notes.append(str(error))
        return
    kept = keep[indices]
    if kept.all():
        return
    collected.examples += int((~kept).sum()) if kept.any() else 0
    doomed.add(digest)
    smaller = pack(indices[kept], examples[kept]) if kept.any() else b""
    collected.bytes -= len(smaller)
    if dry_run:
        return
    replacement = None
    if smaller:
        stored = store.put_bytes(smaller, samples=int(kept.sum()))
        replacement = stored.digest
        add_evidence(session, stored)
    session.execute(update(Chunk).where(Chunk.evidence_digest == digest).values(evidence_digest=replacement))


def _sweep(
    database: Database, store: EvidenceStore, collected: Collected, doomed: set[str], *, dry_run: bool, grace: float
) -> None:
    """Delete the files that no chunk refers to, and what killed writers left."""
    referred = select(Chunk.evidence_digest).where(Chunk.evidence_digest.is_not(None))
    if dry_run:
        with database.read() as session:
            used = set(session.scalars(referred)) - doomed
    else:
        with database.write() as session:
            session.execute(delete(Evidence).where(Evidence.digest.not_in(referred)))
            used = set(session.scalars(referred))
    collected.spared = 0
    for file in store.list():
        if file.digest in used:
            continue
        if file.age < grace:
            collected.spared += 1
            continue
        if not dry_run:
            store.clear(file)
        collected.files += 1
        collected.bytes += file.bytes


def _delete(folder: Path, collected: Collected, *, dry_run: bool, grace: float) -> None:
    """Delete a folder with all that is in it, unless it is too young."""
    try:
        if time.time() - folder.stat().st_mtime < grace:
            return
        sizes = [file.lstat().st_size for file in folder.rglob("*") if not file.is_dir()]
        if not dry_run:
            shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise EvidenceError(f"The folder {folder} cannot be deleted: {error.strerror or error}.") from error
    collected.files += len(sizes)
    collected.bytes += sum(sizes)
