"""Performance: measured only here, as ratios to a peer in the same run. Nothing is timed in the tests.

Run with ``make perf``, or in the environment it makes::

    .perf-venv/bin/python -m perf                                    # every benchmark, at its default size
    .perf-venv/bin/python -m perf engine --models wong2018-mnist-linf0.1 --norms l2 --samples 20
    .perf-venv/bin/python -m perf --quick                            # a smoke run: small, and the documents stay

A benchmark is a file of this package with a constant ``BENCHMARK = Benchmark(...)``: a name, and two functions.

``run(options, folder)``
    Measures, and returns what it measured as plain JSON values (no NaN, no infinity). It may keep intermediate results
    in ``folder``, which is its own. It is run in a process of its own. What it compares must be measured under the same
    conditions: one process for each contestant (`perf.process`), the same number of threads, one after the other.

``report(result)``
    Turns that value, read back from its file, into Markdown without a heading of level 1 or 2. It is pure, so it is
    tested without measuring anything.

``python -m perf`` writes ``<out>/<name>.json`` (the result with the machine, versions and options) and
``<out>/<name>.md``, and puts the report into the benchmark's section of ``docs/performance.md``. A benchmark that fails
leaves the others and its section as they were. To add one, add a file; what it needs to be installed goes into
``perf/requirements.txt``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from benchmark.plugins import discover, look_up


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked for on the command line; None is the benchmark's own default.

    Attributes:
        models: Slugs of the zoo (and ``autoattack-resnet18``, see `perf.models`).
        samples: Images of each model's dataset.
        norms: Norms.
        peers: Names of contestants (`perf.peers`).
        seeds: Seeds of our own runs; the spread over them is reported.
        device: ``"cpu"`` or ``"cuda"``.
        threads: Threads of each process.
        workspace: A workspace whose models and datasets may be named as well.
        cifar: The CIFAR-10 sample, an ``.npz`` with ``x`` uint8 (n, h, w, c) and ``y``.
        quick: Whether a smoke run is wanted: every part works, the figures mean little.
        resume: Whether peers whose result lies in the folder of an interrupted run are not run again.
    """

    models: tuple[str, ...] | None = None
    samples: int | None = None
    norms: tuple[str, ...] | None = None
    peers: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    device: str = "cpu"
    threads: int = 1
    workspace: Path | None = None
    cifar: Path | None = None
    quick: bool = False
    resume: bool = False


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; see the module's docstring.

    Attributes:
        name: Its name on the command line, and of its files and section.
        title: The heading of its section.
        run: Measures.
        report: Writes the section.
    """

    name: str
    title: str
    run: Callable[[Options, Path], dict[str, Any]]
    report: Callable[[dict[str, Any]], str]


def benchmarks() -> Mapping[str, Benchmark]:
    """All benchmarks by name."""
    return cast("Mapping[str, Benchmark]", discover(__name__, "BENCHMARK"))


def get_benchmark(name: str) -> Benchmark:
    """The benchmark called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Benchmark", look_up("benchmark", name, benchmarks()))
