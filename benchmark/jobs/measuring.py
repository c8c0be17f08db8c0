"""Measuring the chunks of a job: model and images in, re-checked results out. Any process can, and asks no database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmark import flags
from benchmark.board import checks
from benchmark.board.job import Job
from benchmark.board.record import ChunkResult
from benchmark.counting import CountingModel
from benchmark.data import Dataset, get_dataset
from benchmark.data.suites import get_suite
from benchmark.errors import InputError
from benchmark.evidence.store import StoredEvidence
from benchmark.isolation import Isolated, isolated
from benchmark.jobs.job import seed_of
from benchmark.jobs.workbench import Workbench, infrastructure
from benchmark.measures import Measure, Needs, Result, Task, get_measure
from benchmark.memory import give_back, out_of_memory
from benchmark.modes import full_precision
from benchmark.rejection import refuse_rejection, rejects
from benchmark.results import Flag, Output
from benchmark.threat import norm_names
from benchmark.threat.goals import Threat
from benchmark.verification import verify

Known = Mapping[str, NDArray[np.float64]]
"""What is known of some samples' distances, by norm."""


@dataclass(frozen=True)
class Subject:
    """What a job names, looked up.

    Attributes:
        measure: The measure.
        parameters: Its parameters.
        needs: What it needs.
        dataset: The images.
        outputs: What it declares to give.
        examples: The adversarial examples that it needs, by sample.
    """

    measure: Measure[Any]
    parameters: Any
    needs: Needs
    dataset: Dataset
    outputs: tuple[Output, ...]
    examples: Mapping[int, NDArray[np.float32]]

    @classmethod
    def of(cls, job: Job, bench: Workbench) -> Subject:
        """The subject of a job; raises `BenchmarkError` if it is not there, or not as the plan found it."""
        measure: Measure[Any] = get_measure(job.measure)
        parameters = measure.Parameters(**job.parameters)
        needs: Needs = measure.needs(parameters)
        dataset = bench.dataset(job.dataset, job.dataset_digest)
        outputs: tuple[Output, ...] = tuple(measure.outputs(parameters, dataset))
        checks.check_declaration(measure.name, outputs)
        examples: dict[int, NDArray[np.float32]] = {}
        with infrastructure():
            for digest in needs.examples:
                indices, found = bench.store.get(digest)
                examples |= dict(zip(indices.tolist(), found, strict=True))
        return cls(measure, parameters, needs, dataset, outputs, examples)


class Measuring:
    """Measures chunks of one job.

    Args:
        job: The job.
        subject: What it names.
        bench: What it works with.
    """

    def __init__(self, job: Job, subject: Subject, bench: Workbench) -> None:
        self.job, self.bench = job, bench
        self.measure, self.parameters, self.needs = subject.measure, subject.parameters, subject.needs
        self.dataset, self.outputs, self.examples = subject.dataset, subject.outputs, subject.examples
        self._sources = self._load_sources()
        self._most: float = np.inf
        """Samples that are measured at a time: fewer than the measure's chunk where memory does not hold these."""

    def measured(self, start: int, stop: int, known: Known) -> Iterator[ChunkResult]:
        """Measure samples ``start`` to ``stop``: one result, or several in order where memory does not hold one.

        Args:
            start: The first sample.
            stop: One past the last.
            known: What is known of these samples' distances, if the measure needs it.
        """
        pieces = [(start, stop)]
        while pieces:
            first, last = pieces.pop()
            part = {norm: distances[first - start : last - start] for norm, distances in known.items()}
            result = self._fitting(first, last, part)
            if result is None:
                middle = (first + last) // 2
                pieces += [(middle, last), (first, middle)]
            else:
                yield result

    def _load_sources(self) -> dict[str, CountingModel]:
        """The other models that the measure needs, each of the dataset's label space and image shape."""
        found = {}
        for slug in self.needs.sources:
            digest = self.job.needs.get(f"source:{slug}", "")
            module = self.bench.source(slug, digest, self.dataset)
            found[slug] = CountingModel(module).eval()
        return found

    def _fitting(self, start: int, stop: int, known: Known) -> ChunkResult | None:
        """Measure the samples; None if they are more than memory holds, and fewer at a time may be tried.

        They are tried twice: what others held for a moment must not change how the samples are cut.
        """
        divisible = self.measure.per_sample and stop - start > 1
        if divisible and stop - start > self._most:
            return None
        for last in (False, True):
            try:
                return self._chunk(start, stop, known)
            except Exception as error:
                if not out_of_memory(error) or (last and not divisible):
                    raise
            give_back()
        self._most = (stop - start + 1) // 2
        return None

    def _chunk(self, start: int, stop: int, known: Known) -> ChunkResult:
        """Measure samples ``start`` to ``stop`` on copies, and re-check what was found on the originals."""
        module = self.bench.model(self.job.model, self.job.model_digest)
        x, y = (data.to(self.bench.device) for data in self.dataset.batch(start, stop))
        _require_logits(module, x[:1], self.job, self.dataset)
        if not self.measure.abstaining:
            refuse_rejection(module, f"the measure {self.measure.name!r}")
        pool = self.bench.pool(self.job.dataset, self.job.dataset_digest) if self.needs.pool else None
        devices = [torch.device(self.bench.device)] if self.bench.device.startswith("cuda") else []
        seed = seed_of(self.job, start)
        before = _passes(self._sources)
        with isolated(module, x, y, pool) as own, full_precision(), torch.random.fork_rng(devices=devices):
            counted = CountingModel(own.model).eval()
            task = self._task(counted, own, known, first=start, seed=seed)
            torch.manual_seed(seed)
            begin = time.perf_counter()
            result = self.measure.run(task, self.parameters)
            seconds = time.perf_counter() - begin
        if not isinstance(result, Result):
            raise InputError(f"{self.measure.name}: run must return a Result, got {type(result).__name__}.")
        arrays, evidence = self._check(result, module, x, y, first=start)
        noticed = list(result.flags)
        if rejects(module):
            noticed.append(Flag(flags.REJECTS, f"The model may reject images. {flags.REJECTION}"))
        if own.changed:
            text = (
                f"{self.measure.name} changed what it was lent ({own.described()}); it was put back before verifying."
            )
            noticed.append(Flag(flags.MODEL_CHANGED, text))
        others = tuple(after - since for after, since in zip(_passes(self._sources), before, strict=True))
        return ChunkResult(
            start=start,
            stop=stop,
            arrays=arrays,
            evidence=evidence,
            flags=noticed,
            seconds=seconds,
            forward_passes=counted.forward_passes + others[0],
            backward_passes=counted.backward_passes + others[1],
        )

    def _task(self, model: nn.Module, own: Isolated, known: Known, *, first: int, seed: int) -> Task:
        brought = None
        if self.needs.examples:
            rows = np.stack([self.examples[first + i] for i in range(len(own.x))])
            brought = torch.from_numpy(rows).to(self.bench.device)
        return Task(
            model=model,
            module=own.model,
            x=own.x,
            y=own.y,
            first=first,
            seed=seed,
            pool=own.pool,
            distances=known,
            dataset=self.dataset,
            suites={name: get_suite(name).on(self.dataset) for name in self.needs.suites},
            splits={name: self.dataset.split(name) for name in self.needs.splits},
            datasets={name: get_dataset(name) for name in self.needs.datasets},
            initial=self.bench.initial(self.job.model) if self.needs.initial else None,
            examples=brought,
            sources=self._sources,
            itself=frozenset(
                slug for slug in self._sources if self.job.needs.get(f"source:{slug}") == self.job.model_digest
            ),
        )

    def _check(
        self, result: Result, module: nn.Module, x: Tensor, y: Tensor, *, first: int
    ) -> tuple[dict[str, NDArray[Any]], StoredEvidence | None]:
        """Re-check what was found; store the adversarial examples that hold."""
        arrays = {name: np.asarray(array) for name, array in result.arrays.items()}
        forged = sorted(name for name in arrays if name.startswith("distance_"))
        if forged:
            raise InputError(
                f"{self.measure.name}: arrays called distance_… are the evaluator's own, but it gives "
                f"{', '.join(forged)}. Return adversarial examples instead, or choose another name."
            )
        if result.adversarials is None:
            checks.check_arrays(self.measure.name, arrays, self.outputs, len(x))
            return arrays, None
        if result.adversarials.is_complex():
            raise InputError(f"{self.measure.name}: its adversarial examples are complex numbers, not images.")
        candidates = result.adversarials.detach().as_subclass(torch.Tensor).to(x)  # no class of the plug-in's own
        checked = verify(module, x, y, candidates)
        holds = checked.holds
        arrays |= {f"distance_{norm}": checked.distances[norm].numpy() for norm in norm_names()}
        if result.targets is not None:
            targeted = verify(module, x, y, candidates, targets=result.targets.to(y))
            holds = holds | targeted.holds
            for norm in norm_names():
                arrays[f"distance_{Threat(norm, result.goal).key}"] = targeted.distances[norm].numpy()
        checks.check_arrays(self.measure.name, arrays, self.outputs, len(x))
        rows = holds.nonzero().squeeze(1)
        if not len(rows):
            return arrays, None
        with infrastructure():
            return arrays, self.bench.store.put(rows.numpy() + first, candidates.cpu()[rows].numpy())


def _passes(sources: Mapping[str, CountingModel]) -> tuple[int, int]:
    """Forward and backward passes of the source models so far, in images."""
    counters = sources.values()
    return sum(c.forward_passes for c in counters), sum(c.backward_passes for c in counters)


def _require_logits(module: nn.Module, x: Tensor, job: Job, dataset: Dataset) -> None:
    """Refuse a model that is none for this dataset, before a measure says something harder to understand."""
    with torch.no_grad():
        logits = module(x)
    outputs = dataset.n_classes + rejects(module)
    if not isinstance(logits, Tensor) or logits.shape != (len(x), outputs):
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"The model {job.model!r} returns {seen} for {len(x)} image of shape {tuple(x.shape[1:])}; expected logits "
            f"of shape ({len(x)}, {outputs}): one for each class of {job.dataset!r}"
            + (", and the one that rejects." if rejects(module) else ".")
        )
