"""A job: one evaluation to be run, as a plain picklable value, and the keys by which its result is known. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be evaluated.

    Attributes:
        model: The model's slug.
        model_digest: Digest of its weights, architecture and preprocessing.
        dataset: The dataset's name.
        dataset_digest: Its manifest digest.
        n: The slice: the first ``n`` samples.
        samples: How many of the slice are measured.
        measure: The measure's name.
        version: The measure's version.
        attack_version: Version of the attack or method that the parameters name; 0 if they name none.
        parameters: All of the measure's parameters as JSON values.
        changed: Those that differ from their defaults, without the one that bounds the samples.
        seed: The seed.
        needs: Digests of what else the measure needs, for instance ``{"suite:mnist-c": "ab12…"}``.
        outputs: The outputs that the measure declares, as JSON values.
        notes: Recorded with the provenance, part of no key.
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
    parameters: Mapping[str, Any]
    changed: Mapping[str, Any]
    seed: int
    attack_version: int = 0
    needs: Mapping[str, str] = field(default_factory=dict)
    outputs: Sequence[Mapping[str, Any]] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    @property
    def content(self) -> dict[str, Any]:
        """What determines the result of a sample. Names of models and datasets may change: the digests say which."""
        return {
            "model": self.model_digest,
            "dataset": self.dataset_digest,
            "measure": self.measure,
            "version": self.version,
            "attack_version": self.attack_version,
            "parameters": dict(self.changed),
            "seed": self.seed,
            "needs": dict(self.needs),
        }

    @property
    def content_key(self) -> str:
        """SHA-256 of `content`: evaluations that share it may take over each other's chunks."""
        return digest(self.content)

    @property
    def key(self) -> str:
        """SHA-256 of the content and the slice: equal keys, equal results."""
        return evaluation_key(self.content, n=self.n, samples=self.samples)

    @property
    def norm(self) -> str | None:
        """The norm among the parameters, if there is one."""
        return self.parameters.get("norm")

    def __str__(self) -> str:
        bare = {"norm", "attack"}
        shown = " ".join(
            brief(v) if k in bare else f"{k}={brief(v)}" for k, v in self.parameters.items() if v is not None
        )
        return f"{self.model} · {self.dataset}[:{self.n}] · {self.measure} {shown}".rstrip()


def brief(value: Any) -> str:
    """A parameter's value in a line for people: of a list the names, or how many there are."""
    if isinstance(value, list | tuple):
        return f"{len(value)}…" if len(value) > 3 else ",".join(map(str, value))
    return str(value)


def evaluation_key(content: Mapping[str, Any], *, n: int, samples: int) -> str:
    """The key of an evaluation of that content on the first ``n`` samples, of which ``samples`` are measured."""
    return digest({**content, "n": n, "samples": samples})


def digest(values: Any) -> str:
    """SHA-256 of JSON values, in hexadecimal; the order of their names does not matter."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
