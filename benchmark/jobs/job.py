"""Making jobs: a measure with its parameters, a model and a dataset."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from benchmark.board.job import Job, digest
from benchmark.data import Dataset, get_dataset
from benchmark.data.suites import get_suite
from benchmark.errors import BenchmarkError
from benchmark.measures import Measure, Needs
from models_zoo import Entry

__all__ = ["Job", "make_job", "seed_of"]


def make_job(
    measure: Measure[Any],
    parameters: Any,
    entry: Entry,
    dataset: Dataset,
    *,
    n: int,
    seed: int = 0,
    models: Mapping[str, str] | None = None,
    samples: int | None = None,
    notes: Mapping[str, Any] | None = None,
    reason: str = "",
) -> Job:
    """The job of a measure on the first ``n`` samples.

    Args:
        measure: The measure.
        parameters: Its parameters.
        entry: The model.
        dataset: The dataset.
        n: The slice.
        seed: The seed.
        models: Digests of the models there are, by slug, for measures that need others.
        samples: How many are measured, if the measure does not say.
        notes: Recorded with the provenance.
        reason: Why it is to run.
    """
    outputs: tuple[dict[str, Any], ...] = ()
    with contextlib.suppress(BenchmarkError):  # the run says why; what cannot be had here keeps nothing else from it
        outputs = tuple(output.to_json() for output in measure.outputs(parameters, dataset))
    return Job(
        model=entry.slug,
        model_digest=entry.digest,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        n=n,
        samples=min(n, measure.samples(parameters, n)) if samples is None else samples,
        measure=measure.name,
        version=measure.version,
        attack_version=measure.attack_version(parameters),
        parameters=_plain(dataclasses.asdict(parameters)),
        changed=changed_parameters(measure, parameters),
        seed=seed,
        needs=_digests(measure.needs(parameters), entry, dataset, models or {}),
        outputs=_plain(outputs),
        notes=notes or {},
        reason=reason,
    )


def changed_parameters(measure: Measure[Any], parameters: Any) -> dict[str, Any]:
    """The parameters that differ from their defaults: a new one with a default leaves the keys of old results."""
    changed = {}
    for field in dataclasses.fields(parameters):
        value = getattr(parameters, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if field.name != measure.at_most and value != default:
            changed[field.name] = value
    values: dict[str, Any] = _plain(changed)
    return values


def _plain(values: Any) -> Any:
    """As JSON will give them back: tuples as lists."""
    return json.loads(json.dumps(values))


def _digests(needs: Needs, entry: Entry, dataset: Dataset, models: Mapping[str, str]) -> dict[str, str]:
    """Digests of all that is needed beside model and samples; empty where there is none, which the run will say."""
    found = {}
    if needs.initial:
        found["initial"] = digest(entry.training_run) if entry.training_run else ""
    for name in needs.datasets:
        found[f"dataset:{name}"] = _or_empty(lambda name=name: get_dataset(name).digest)
    for name in needs.suites:
        found[f"suite:{name}"] = _or_empty(lambda name=name: get_suite(name).on(dataset).digest)
    for name in needs.splits:
        found[f"split:{name}"] = _or_empty(lambda name=name: dataset.split(name).digest)
    for slug in needs.references:
        found[f"reference:{slug}"] = models.get(slug, "")
    for slug in needs.sources:
        found[f"source:{slug}"] = models.get(slug, "")
    return found


def _or_empty(found: Any) -> str:
    try:
        return str(found())
    except BenchmarkError:
        return ""


def seed_of(job: Job, start: int) -> int:
    """A seed for the chunk at ``start``, the same whatever ran before it and however long the slice is."""
    return int.from_bytes(hashlib.sha256(f"{job.content_key}:{start}".encode()).digest()[:4], "big")
