"""Challenges: adversarial examples that somebody else brings, believed only when re-checked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmark.data import Dataset
from benchmark.errors import InputError
from benchmark.evidence.challenge_file import ChallengeFile
from benchmark.evidence.entering import Accepted, Distances, enter, guest_job, is_known, present_distances
from benchmark.evidence.store import EvidenceStore
from benchmark.jobs.provenance import provenance
from benchmark.results import Score
from benchmark.threat import norm_names
from benchmark.verification import verify
from db.schema import Change
from db.session import Database
from models_zoo import Entry

MAX_TEXT: Final = 300

HOLDS: Final = "holds"
"""The verdict on an example that changes the label; all other verdicts are reasons why one does not hold."""

_REASONS: Final = {
    1: "not finite",
    2: "outside the box",
    3: "label not changed",
    4: "label changed only within floating-point slack",
}


@dataclass(frozen=True)
class Credentials:
    """Who brings a challenge, as they say.

    Attributes:
        norm: The norm the examples were made for; whatever they lower in the other norms counts as well.
        author: Who found them.
        paper: Where it is described.
    """

    norm: str | None = None
    author: str = ""
    paper: str = ""

    def __post_init__(self) -> None:
        for name in ("author", "paper"):
            text = getattr(self, name)
            if len(text) > MAX_TEXT or not text.isprintable():
                raise InputError(
                    f"The {name} {text[:60]!r} cannot be used: at most {MAX_TEXT} printable characters, on one line."
                )


@dataclass(frozen=True)
class Verdict:
    """What became of one example.

    Attributes:
        position: Its row in the file.
        index: The sample it claims to be of.
        verdict: `HOLDS`, or why it does not.
        detail: The value seen.
        lowers: Norm -> the distance before and after, where it lowers one.
    """

    position: int
    index: int
    verdict: str
    detail: str
    lowers: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Answer:
    """The outcome of a challenge.

    Attributes:
        verdicts: One for each row of the file, in its order.
        change: What it changed on the board; None for a dry run, or where nothing changed.
        known: Whether this very file had been accepted before.
        merged: How many examples joined the ledger.
    """

    verdicts: Sequence[Verdict]
    change: Change | None
    known: bool
    merged: int

    @property
    def counts(self) -> dict[str, int]:
        """How many examples got each verdict."""
        return dict(Counter(v.verdict for v in self.verdicts))

    @property
    def holding(self) -> int:
        """How many examples hold."""
        return sum(v.verdict == HOLDS for v in self.verdicts)


def challenge(
    database: Database,
    store: EvidenceStore,
    *,
    entry: Entry,
    model: nn.Module,
    dataset: Dataset,
    file: ChallengeFile,
    credentials: Credentials,
    device: str = "cpu",
    dry_run: bool = False,
) -> Answer:
    """Re-check every example of a file, and merge those that lower a distance into the ledger.

    Args:
        database: The database.
        store: Where the accepted examples go.
        entry: The challenged model.
        model: The same, loaded, on ``device``.
        dataset: The dataset.
        file: What the challenger brings.
        credentials: Who they are.
        device: Where to check.
        dry_run: Check and answer; change nothing.

    Raises:
        InputError: If the examples have not the images' shape.
    """
    if file.examples.shape[1:] != dataset.shape:
        raise InputError(
            f"{file.name}: the examples have shape {file.examples.shape}; of {dataset.name!r} each is {dataset.shape}."
        )
    begin = time.perf_counter()
    with database.read() as session:
        present = present_distances(session, entry, dataset, also=credentials.norm)
    admissible, verdicts = _admissible(file.indices, dataset.size)
    distances = {norm: np.full(len(file.indices), np.inf) for norm in norm_names()}
    if len(admissible):
        checked = _check(model, dataset, file, admissible, device=device)
        for norm in norm_names():
            distances[norm][admissible] = checked.distances[norm]
        verdicts |= dict(_verdicts(file, admissible, checked, present))
    ordered = [verdicts[i] for i in range(len(file.indices))]
    winners = np.array([v.position for v in ordered if v.lowers], dtype=np.int64)
    winners = winners[np.argsort(file.indices[winners], kind="stable")]
    job = guest_job(
        entry,
        dataset,
        measure="challenge",
        samples=len(file.indices),
        parameters={
            "norm": credentials.norm,
            "author": credentials.author,
            "paper": credentials.paper,
            "sha256": file.sha256,
        },
    )
    with database.read() as session:
        known = is_known(session, job)
    if dry_run or known or not len(winners):
        return Answer(ordered, None, known, 0)
    accepted = Accepted(
        indices=file.indices[winners],
        distances={norm: distances[norm][winners] for norm in norm_names()},
        evidence=store.put(file.indices[winners], file.examples[winners]),
        seconds=time.perf_counter() - begin,
        forward_passes=2 * len(admissible),
    )
    with database.write() as session:
        change = enter(
            session,
            job,
            entry=entry,
            dataset=dataset,
            accepted=accepted,
            scores=[
                Score("examples", float(len(ordered)), unit="examples"),
                Score("holding", float(sum(v.verdict == HOLDS for v in ordered)), unit="examples"),
                Score("merged", float(len(winners)), unit="examples"),
            ],
            provenance=provenance(device) | {"file": file.name, "sha256": file.sha256},
        )
    return Answer(ordered, change, False, len(winners))


@dataclass(frozen=True)
class _Checked:
    distances: Distances
    reason: NDArray[np.int64]
    correct: NDArray[np.bool_]
    labels: NDArray[np.int64]


def _check(
    model: nn.Module, dataset: Dataset, file: ChallengeFile, rows: NDArray[np.int64], *, device: str
) -> _Checked:
    """The central function's word on these rows of the file."""
    images, labels = dataset.load(int(file.indices[rows].max()) + 1)
    parts = []
    for first in range(0, len(rows), 500):
        part = rows[first : first + 500]
        where = torch.from_numpy(file.indices[part])
        x, y = images[where].to(device), labels[where].to(device)
        candidates = torch.from_numpy(file.examples[part]).to(device)
        checked = verify(model, x, y, candidates)
        parts.append(
            (
                {norm: checked.distances[norm].numpy() for norm in norm_names()},
                checked.reason.numpy(),
                checked.correct.numpy(),
                labels[where].numpy(),
            )
        )
    return _Checked(
        {norm: np.concatenate([p[0][norm] for p in parts]) for norm in norm_names()},
        *(np.concatenate([p[i] for p in parts]) for i in (1, 2, 3)),
    )


def _admissible(indices: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], dict[int, Verdict]]:
    """The rows whose index names a sample for the first time, and the verdict on all others."""
    verdicts: dict[int, Verdict] = {}
    seen: dict[int, int] = {}
    for position, index in enumerate(indices.tolist()):
        if not 0 <= index < size:
            verdicts[position] = Verdict(position, index, "index out of range", f"the dataset has 0 to {size - 1}", {})
        elif index in seen:
            first = f"row {seen[index]} has the same index; bring one example a sample, or several files"
            verdicts[position] = Verdict(position, index, "duplicate index", first, {})
        else:
            seen[index] = position
    return np.array([i for i in range(len(indices)) if i not in verdicts], dtype=np.int64), verdicts


def _verdicts(
    file: ChallengeFile, rows: NDArray[np.int64], checked: _Checked, present: Distances
) -> list[tuple[int, Verdict]]:
    found = []
    for i, position in enumerate(rows.tolist()):
        index = int(file.indices[position])
        reason = int(checked.reason[i])
        if not checked.correct[i]:
            verdict = Verdict(position, index, "already misclassified", "the clean image is: its distance is 0", {})
        elif reason:
            detail = _detail(reason, file.examples[position], label=int(checked.labels[i]))
            verdict = Verdict(position, index, _REASONS[reason], detail, {})
        else:
            lowers = {
                str(norm): (float(present[norm][index]), float(checked.distances[norm][i]))
                for norm in present
                if checked.distances[norm][i] < present[norm][index]
            }
            detail = ", ".join(f"{norm} {checked.distances[norm][i]:.6g}" for norm in present)
            verdict = Verdict(position, index, HOLDS, detail, lowers)
        found.append((position, verdict))
    return found


def _detail(reason: int, example: NDArray[np.float32], *, label: int) -> str:
    if reason == 1:
        return f"{int((~np.isfinite(example)).sum())} of its values are not finite numbers"
    if reason == 2:
        beyond = max(float(-example.min()), float(example.max()) - 1.0)
        return f"by {beyond:.2g}; values must lie in [0, 1], with no tolerance"
    if reason == 3:
        return f"the model still says {label}"
    return "another machine could refute it; move it slightly further across the boundary"
