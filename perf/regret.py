"""How far the engine is from the nearest examples that anything has found, and what a call with one image costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from perf import Benchmark, Options
from perf.contestant import OURS
from perf.engine import Floats, distances
from perf.peers import peers
from perf.process import run_all
from perf.tables import failed, table

CASES: Final = (
    ("wong2018-mnist-linf0.1", "l2"),
    ("wong2018-mnist-linf0.1", "l1"),
    ("advertorch-mnist-lenet-adv", "l2"),
    ("advertorch-mnist-lenet-adv", "l1"),
)
SEEDS: Final = (0, 1, 2, 3)
THOROUGH: Final = (0, 1, 2)


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Run the peers, our seeds of both efforts, and our first seed image by image."""
    return run_all(
        "perf.contestant",
        tasks(options),
        folder,
        keep=lambda task: options.resume and (task["contestant"] != OURS or task.get("effort") == "thorough"),
    )


def tasks(options: Options) -> Iterator[dict[str, Any]]:
    """What is to be run for each model and norm."""
    cases = CASES[:1] if options.quick else CASES
    if options.models:
        cases = tuple((model, norm) for model in options.models for norm in options.norms or ("l2", "l1"))
    for model, norm in cases:
        if options.norms and norm not in options.norms:
            continue
        task = {
            "model": model,
            "norm": norm,
            "samples": options.samples or (6 if options.quick else 60),
            "seed": 0,
            "device": options.device,
            "threads": options.threads,
            "cifar": str(options.cifar) if options.cifar else None,
        }
        wanted = ("ddn",) if options.quick and options.peers is None else options.peers
        for peer in peers(norm, wanted):  # type: ignore[arg-type]
            yield {**task, "contestant": peer.name}
        seeds = options.seeds or (SEEDS[:2] if options.quick else SEEDS)
        yield from ({**task, "contestant": OURS, "seed": seed} for seed in seeds)
        few = min(task["samples"], 30)
        yield {**task, "contestant": OURS, "samples": few}
        yield {**task, "contestant": OURS, "samples": few, "alone": True}
        for seed in () if options.quick else THOROUGH[: len(seeds)]:
            yield {**task, "contestant": OURS, "seed": seed, "effort": "thorough"}


@dataclass
class _Case:
    """The results on one model and norm: everything on all images, and the two ways to call on a few."""

    everything: list[dict[str, Any]] = field(default_factory=list)
    together: dict[str, Any] | None = None
    alone: dict[str, Any] | None = None

    def best(self) -> Floats:
        return np.asarray(np.min([distances(result) for result in self.everything], axis=0))

    def regrets(self, effort: str) -> list[float]:
        """Mean distance of each seed ÷ the mean of the best; over the images that anything broke."""
        best = self.best()
        broken = np.isfinite(best)
        return [
            float(distances(r)[broken].mean() / best[broken].mean())
            for r in self.everything
            if r["contestant"] == OURS and r.get("effort", "standard") == effort
        ]

    def passes(self) -> list[float]:
        return [
            r["forward"] + r["backward"]
            for r in self.everything
            if r["contestant"] == OURS and r.get("effort", "standard") == "standard"
        ]


def cases(results: list[dict[str, Any]]) -> dict[tuple[str, str], _Case]:
    """The results by model and norm; the larger number of images is everything's."""
    found: dict[tuple[str, str], _Case] = {}
    most: dict[tuple[str, str], int] = {}
    for result in results:
        key = (result["model"], result["norm"])
        most[key] = max(most.get(key, 0), result["samples"])
    for result in results:
        key = (result["model"], result["norm"])
        case = found.setdefault(key, _Case())
        if result.get("alone"):
            case.alone = result
        elif result["samples"] < most[key]:
            case.together = result
        else:
            case.everything.append(result)
    return found


def report(result: dict[str, Any]) -> str:
    """One row a model and norm."""
    rows = []
    for (model, norm), case in cases(result["results"]).items():
        single = ""
        together = case.together or next((r for r in case.everything if r["contestant"] == OURS), None)
        if case.alone and together and len(case.alone["distances"]) == len(together["distances"]):
            single = f"{distances(case.alone).mean() / distances(together).mean():.3f}"
        rows.append(
            [
                model,
                norm,
                str(len(case.best())),
                f"{case.best().mean():.4g}",
                _span(case.regrets("standard")),
                _span(case.regrets("thorough")),
                f"{np.mean(case.passes()):.0f}" if case.passes() else "",
                single,
            ]
        )
    head = ["model", "norm", "images", "best of all", "standard", "thorough", "passes", "one by one ÷ together"]
    parts = [_INTRODUCTION, table(head, rows)]
    return "\n\n".join([*parts, *failed(result["failures"])])


def _span(values: list[float]) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.3f}", f"{max(values):.3f}"
    return low if low == high else f"{low}–{high}"


_INTRODUCTION = """\
*Regret*: our mean distance ÷ the mean of the per-image best of everything that was run on these images, the peers and
all our seeds of both efforts. *Passes*: forward and backward ones an image, of `standard`. *One by one*: the mean
distance where each image is a call of its own, with no others to exchange with, ÷ that of one call, on the first 30."""

BENCHMARK = Benchmark("regret", "Regret of the engine", run, report)
