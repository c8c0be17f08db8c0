"""Attack credit: what each source of adversarial examples contributed to the ledgers, and at what cost. No torch."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmark.board.ledger import Contribution, contributions, merged
from benchmark.board.norms import ledger_norms
from benchmark.threat.budget import within
from db.schema import Cell, Chunk, Dataset, Evaluation, State

CLEARLY: Final = 0.01
"""A contributor alone decided a sample if the others' distances are all larger by more than this share."""

Distances = NDArray[np.float64]
K = TypeVar("K")


@dataclass(frozen=True)
class AttackCredit:
    """What one contributor added to the curves of one norm, summed or averaged over all models of a dataset.

    Attributes:
        contributor: The attack's name; ``challenge: AUTHOR`` or ``transfer`` for the others.
        norm: The norm of the curves.
        models: On how many models it was run.
        samples: On how many samples in all.
        decided: Samples that it alone decided: without it their smallest known distance would be larger by more than
            `CLEARLY`.
        shared: Samples whose smallest distance it found, but another contributor too, or nearly.
        found: Samples for which nothing but it found any adversarial example.
        area: By how much it lowered the area under the robust-accuracy curve, up to the norm's largest published eps
            (units of distance); the mean over the models. 0 where no eps is published.
        robust_accuracy: Published eps -> by how much it lowered the robust accuracy there (a share), mean over the
            models.
        seconds: Time it took, in all; it is the same in every norm, since an example counts in each.
        forward_passes: Images passed forward, in all.
        backward_passes: Images passed backward, in all.
    """

    contributor: str
    norm: str
    models: int
    samples: int
    decided: int
    shared: int
    found: int
    area: float
    robust_accuracy: Mapping[float, float]
    seconds: float
    forward_passes: int
    backward_passes: int


def contributor(measure: str, parameters: Mapping[str, Any], provenance: Mapping[str, Any] | None = None) -> str:
    """Who is credited for an evaluation.

    Whom its measure named when it ran; else the attack, or the author, among its parameters; else the measure itself.
    """
    named = (provenance or {}).get("method", {}).get("contributor")
    if named:
        return str(named)
    if "author" in parameters:
        return f"{measure}: {parameters['author'] or 'anonymous'}"
    return str(parameters.get("attack") or measure)


def credit(
    session: Session,
    *,
    dataset_id: int,
    n: int,
    protocol_id: int | None = None,
    model_ids: Sequence[int] | None = None,
    as_of: datetime | None = None,
) -> list[AttackCredit]:
    """The credit of every contributor, by norm, the most decisive first.

    Args:
        session: An open session.
        dataset_id: The dataset.
        n: Size of the slice.
        protocol_id: Only models with a row of this protocol (on this dataset and slice).
        model_ids: Only these models.
        as_of: Only evaluations finished by then.
    """
    dataset = session.get_one(Dataset, dataset_id)
    norms = ledger_norms(session, dataset_id=dataset_id)
    eps = {norm: sorted(dataset.card.get("eps", {}).get(norm, ())) for norm in norms}
    costs = _costs(session, dataset_id, as_of)
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    for model_id in _models(session, dataset_id, n, protocol_id, model_ids):
        for norm in norms:
            best = _best(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=n, as_of=as_of)
            for name, share in shares(best, up_to=max(eps[norm], default=0.0), eps=eps[norm]):
                tallies[name, norm].add(share, costs[model_id, name])
    order = {norm: i for i, norm in enumerate(norms)}
    found = [tally.credit(name, norm) for (name, norm), tally in tallies.items()]
    return sorted(found, key=lambda c: (order[c.norm], -c.decided, -c.shared, c.contributor))


@dataclass
class _Tally:
    models: int = 0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(4, dtype=np.int64))
    area: float = 0.0
    drops: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    cost: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    def add(self, share: Share, cost: NDArray[np.float64]) -> None:
        self.models += 1
        self.counts += (share.samples, share.alone, share.shared, share.found)
        self.area += share.area
        self.cost += cost
        for eps, drop in share.drops.items():
            self.drops[eps] += drop

    def credit(self, name: str, norm: str) -> AttackCredit:
        samples, decided, shared, found = (int(count) for count in self.counts)
        drops = {eps: drop / self.models for eps, drop in self.drops.items()}
        seconds, forward, backward = self.cost
        return AttackCredit(
            name,
            norm,
            self.models,
            samples,
            decided,
            shared,
            found,
            self.area / self.models,
            drops,
            float(seconds),
            int(forward),
            int(backward),
        )


@dataclass(frozen=True)
class Share:
    """One contributor's part in one model's ledger of one norm.

    Attributes:
        samples: Samples it looked at.
        nearest: Samples whose smallest distance it found; of equals the contributor that comes first.
        alone: Samples whose distance would be larger by more than `CLEARLY` without it.
        shared: Samples whose smallest distance it found, and another contributor too, or nearly.
        found: Samples for which nothing but it found any adversarial example.
        area: By how much it lowered the mean of min(distance, bound).
        optimality: Mean of (smallest known distance ÷ its own) over the samples it looked at that have an example;
            None if there is none.
        drops: eps -> by how much it lowered the robust accuracy there, a share.
    """

    samples: int
    nearest: int
    alone: int
    shared: int
    found: int
    area: float
    optimality: float | None
    drops: Mapping[float, float]


def shares(
    best: Mapping[K, tuple[Distances, NDArray[np.bool_]]], *, up_to: float, eps: Sequence[float] = ()
) -> Iterator[tuple[K, Share]]:
    """Each contributor's part in one model's ledger.

    Args:
        best: Contributor -> its own smallest distances, shape (n,), ``inf`` where it found nothing, 0 where the clean
            image is misclassified; and the samples it looked at, shape (n,), bool.
        up_to: Bound of the areas.
        eps: Budgets at which the robust accuracy is wanted.
    """
    if not best:
        return
    table = np.stack([distances for distances, _ in best.values()])
    looked = np.stack([covered for _, covered in best.values()])
    full, first = table.min(axis=0), table.argmin(axis=0)
    counted = looked.any(axis=0)
    total = max(int(counted.sum()), 1)
    broken = (full > 0) & np.isfinite(full)
    for row, name in enumerate(best):
        without = np.where(full > 0, np.delete(table, row, axis=0).min(axis=0, initial=np.inf), 0.0)
        mine = broken & (table[row] == full)
        alone = mine & (without > full * (1 + CLEARLY))
        asked = broken & looked[row]
        yield (
            name,
            Share(
                samples=int(looked[row].sum()),
                nearest=int((broken & (first == row)).sum()),
                alone=int(alone.sum()),
                shared=int((mine & ~alone).sum()),
                found=int((mine & np.isinf(without)).sum()),
                area=float((np.minimum(without, up_to) - np.minimum(full, up_to))[counted].sum() / total),
                optimality=float((full[asked] / table[row][asked]).mean()) if asked.any() else None,
                drops={e: float((within(full, e) & ~within(without, e) & counted).sum() / total) for e in eps},
            ),
        )


def _best(
    session: Session, *, model_id: int, dataset_id: int, norm: str, n: int, as_of: datetime | None
) -> dict[str, tuple[Distances, NDArray[np.bool_]]]:
    """For each contributor the smallest distance it found, and where it looked; a misclassified image is nobody's."""
    parts: dict[str, list[Contribution]] = defaultdict(list)
    found = contributions(session, model_id=model_id, dataset_id=dataset_id, norm=norm, n=n, as_of=as_of)
    for evaluation, part in found:
        parts[contributor(evaluation.measure, evaluation.parameters, evaluation.provenance)].append(part)
    ledgers = {name: merged(own, n) for name, own in parts.items()}
    misclassified = merged(itertools.chain.from_iterable(parts.values()), n).distances == 0
    return {
        name: (np.where(misclassified, 0.0, own.distances), own.covered)
        for name, own in sorted(ledgers.items(), key=lambda item: parts[item[0]][0].evaluation_id)
    }


def _costs(session: Session, dataset_id: int, as_of: datetime | None) -> Mapping[tuple[int, str], NDArray[np.float64]]:
    """Seconds, forward and backward passes by model and contributor; what slices share counts once."""
    query = (
        select(
            Evaluation,
            Chunk.start,
            Chunk.stop,
            Chunk.seconds,
            Chunk.forward_passes,
            Chunk.backward_passes,
        )
        .join(Chunk, Chunk.evaluation_id == Evaluation.id)
        .where(Evaluation.dataset_id == dataset_id, Evaluation.state == State.DONE)
        .order_by(Evaluation.n.desc(), Evaluation.id)
    )
    if as_of is not None:
        query = query.where(Evaluation.finished_at <= as_of)
    costs: dict[tuple[int, str], NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
    counted: dict[str, set[int]] = defaultdict(set)
    for evaluation, start, stop, *cost in session.execute(query):
        samples = counted[evaluation.content_key or evaluation.key]
        share = len(set(range(start, stop)) - samples) / (stop - start)
        samples.update(range(start, stop))
        name = contributor(evaluation.measure, evaluation.parameters, evaluation.provenance)
        costs[evaluation.model_id, name] += share * np.array(cost, dtype=np.float64)
    return costs


def _models(
    session: Session, dataset_id: int, n: int, protocol_id: int | None, model_ids: Sequence[int] | None
) -> list[int]:
    query = select(Evaluation.model_id).where(Evaluation.dataset_id == dataset_id).distinct()
    if protocol_id is not None:
        query = (
            select(Cell.model_id)
            .where(Cell.dataset_id == dataset_id, Cell.protocol_id == protocol_id, Cell.n == n)
            .distinct()
        )
    found = sorted(session.scalars(query))
    return found if model_ids is None else [model_id for model_id in found if model_id in set(model_ids)]
