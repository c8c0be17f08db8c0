"""One attempt at a job that this process has claimed: chunks computed, re-checked and committed."""

from __future__ import annotations

import functools
import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy.orm import Session
from torch import Tensor, nn

from benchmark import flags
from benchmark.board import checks, record
from benchmark.board.history import record_change
from benchmark.board.job import Job
from benchmark.board.ledger import ledger
from benchmark.counting import CountingModel
from benchmark.data import Dataset, get_dataset
from benchmark.data.suites import get_suite
from benchmark.errors import InputError, WorkspaceError
from benchmark.evidence.store import StoredEvidence
from benchmark.isolation import isolated
from benchmark.jobs.job import seed_of
from benchmark.jobs.lease import owned
from benchmark.jobs.provenance import provenance
from benchmark.jobs.workbench import WaitingError, Workbench, infrastructure
from benchmark.measures import Arrays, Inputs, Measure, Needs, Result, Task, get_measure
from benchmark.memory import give_back, out_of_memory
from benchmark.modes import full_precision
from benchmark.results import Flag, Output
from benchmark.threat import norm_names
from benchmark.threat.budget import within
from benchmark.threat.goals import Threat
from benchmark.verification import verify
from db.schema import Evaluation, State


class Attempt:
    """One attempt at one job that this process has claimed.

    Args:
        runner: What it works with.
        job: The job.
        evaluation_id: Its evaluation.
        owner: Who has claimed it.
        device: Where the model runs.
        take_over: Whether chunks of evaluations with the same contents may be taken over.

    Attributes:
        text: How it goes, for the user.
    """

    def __init__(
        self, runner: Workbench, job: Job, evaluation_id: int, owner: str, *, device: str, take_over: bool = True
    ) -> None:
        self.runner, self.job, self.evaluation_id, self.owner = runner, job, evaluation_id, owner
        self.database, self.device, self.take_over = runner.database, device, take_over
        self.text = ""
        self._robust: list[NDArray[np.bool_]] = []
        self._most: float = np.inf
        """Samples that are measured at a time: fewer than the measure's chunk where memory does not hold these."""

    def run(self) -> bool:
        """Compute and commit the missing chunks; False if it was told to stop before the last."""
        begin = time.perf_counter()
        self.measure: Measure[Any] = get_measure(self.job.measure)
        self.parameters = self.measure.Parameters(**self.job.parameters)
        self.needs: Needs = self.measure.needs(self.parameters)
        self.dataset: Dataset = self.runner.dataset(self.job.dataset, self.job.dataset_digest)
        self.outputs: tuple[Output, ...] = tuple(self.measure.outputs(self.parameters, self.dataset))
        checks.check_declaration(self.measure.name, self.outputs)
        self.examples = self._examples()
        self.sources = self._sources()
        missing = self._begin()
        pieces = deque(cut(missing, self.measure.chunk))
        left = int(missing.sum())
        while pieces:
            start, stop = pieces.popleft()
            result = self._fitting(start, stop)
            if result is None:
                middle = (start + stop) // 2
                pieces.extendleft([(middle, stop), (start, middle)])
                continue
            with infrastructure():
                self.database.transact(functools.partial(self._commit, result))
            left -= stop - start
            self._note_robust(result)
            done = self.job.samples - left
            self.runner.progress(self.job, done, self.text, time.perf_counter() - begin)
            if pieces and self.runner.stopping():
                return False
        self._finish()
        return True

    def release(self, state: State, reason: str | None = None, *, patience: float | None = None) -> None:
        """Give the job up, if it is still ours; a database that is away is waited for."""

        def work(session: Session) -> None:
            row = session.get_one(Evaluation, self.evaluation_id, with_for_update={"key_share": True})
            if row.owner == self.owner:
                record.release(row, state, reason)
                if state == State.UNSUPPORTED:
                    record_change(session, row)

        self.database.transact(work, patience=patience)

    def _commit(self, result: record.ChunkResult, session: Session) -> None:
        row = owned(session, self.evaluation_id, self.owner)
        if all(chunk.start != result.start for chunk in row.chunks):  # else the commit arrived, only its answer did not
            record.add_chunk(session, row, result)

    def _examples(self) -> dict[int, NDArray[np.float32]]:
        """The adversarial examples that the measure needs, by sample."""
        found: dict[int, NDArray[np.float32]] = {}
        with infrastructure():
            for digest in self.needs.examples:
                indices, examples = self.runner.store.get(digest)
                found |= dict(zip(indices.tolist(), examples, strict=True))
        return found

    def _sources(self) -> dict[str, CountingModel]:
        """The other models that the measure needs, each of the dataset's label space and image shape."""
        found = {}
        for slug in self.needs.sources:
            digest = self.job.needs.get(f"source:{slug}", "")
            module = self.runner.source(slug, digest, self.dataset)
            found[slug] = CountingModel(module).eval()
        return found

    def _begin(self) -> NDArray[np.bool_]:
        """Note what is run and on what; returns the samples that are still missing, as a mask."""
        if self.needs.examples:
            missing = np.zeros(max(self.examples, default=-1) + 1, dtype=np.bool_)
            missing[list(self.examples)] = True
        else:
            missing = np.ones(self.job.samples, dtype=np.bool_)
        with infrastructure():
            present = self.database.transact(self._note_begin)
        for start, stop in present:
            missing[start:stop] = False
        return missing

    def _note_begin(self, session: Session) -> list[tuple[int, int]]:
        """Enter what is run and on what; returns the chunks that are there."""
        row = owned(session, self.evaluation_id, self.owner)
        if row.key != self.job.key:
            raise WorkspaceError("The database is not the one the plan was made for; run the command again.")
        method = self.measure.method(self.parameters)
        run = {"run": row.provenance.get("run", "")}
        row.provenance = provenance(self.device) | {"method": asdict(method)} | dict(self.job.notes) | run
        row.outputs = [output.to_json() for output in self.outputs]
        row.started_at = row.started_at or datetime.now(UTC)
        if self.measure.per_sample and not self.needs.examples and self.take_over:
            record.take_over_chunks(session, row)
        return [(chunk.start, chunk.stop) for chunk in row.chunks]

    def _fitting(self, start: int, stop: int) -> record.ChunkResult | None:
        """Measure the samples; None if they are more than memory holds, and fewer at a time may be tried.

        They are tried twice: what others held for a moment must not change how the samples are cut.
        """
        divisible = self.measure.per_sample and stop - start > 1
        if divisible and stop - start > self._most:
            return None
        for last in (False, True):
            try:
                return self._chunk(start, stop)
            except Exception as error:
                if not out_of_memory(error) or (last and not divisible):
                    raise
            give_back()
        self._most = (stop - start + 1) // 2
        return None

    def _chunk(self, start: int, stop: int) -> record.ChunkResult:
        """Measure samples ``start`` to ``stop`` on copies, and re-check what was found on the originals."""
        module = self.runner.model(self.job.model, self.job.model_digest)
        x, y = (data.to(self.device) for data in self.dataset.batch(start, stop))
        _require_logits(module, x[:1], self.job, self.dataset)
        pool = self.runner.pool(self.job.dataset, self.job.dataset_digest) if self.needs.pool else None
        devices = [torch.device(self.device)] if self.device.startswith("cuda") else []
        seed = seed_of(self.job, start)
        before = _passes(self.sources)
        with isolated(module, x, y, pool) as own, full_precision(), torch.random.fork_rng(devices=devices):
            counted = CountingModel(own.model).eval()
            task = self._task(counted, own.model, own.x, own.y, own.pool, first=start, seed=seed)
            torch.manual_seed(seed)
            begin = time.perf_counter()
            result = self.measure.run(task, self.parameters)
            seconds = time.perf_counter() - begin
        if not isinstance(result, Result):
            raise InputError(f"{self.measure.name}: run must return a Result, got {type(result).__name__}.")
        arrays, evidence = self._check(result, module, x, y, first=start)
        noticed = list(result.flags)
        if own.changed:
            text = (
                f"{self.measure.name} changed what it was lent ({own.described()}); it was put back before verifying."
            )
            noticed.append(Flag(flags.MODEL_CHANGED, text))
        others = tuple(after - since for after, since in zip(_passes(self.sources), before, strict=True))
        return record.ChunkResult(
            start=start,
            stop=stop,
            arrays=arrays,
            evidence=evidence,
            flags=noticed,
            seconds=seconds,
            forward_passes=counted.forward_passes + others[0],
            backward_passes=counted.backward_passes + others[1],
        )

    def _task(
        self, model: nn.Module, module: nn.Module, x: Tensor, y: Tensor, pool: Tensor | None, *, first: int, seed: int
    ) -> Task:
        brought = None
        if self.needs.examples:
            rows = np.stack([self.examples[first + i] for i in range(len(x))])
            brought = torch.from_numpy(rows).to(self.device)
        return Task(
            model=model,
            module=module,
            x=x,
            y=y,
            first=first,
            seed=seed,
            pool=pool,
            distances=self._ledger(first, first + len(x)) if self.needs.ledger else {},
            dataset=self.dataset,
            suites={name: get_suite(name).on(self.dataset) for name in self.needs.suites},
            splits={name: self.dataset.split(name) for name in self.needs.splits},
            datasets={name: get_dataset(name) for name in self.needs.datasets},
            initial=self.runner.initial(self.job.model) if self.needs.initial else None,
            examples=brought,
            sources=self.sources,
            itself=frozenset(
                slug for slug in self.sources if self.job.needs.get(f"source:{slug}") == self.job.model_digest
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
            return arrays, self.runner.store.put(rows.numpy() + first, candidates.cpu()[rows].numpy())

    def _ledger(self, start: int, stop: int) -> dict[str, NDArray[np.float64]]:
        """What is known of these samples' distances so far."""

        def find(session: Session) -> dict[str, NDArray[np.float64]]:
            row = session.get_one(Evaluation, self.evaluation_id)
            of_norm = functools.partial(ledger, session, model_id=row.model_id, dataset_id=row.dataset_id, n=stop)
            return {norm: of_norm(norm=norm).distances[start:] for norm in norm_names()}

        with infrastructure():
            return self.database.consult(find)

    def _finish(self) -> None:
        """What all chunks say together, and what it changes on the boards, in one transaction."""

        def joined(session: Session) -> tuple[Arrays, list[Flag], list[tuple[int, int]]]:
            chunks = list(session.get_one(Evaluation, self.evaluation_id).chunks)
            ranges = [(chunk.start, chunk.stop) for chunk in chunks]
            return record.joined_arrays(chunks), record.joined_flags(chunks), ranges

        with infrastructure():
            arrays, noticed, ranges = self.database.consult(joined)
        pieces = [self.dataset.labels(start, stop) for start, stop in ranges]
        labels = np.concatenate([np.empty(0, dtype=np.int64), *pieces])
        inputs = Inputs(arrays, labels, self._references(), self.dataset)
        summary = checks.check_summary(self.measure.name, self.measure.summarise(inputs, self.parameters), self.outputs)
        tries = itertools.count()

        def enter(session: Session) -> None:
            row = session.get_one(Evaluation, self.evaluation_id)
            if next(tries) and row.state == State.DONE:
                return  # the commit arrived, only its answer did not
            row = owned(session, self.evaluation_id, self.owner)
            record.finish(row, summary, noticed)
            record_change(session, row)

        with infrastructure():
            self.database.transact(enter)

    def _references(self) -> Mapping[str, Arrays]:
        """The arrays of the same measure on the reference models that it declares."""
        with infrastructure():
            return {
                slug: self.database.consult(functools.partial(self._reference, slug)) for slug in self.needs.references
            }

    def _reference(self, slug: str, session: Session) -> Arrays:
        own = session.get_one(Evaluation, self.evaluation_id)
        row = record.same_of(session, own, slug)
        if row is None:
            raise InputError(
                f"It is compared with the model {slug!r}, which has no such evaluation: curveboard evaluate "
                f"-m {slug}, then --rerun failed."
            )
        if row.state in {State.QUEUED, State.RUNNING} and row.id != own.id:
            raise WaitingError(f"It waits for the same evaluation of {slug!r}, with which it is compared.")
        if row.state != State.DONE and row.id != own.id:
            raise InputError(f"It is compared with the model {slug!r}, whose evaluation is {row.state.value}.")
        return record.joined_arrays(row.chunks)

    def _note_robust(self, result: record.ChunkResult) -> None:
        """Keep `text` at the share of samples so far that are robust at the job's eps, or the dataset's reference."""
        norm = self.job.norm or ""
        threat = next((output.threat for output in self.outputs if output.kind == "upper"), norm)
        distances = result.arrays.get(f"distance_{threat}")
        eps = self.job.parameters.get("eps") or next(iter(self.dataset.eps.get(norm, ())), None)
        verdict = next((output.array for output in self.outputs if output.kind == "verdict"), "")
        if eps is not None and distances is not None:
            # A verdict attacks only what was not broken before: its own distances do not say who is robust.
            self._robust.append(result.arrays[verdict] if verdict else ~within(distances, eps))
            self.text = f"robust at {eps:g}: {np.concatenate(self._robust).mean():.1%}"


def _passes(sources: Mapping[str, CountingModel]) -> tuple[int, int]:
    """Forward and backward passes of the source models so far, in images."""
    counters = sources.values()
    return sum(c.forward_passes for c in counters), sum(c.backward_passes for c in counters)


def cut(missing: NDArray[np.bool_], chunk: int) -> Iterator[tuple[int, int]]:
    """The missing samples as ranges of at most ``chunk``, cut at multiples of it, as in a run without a gap."""
    for start, stop in record.runs(missing):
        edges = [start, *range((start // chunk + 1) * chunk, stop, chunk), stop]
        yield from itertools.pairwise(edges)


def _require_logits(module: nn.Module, x: Tensor, job: Job, dataset: Dataset) -> None:
    """Refuse a model that is none for this dataset, before a measure says something harder to understand."""
    with torch.no_grad():
        logits = module(x)
    if not isinstance(logits, Tensor) or logits.shape != (len(x), dataset.n_classes):
        seen = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"The model {job.model!r} returns {seen} for {len(x)} image of shape {tuple(x.shape[1:])}; expected logits "
            f"of shape ({len(x)}, {dataset.n_classes}): one for each class of {job.dataset!r}."
        )
