"""Challenges: adversarial examples that somebody else brings, believed only when re-checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session
from torch import nn

from benchmark.board.ledger import ledger
from benchmark.board.norms import ledger_norms
from benchmark.data import Dataset
from benchmark.errors import InputError
from benchmark.evidence.challenge_file import ChallengeFile
from benchmark.threat import norm_names
from benchmark.verification import verify
from db.schema import Dataset as DatasetRow
from db.schema import Model
from db.session import Database
from models_zoo import Entry

Distances = Mapping[str, NDArray[np.float64]]

MAX_TEXT: Final = 300

HOLDS: Final = "holds"
"""The verdict on an example that changes the label; all other verdicts are reasons why one does not hold."""

_REASONS: Final = {
    1: "not finite",
    2: "outside the box",
    3: "label not changed",
    4: "label changed only within floating-point slack",
    6: "rejected by the model",
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
class Examined:
    """What became of the examples of a challenge.

    Attributes:
        verdicts: One for each row of the file, in its order.
    """

    verdicts: Sequence[Verdict]

    @property
    def counts(self) -> dict[str, int]:
        """How many examples got each verdict."""
        return dict(Counter(v.verdict for v in self.verdicts))

    @property
    def holding(self) -> int:
        """How many examples hold."""
        return sum(v.verdict == HOLDS for v in self.verdicts)

    @property
    def winners(self) -> NDArray[np.int64]:
        """The file's rows that lower a distance, in the order of their samples."""
        rows = sorted((v for v in self.verdicts if v.lowers), key=lambda v: v.index)
        return np.array([v.position for v in rows], dtype=np.int64)


def examine(
    database: Database,
    *,
    entry: Entry,
    model: nn.Module,
    dataset: Dataset,
    file: ChallengeFile,
    norm: str | None = None,
    device: str = "cpu",
) -> Examined:
    """Re-check every example of a file; nothing is changed.

    Args:
        database: The database.
        entry: The challenged model.
        model: The same, loaded, on ``device``.
        dataset: The dataset.
        file: What the challenger brings.
        norm: The norm that the examples were made for.
        device: Where to check.

    Raises:
        InputError: If the examples have not the images' shape.
    """
    if file.examples.shape[1:] != dataset.shape:
        raise InputError(
            f"{file.name}: the examples have shape {file.examples.shape}; of {dataset.name!r} each is {dataset.shape}."
        )
    with database.read() as session:
        present = present_distances(session, entry, dataset, also=norm)
    admissible, verdicts = _admissible(file.indices, dataset.size)
    if len(admissible):
        checked = _check(model, dataset, file, admissible, device=device)
        verdicts |= dict(_verdicts(file, admissible, checked, present))
    return Examined([verdicts[i] for i in range(len(file.indices))])


def present_distances(session: Session, entry: Entry, dataset: Dataset, *, also: str | None = None) -> Distances:
    """The ledger's distances of a model on the whole dataset: norm -> shape (size,), float64; ``inf`` without a row.

    Of the norms whose ledgers are kept up and of ``also``; without a row, of all.
    """
    model = select(Model.id).where(Model.slug == entry.slug, Model.digest == entry.digest)
    data = select(DatasetRow.id).where(DatasetRow.name == dataset.name, DatasetRow.digest == dataset.digest)
    model_id, dataset_id = session.scalar(model), session.scalar(data)
    if model_id is None or dataset_id is None:
        return {norm: np.full(dataset.size, np.inf) for norm in norm_names()}
    kept = ledger_norms(session, dataset_id=dataset_id, model_id=model_id)
    return {
        norm: ledger(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=dataset.size).distances
        for norm in norm_names()
        if norm in kept or norm == also
    }


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
    parts = []
    for first in range(0, len(rows), 500):
        part = rows[first : first + 500]
        images, labels = samples(dataset, file.indices[part])
        x, y = images.to(device), labels.to(device)
        candidates = torch.from_numpy(file.examples[part]).to(device)
        checked = verify(model, x, y, candidates)
        parts.append(
            (
                {norm: checked.distances[norm].numpy() for norm in norm_names()},
                checked.reason.numpy(),
                checked.correct.numpy(),
                labels.numpy(),
            )
        )
    return _Checked(
        {norm: np.concatenate([p[0][norm] for p in parts]) for norm in norm_names()},
        *(np.concatenate([p[i] for p in parts]) for i in (1, 2, 3)),
    )


def samples(dataset: Dataset, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """The images and labels of some samples, in the order given; nothing else is converted."""
    found = [dataset.batch(i, i + 1) for i in indices.tolist()]
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


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
