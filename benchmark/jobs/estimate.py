"""What jobs will cost: by what the same measure cost so far, or by the passes that it states, timed on the model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

import torch
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from torch import Tensor, nn

from benchmark.data import Dataset
from benchmark.errors import BenchmarkError
from benchmark.jobs.job import Job
from benchmark.measures import get_measure
from benchmark.results import Work
from db.schema import Chunk, Evaluation, Model
from db.schema import Dataset as DatasetRow
from models_zoo import ZooError, get_entry
from models_zoo.cards import Entry
from models_zoo.fetch import is_cached
from models_zoo.loading import load_entry

REPEATS: Final = 5
"""Times that a pass is timed; the least counts: the others were disturbed."""

LONG: Final = 1.0
"""Seconds after which no further repeat is made."""

BATCH: Final = 64
"""Images of a timed pass, and at least two."""

LARGEST: Final = 1 << 20
"""Numbers in the images of a timed pass at most."""


@dataclass(frozen=True)
class Estimate:
    """What a job will cost.

    Attributes:
        passes: Forward and backward passes, in images.
        seconds: Wall time; None where the model could not be timed (it is not on this machine yet).
        basis: ``recorded``: by the same measure's evaluations so far; ``stated``: by the passes that the measure
            states before anything has run, and their time on this machine; ``limit``: the limit of time that ends it.
    """

    passes: float
    seconds: float | None
    basis: Literal["recorded", "stated", "limit"]


@dataclass(frozen=True)
class Cost:
    """What something takes: seconds a call, however few the images, and seconds an image."""

    call: float
    image: float

    def of(self, calls: float, images: float) -> float:
        """Seconds of so many calls on so many images in all."""
        return self.call * calls + self.image * images


@dataclass(frozen=True)
class Pace:
    """How fast a model is here.

    Attributes:
        forward: A forward pass.
        backward: A backward pass, the forward pass before it left out.
        operation: One elementwise operation on the images.
    """

    forward: Cost
    backward: Cost
    operation: Cost


def estimates(
    session: Session,
    jobs: Sequence[Job],
    *,
    datasets: Mapping[str, Dataset] | None = None,
    models: Sequence[Path] = (),
    device: str = "cpu",
) -> list[Estimate | None]:
    """What each job will cost; None where nothing is known.

    Args:
        session: An open session.
        jobs: The jobs.
        datasets: Of the jobs, by name: what has not run yet is estimated by what its measure states, and each model is
            timed for a second or so; without them only recorded costs are told.
        models: Folders of models besides the zoo's.
        device: Where the models are timed.
    """
    costs = _recorded_costs(session) if jobs else {}
    stopwatch = Stopwatch(models, device)
    found: list[Estimate | None] = []
    for job in jobs:
        kind = (job.measure, _shape(job.parameters))
        cost = costs.get((*kind, job.model)) or costs.get((*kind, job.dataset))
        if cost:
            found.append(Estimate(cost[0] * job.samples, cost[1] * job.samples, "recorded"))
        else:
            found.append(_stated(job, datasets[job.dataset], stopwatch) if datasets else None)
    return found


def _stated(job: Job, dataset: Dataset, stopwatch: Stopwatch) -> Estimate | None:
    measure = get_measure(job.measure)
    work = measure.work(measure.Parameters(**job.parameters), dataset)
    if work is None:
        return None
    if work.most_seconds:
        return Estimate(0.0, work.most_seconds * job.samples, "limit")
    pace, seconds = stopwatch.pace(job.model, dataset), None
    if pace is not None:
        seconds = seconds_of(work, pace, samples=job.samples, chunks=math.ceil(job.samples / measure.chunk))
    return Estimate((work.forward + work.backward) * job.samples, seconds, "stated")


def seconds_of(work: Work, pace: Pace, *, samples: int, chunks: int) -> float:
    """How long work takes on so many samples, computed in so many chunks."""
    steps, forward = work.steps * chunks + work.sample_steps * samples, work.forward * samples
    backward_steps = steps * work.backward / work.forward if work.forward else 0.0
    return (
        pace.forward.of(steps, forward)
        + pace.backward.of(backward_steps, work.backward * samples)
        + work.operations * pace.operation.of(steps, forward)
    )


class Stopwatch:
    """Times models, each once for each size of batches, on images of noise.

    Args:
        folders: Folders of models besides the zoo's.
        device: Where.
        clock: What tells the time, in seconds.
    """

    def __init__(self, folders: Sequence[Path], device: str, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock, self.folders, self.device = clock, folders, torch.device("cuda:0" if device == "cuda" else device)
        self._model = lru_cache(maxsize=1)(self._load)
        self._known: dict[str, Pace | None] = {}

    def pace(self, slug: str, dataset: Dataset) -> Pace | None:
        """A model's pace on images of a dataset; None where its files are not on this machine, or it fails."""
        if slug not in self._known:
            batch = max(2, min(BATCH, LARGEST // math.prod(dataset.shape)))
            self._known[slug] = self._timed(slug, torch.rand(batch, *dataset.shape, device=self.device))
        return self._known[slug]

    def _load(self, slug: str) -> nn.Module | None:
        entry = get_entry(slug, self.folders)
        if not _is_here(entry):
            return None
        return load_entry(entry, device=self.device)

    def _timed(self, slug: str, x: Tensor) -> Pace | None:
        try:
            model = self._model(slug)
            if model is None:
                return None
            forward = self._cost(lambda images: self._passed(model, images), x)
            both = self._cost(lambda images: _gradient(model, images), x)
        except (ZooError, BenchmarkError, RuntimeError, MemoryError):
            return None  # the job itself will say why
        backward = Cost(max(both.call - forward.call, 0.0), max(both.image - forward.image, 0.0))
        return Pace(forward, backward, self._cost(lambda images: images.clamp(0.1, 0.9), x))

    def _passed(self, model: nn.Module, x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(x)
        return logits

    def _cost(self, act: Callable[[Tensor], object], x: Tensor) -> Cost:
        """From the time of one image and that of all of them."""
        one, all_ = self._least(lambda: act(x[:1])), self._least(lambda: act(x))
        image = max(all_ - one, 0.0) / (len(x) - 1)
        return Cost(max(one - image, 0.0), image)

    def _least(self, act: Callable[[], object]) -> float:
        act()  # the first call pays for much that later ones do not
        taken: list[float] = []
        while len(taken) < REPEATS and sum(taken) < LONG:
            with self._finished():
                begin = self.clock()
                act()
            taken.append(self.clock() - begin)
        return min(taken)

    @contextmanager
    def _finished(self) -> Iterator[None]:
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _gradient(model: nn.Module, x: Tensor) -> Tensor:
    """The gradient of the logits' sum; of a model without gradients the forward pass alone."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        logits: Tensor = model(leaf).sum()
        if not logits.requires_grad:
            return logits
        (gradient,) = torch.autograd.grad(logits, leaf, allow_unused=True)
    return leaf if gradient is None else gradient


def _is_here(entry: Entry) -> bool:
    """Whether all files of a model are on this machine: a plan downloads nothing."""
    return all(not weights.urls or is_cached(weights.remote) for weights in entry.weights)


def _recorded_costs(session: Session) -> dict[tuple[str, str, str], tuple[float, float]]:
    """(measure, parameters, model or dataset) -> passes and seconds a sample."""
    query = (
        select(
            Evaluation.id,
            func.sum(Chunk.stop - Chunk.start),
            func.sum(Chunk.forward_passes + Chunk.backward_passes),
            func.sum(Chunk.seconds),
        )
        .join(Chunk, Chunk.evaluation_id == Evaluation.id)
        .group_by(Evaluation.id)
    )
    totals: dict[tuple[str, str, str], list[float]] = {}
    rows = {e.id: (e, m, d) for e, m, d in session.execute(
        select(Evaluation, Model.slug, DatasetRow.name)
        .join(Model, Evaluation.model_id == Model.id)
        .join(DatasetRow, Evaluation.dataset_id == DatasetRow.id)
    )}  # fmt: skip
    for evaluation_id, samples, passes, seconds in session.execute(query):
        evaluation, slug, dataset = rows[evaluation_id]
        for place in (slug, dataset):
            total = totals.setdefault((evaluation.measure, _shape(evaluation.parameters), place), [0.0, 0.0, 0.0])
            total[0] += samples
            total[1] += passes
            total[2] += seconds
    return {k: (passes / samples, seconds / samples) for k, (samples, passes, seconds) in totals.items()}


def _shape(parameters: Mapping[str, Any]) -> str:
    """The parameters that matter for the cost: all but eps."""
    return repr(sorted((k, v) for k, v in parameters.items() if k != "eps"))
