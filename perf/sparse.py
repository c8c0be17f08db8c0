"""The curve engine in ℓ₀ against the attacks that minimise it: how few values are changed, and at what cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from perf import Benchmark, Options, engine

MODELS: Final = ("wong2018-mnist-linf0.1", "advertorch-mnist-lenet-adv", "croce2020-mmr-universal-mnist")
NORM: Final = "l0"
"""Values, as the peers count; on images of one channel pixels are the same."""


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Run every contestant on every model, one process after the other."""
    return engine.run(_own(options), folder)


def _own(options: Options) -> Options:
    """The options with this benchmark's defaults."""
    return replace(
        options,
        models=options.models or (MODELS[:1] if options.quick else MODELS),
        samples=options.samples or (4 if options.quick else 30),
        norms=(NORM,),
        peers=options.peers or (("sigma-zero",) if options.quick else None),
    )


def report(result: dict[str, Any]) -> str:
    """The tables of the engine's report, with what differs said first."""
    return "\n\n".join([_INTRODUCTION, *engine.comparison(result)])


_INTRODUCTION = """\
Distances are numbers of changed values, which on these images of one channel are pixels. The columns are those of
[the curve engine's](#the-curve-engine-against-its-peers) tables; *within 1 %* means as few."""

BENCHMARK = Benchmark("sparse", "ℓ₀ against its peers", run, report)
