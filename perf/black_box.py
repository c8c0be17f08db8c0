"""Attacks by scores and decisions against foolbox and the adversarial robustness toolbox, at equal queries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from perf import Benchmark, Options
from perf.asked import PEERS
from perf.contestant import ROUNDING
from perf.engine import distances
from perf.process import run_all
from perf.tables import failed, table

MODELS: Final = ("advertorch-mnist-lenet-clean", "advertorch-mnist-lenet-adv")
QUERIES: Final = 1000

_EPS: Final = {"advertorch-mnist-lenet-clean": 0.1, "advertorch-mnist-lenet-adv": 0.3}
"""Where Square, which is told a budget, is compared: a tenth for the network that was not trained adversarially."""

_DUELS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "l2": {
        "foolbox-hopskipjump": ("hopskipjump", "geoda"),
        "art-hopskipjump": ("hopskipjump", "geoda"),
        "foolbox-boundary": ("hopskipjump", "geoda"),
        "art-boundary": ("hopskipjump", "geoda"),
    },
    "linf": {
        "foolbox-hopskipjump": ("hopskipjump", "geoda"),
        "art-hopskipjump": ("hopskipjump", "geoda"),
        "art-square": ("square",),
    },
}
"""Norm -> peer -> ours of the same access."""


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Run every contestant on every model and norm, one process after the other."""
    return run_all(
        "perf.asked", tasks(options), folder, keep=lambda task: options.resume and task["contestant"] in PEERS
    )


def tasks(options: Options) -> Iterator[dict[str, Any]]:
    """What is to be run."""
    for model in options.models or (MODELS[:1] if options.quick else MODELS):
        for norm, duels in _DUELS.items():
            if norm not in (options.norms or _DUELS):
                continue
            names = [name for name in duels if name in (options.peers or duels)]
            ours = sorted({own for name in names for own in duels[name]})
            seeds = options.seeds or (0,)
            for contestant, seed in [(name, 0) for name in names] + [(own, s) for own in ours for s in seeds]:
                yield {
                    "contestant": contestant,
                    "model": model,
                    "norm": norm,
                    "samples": options.samples or (2 if options.quick else 20),
                    "queries": 100 if options.quick else QUERIES,
                    "eps": _EPS.get(model, 0.1),
                    "seed": seed,
                    "threads": options.threads,
                }


def report(result: dict[str, Any]) -> str:
    """One table of distances and success, and one of ratios to each peer."""
    rows, ratios = [], []
    by = {(r["model"], r["norm"], r["contestant"], r["seed"]): r for r in result["results"]}
    for (model, norm, name, _), one in by.items():
        d = distances(one)
        cells = [f"{d[np.isfinite(d)].mean():.3f}", f"{np.isfinite(d).mean():.0%}", f"{(d <= _reach(one)).mean():.0%}"]
        rows.append([model, norm, name, *cells, f"{one['queries']:.0f}"])
        for own in _DUELS[norm].get(name, ()):
            rivals = [r for (m, n, c, _), r in by.items() if (m, n, c) == (model, norm, own)]
            ratios += [[model, norm, own, name, _ratio(distances(rival), d, one)] for rival in rivals]
    head = ["model", "norm", "attack", "mean distance", "found", "broken at ε", "queries"]
    parts = [_INTRODUCTION, table(head, rows), _RATIOS, table(["model", "norm", "ours", "peer", "ours ÷ peer"], ratios)]
    return "\n\n".join([*parts, *failed(result["failures"])])


def _reach(task: dict[str, Any]) -> float:
    """The budget with what a library's rounding adds: examples on the sphere are within it."""
    return float(task["eps"] * (1 + ROUNDING))


def _ratio(ours: Any, peer: Any, task: dict[str, Any]) -> str:
    """Mean distances over the samples that both broke; of Square robust shares at ε, as it is told one."""
    if task["contestant"] == "art-square":
        return f"{(ours > _reach(task)).mean():.0%} robust, {(peer > _reach(task)).mean():.0%}"
    both = np.isfinite(ours) & np.isfinite(peer)
    return f"{ours[both].mean() / peer[both].mean():.2f}"


_INTRODUCTION = """\
Each attack may show the model 1,000 images a sample. Peers are given one sample at a time, and the image of another
class that ours start from; they are credited with the nearest example that they *showed* within the budget, ours with
what they return. All examples are re-verified. ε is 0.1 for the clean network, 0.3 for the adversarial one; only
ART's Square is told it."""

_RATIOS = "Mean distance of ours ÷ the peer's, over the samples that both broke; below 1 is better for us."

BENCHMARK = Benchmark("black-box", "Attacks by scores and decisions at equal queries", run, report)
