"""Verifying a board: stored evidence re-checked against the weights, with forward passes only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy.orm import Session
from torch import nn

from benchmark.board.names import GONE
from benchmark.board.soundness import unsound
from benchmark.data import get_dataset
from benchmark.errors import BenchmarkError, EvidenceError, InputError, UnknownNameError
from benchmark.evidence.proofs import Proofs, proofs_of, rows_with_evidence
from benchmark.evidence.store import EvidenceStore
from benchmark.rejection import rejects
from benchmark.threat import distances
from benchmark.verification import REASONS, SLACK, deciding_size, mean_lead, verify
from db.schema import Dataset as DatasetRow
from db.schema import Model
from db.session import Database
from models_zoo import ZooError, get_entry, present
from models_zoo.loading import load_entry

BATCH: Final = 500
TOLERANCE: Final = 1e-9
"""Relative difference at which two sums of the same float64 numbers, in another order, still agree."""

_UNCHANGED: Final = REASONS.index("the label does not change")
_HOLDS: Final = (0, REASONS.index("the label changes only within floating-point slack"))
"""What passes here. An example joined the ledger with a lead above the slack; on another machine that lead may have
shrunk by rounding, so here any lead will do."""


@dataclass(frozen=True)
class Problem:
    """Something that is off.

    Attributes:
        model: The model's slug.
        text: What was found and what was expected.
        sample: Of which sample.
        norm: In which norm.
    """

    model: str
    text: str
    sample: int | None = None
    norm: str | None = None

    def __str__(self) -> str:
        where = "" if self.sample is None else f", sample {self.sample}"
        return f"{self.model}{where}{f', {self.norm}' if self.norm else ''}: {self.text}"


@dataclass(frozen=True)
class Checked:
    """A row of which everything was checked, and nothing is off."""

    model_id: int
    dataset_id: int
    samples: int
    examples: int


@dataclass
class Report:
    """What was checked.

    Attributes:
        models: Models checked.
        files: Evidence files read.
        examples: Adversarial examples re-checked.
        samples: Clean images passed forward.
        problems: What is off.
        notes: What could not be checked, and why that is no fault.
        sound: Rows of which everything was checked and nothing is off.
    """

    models: int = 0
    files: int = 0
    examples: int = 0
    samples: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sound: list[Checked] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """What is verified.

    Attributes:
        slug: The model's name, for messages.
        model: The model, loaded, on ``device``.
        images: The dataset's images, shape (n, c, h, w), on the CPU.
        labels: Their labels, shape (n,).
        device: Where to check.
    """

    slug: str
    model: nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    device: str = "cpu"


def check(subject: Subject, proofs: Proofs, store: EvidenceStore, report: Report, *, chosen: NDArray[np.bool_]) -> None:
    """Re-check what the ledgers of a model say about the chosen samples.

    Every stored example must be finite, in the box, and change the label; the example that the ledger rests on must be
    there, at the distance the ledger says; none may be nearer than the ledger says; distance 0 must mean misclassified.

    Args:
        subject: The model and the data.
        proofs: Its ledgers and what they rest on.
        store: Where the evidence is.
        report: Takes the counts and the problems.
        chosen: Which samples, shape (dataset size,), bool.
    """
    report.models += 1
    doubtful = _check_clean(subject, proofs, report, chosen)
    seen: dict[int, dict[str, NDArray[np.float64]]] = {}
    for digest, users in _files(proofs, chosen).items():
        within = np.any(list(users.values()), axis=0)
        measured, doubts = _check_file(subject, proofs, store, report, digest=digest, within=within)
        doubtful += doubts
        for evaluation_id, mine in users.items():
            known = seen.setdefault(evaluation_id, {norm: np.full(len(chosen), np.nan) for norm in proofs.ledgers})
            for norm in proofs.ledgers:
                known[norm][mine] = measured[norm][mine]
    for evaluation_id, samples in proofs.samples.items():
        known = seen.get(evaluation_id) or {norm: np.full(len(chosen), np.nan) for norm in proofs.ledgers}
        report.problems += _compare(subject.slug, proofs, evaluation_id, samples & chosen, known)
    if doubtful:
        report.notes.append(
            f"{subject.slug}: its output is random; {doubtful} labels, each within three standard errors of changing, "
            "fell otherwise in this check's draws"
        )


def _files(proofs: Proofs, chosen: NDArray[np.bool_]) -> dict[str, dict[int, NDArray[np.bool_]]]:
    """The evidence files that concern chosen samples: digest -> evaluation -> those samples. Files may be shared."""
    files: dict[str, dict[int, NDArray[np.bool_]]] = {}
    for part in proofs.chunks:
        if part.digest is not None and chosen[part.start : part.stop].any():
            within = files.setdefault(part.digest, {}).setdefault(part.evaluation_id, np.zeros_like(chosen))
            within[part.start : part.stop] = chosen[part.start : part.stop]
    return files


def _check_clean(subject: Subject, proofs: Proofs, report: Report, chosen: NDArray[np.bool_]) -> int:
    """Distance 0 if and only if the clean image is misclassified; returns how many random outputs leave in doubt."""
    covered = np.any([found.covered for found in proofs.ledgers.values()], axis=0)
    rows = np.flatnonzero(covered & chosen)
    report.samples += len(rows)
    doubtful = 0
    for first in range(0, len(rows), BATCH):
        part = rows[first : first + BATCH]
        x, y = _batch(subject, part)
        checked = verify(subject.model, x, y, x)
        wrong = ~checked.correct.numpy()
        for norm, found in proofs.ledgers.items():
            off = np.flatnonzero(found.covered[part] & ((found.distances[part] == 0) != wrong))
            if checked.randomised:
                doubtful += len(off)
                continue
            report.problems += [
                Problem(subject.slug, _clean_text(bool(wrong[i]), float(found.distances[part[i]])), int(part[i]), norm)
                for i in off
                if not _is_tie(subject.model, x[i : i + 1], y[i : i + 1])
            ]
    return doubtful


def _is_tie(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> bool:
    """Whether rounding decides if one clean image is classified correctly; its label may then fall either way."""
    with torch.no_grad():
        logits = model(x)
    reject = rejects(model)
    size = deciding_size(logits, y, reject=reject)
    return bool(mean_lead(logits[None], y, reject=reject).abs() <= SLACK * size)


def _clean_text(wrong: bool, distance: float) -> str:
    if wrong:
        return f"the clean image is misclassified, but the ledger says {distance:.9g} where it must say 0"
    return "the ledger says 0, but the clean image is classified correctly"


def _check_file(
    subject: Subject, proofs: Proofs, store: EvidenceStore, report: Report, *, digest: str, within: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[np.float64]], int]:
    """Re-check the examples of one file.

    Returns:
        The distances of those that hold, NaN elsewhere, shape (size,); and how many a random output leaves in doubt.
    """
    measured = {norm: np.full(len(within), np.nan) for norm in proofs.ledgers}
    try:
        indices, examples = store.get(digest)
    except EvidenceError as error:
        report.problems.append(Problem(subject.slug, str(error)))
        return measured, 0
    report.files += 1
    if examples.shape[1:] != tuple(subject.images.shape[1:]) or (len(indices) and indices.max() >= len(within)):
        text = f"the evidence file {digest} holds examples of shape {examples.shape[1:]}, which are not of this dataset"
        report.problems.append(Problem(subject.slug, text))
        return measured, 0
    rows = np.flatnonzero(within[indices])
    report.examples += len(rows)
    doubtful = 0
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        doubtful += _check_batch(subject, proofs, report, indices[some], examples[some], measured=measured)
    return measured, doubtful


def _check_batch(
    subject: Subject,
    proofs: Proofs,
    report: Report,
    indices: NDArray[np.int64],
    examples: NDArray[np.float32],
    *,
    measured: dict[str, NDArray[np.float64]],
) -> int:
    """Re-check some examples; enters the distances of those that hold, returns how many are in doubt."""
    x, y = _batch(subject, indices)
    candidates = torch.from_numpy(examples).to(x)
    checked = verify(subject.model, x, y, candidates)
    reason = checked.reason.numpy()
    in_doubt = (reason == _UNCHANGED) & checked.randomised
    holds = np.isin(reason, _HOLDS) | in_doubt
    report.problems += [
        Problem(subject.slug, f"the stored example does not hold: {REASONS[reason[i]]}", int(indices[i]))
        for i in np.flatnonzero(~holds)
    ]
    for norm in proofs.ledgers:
        found = distances(x, candidates, norm).cpu().numpy()
        measured[norm][indices[holds]] = found[holds]
        said = proofs.ledgers[norm].distances[indices]
        nearer = (reason == 0) & (found < said * (1 - TOLERANCE))
        report.problems += [
            Problem(
                subject.slug,
                f"a stored example is at {found[i]:.9g}, nearer than the ledger's {said[i]:.9g}",
                int(indices[i]),
                norm,
            )
            for i in np.flatnonzero(nearer)
        ]
    return int(in_doubt.sum())


def _compare(
    slug: str,
    proofs: Proofs,
    evaluation_id: int,
    samples: NDArray[np.bool_],
    measured: dict[str, NDArray[np.float64]],
) -> Iterator[Problem]:
    """The distances that the ledger has from one evaluation against those of its examples."""
    for norm, found in proofs.ledgers.items():
        mine = np.flatnonzero(samples & (found.source == evaluation_id) & (found.distances > 0))
        said, seen = found.distances[mine], measured[norm][mine]
        off = ~(np.abs(seen - said) <= TOLERANCE * said)  # NaN, no example, is off too
        for i in np.flatnonzero(off):
            if np.isnan(seen[i]):
                text = f"the ledger says {said[i]:.9g}, but evaluation {evaluation_id} has no example that holds"
            else:
                text = f"the ledger says {said[i]:.9g}, its example is at {seen[i]:.9g}"
            yield Problem(slug, text, int(mine[i]), norm)


def _batch(subject: Subject, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    where = torch.from_numpy(rows)
    return subject.images[where].to(subject.device), subject.labels[where].to(subject.device)


def verify_board(
    database: Database,
    store: EvidenceStore,
    folders: Sequence[Path],
    *,
    slug: str | None = None,
    samples: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Report:
    """Re-check the board, or one model of it.

    Args:
        database: The database.
        store: Where its evidence is.
        folders: Folders of submitted models.
        slug: Only this model.
        samples: Only so many samples of each model, drawn at random.
        seed: Of the drawing.
        device: Where to check.

    Raises:
        UnknownNameError: If nothing on the board is of that name.
        InputError: If the board has nothing that could be verified.
    """
    report = Report()
    with database.read() as session:
        found = list(unsound(session, slug=slug))
        report.problems += [Problem(fault.model or "the board", fault.text) for fault in found]
        broken = {fault.model for fault in found}
        rows = [
            (session.get_one(Model, model_id), session.get_one(DatasetRow, dataset_id))
            for model_id, dataset_id in rows_with_evidence(session)
        ]
        known = {model.slug for model, _ in rows}
        if slug is not None and slug not in known:
            raise UnknownNameError("model on this board", slug, known)
        chosen = [(model, dataset) for model, dataset in rows if slug in {None, model.slug}]
        if not chosen and not found:
            raise InputError("There is nothing to verify: the board has no finished evaluation (curveboard evaluate).")
        newest = {model.slug: max(m.id for m, _ in rows if m.slug == model.slug) for model, _ in chosen}
        for model, dataset in chosen:
            if broken & {model.slug, ""}:
                continue  # what is stored of it is no ledger that examples could be held against
            _verify_row(
                session,
                model,
                dataset,
                store,
                report,
                folders=folders,
                superseded=model.id != newest[model.slug],
                samples=samples,
                seed=seed,
                device=device,
            )
    return report


def _verify_row(
    session: Session,
    model: Model,
    dataset: DatasetRow,
    store: EvidenceStore,
    report: Report,
    *,
    folders: Sequence[Path],
    superseded: bool,
    samples: int | None,
    seed: int,
    device: str,
) -> None:
    proofs = proofs_of(session, model_id=model.id, dataset_id=dataset.id)
    covered = np.any([found.covered for found in proofs.ledgers.values()], axis=0)
    if not covered.any():
        return
    if model.slug not in present(folders):
        report.notes.append(f"{model.slug}: {GONE}")
        return
    try:
        entry = get_entry(model.slug, folders)
        data = get_dataset(dataset.name)
    except (ZooError, UnknownNameError) as error:
        report.problems.append(Problem(model.slug, str(error)))
        return
    for what, here, there in (("model", entry.digest, model.digest), ("dataset", data.digest, dataset.digest)):
        if here != there:
            text = f"the {what} here has digest {here[:12]}…, the board's row is of {there[:12]}…"
            if superseded:
                report.notes.append(f"{model.slug}: {text}; an older row, its weights are gone, not checked")
            else:
                report.problems.append(Problem(model.slug, text))
            return
    try:
        images, labels = data.load(int(np.flatnonzero(covered)[-1]) + 1)
        subject = Subject(model.slug, load_entry(entry, device=device), images, labels, device)
    except (ZooError, BenchmarkError) as error:
        report.problems.append(Problem(model.slug, str(error)))
        return
    chosen = choose(covered, samples, seed)
    before = len(report.problems), report.samples, report.examples
    check(subject, proofs, store, report, chosen=chosen)
    if len(report.problems) == before[0] and chosen.sum() == covered.sum():
        report.sound.append(Checked(model.id, dataset.id, report.samples - before[1], report.examples - before[2]))


def choose(covered: NDArray[np.bool_], samples: int | None, seed: int) -> NDArray[np.bool_]:
    """Which of the covered samples to look at: all, or so many at random. Shape (n,), bool."""
    where = np.flatnonzero(covered)
    if samples is None or samples >= len(where):
        return covered
    mask = np.zeros_like(covered)
    mask[np.random.default_rng(seed).choice(where, samples, replace=False)] = True
    return mask
