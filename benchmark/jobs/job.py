"""A job: one evaluation to be run, as a plain picklable value."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from benchmark.measures import Measure


@dataclass(frozen=True)
class Job:
    """What is to be evaluated. Everything but ``reason`` determines the result, and so makes the key.

    Attributes:
        model: The model's slug.
        model_digest: Digest of its weights, architecture and preprocessing.
        dataset: The dataset's name.
        dataset_digest: Its manifest digest.
        n: The slice: the first ``n`` samples.
        samples: How many of the slice are measured.
        measure: The measure's name.
        version: The measure's version, joined with that of what its parameters name.
        parameters: The measure's parameters as JSON values.
        seed: The seed.
        reason: Why it is to run, for the user.
    """

    model: str
    model_digest: str
    dataset: str
    dataset_digest: str
    n: int
    samples: int
    measure: str
    version: int
    parameters: dict[str, Any]
    seed: int
    reason: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of what determines the result: equal keys, equal results."""
        values = dataclasses.asdict(self)
        for name in ("model", "dataset", "reason"):  # names may change; the digests say what is meant
            del values[name]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def norm(self) -> str | None:
        """The norm among the parameters, if there is one."""
        return self.parameters.get("norm")

    def __str__(self) -> str:
        shown = " ".join(
            str(v) if k in {"norm", "attack"} else f"{k}={v}" for k, v in self.parameters.items() if v is not None
        )
        return f"{self.model} · {self.dataset}[:{self.n}] · {self.measure} {shown}".rstrip()


def job_version(measure: Measure[Any], parameters: Any) -> int:
    """The version that enters the key: the measure's, and that of the attack or method its parameters name."""
    return measure.version * 1000 + measure.attack_version(parameters)


def seed_of(job: Job, start: int) -> int:
    """A seed for the chunk at ``start``, the same whatever ran before it."""
    digest = hashlib.sha256(f"{job.key}:{start}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
