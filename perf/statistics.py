"""The statistics of robustness curves: many curves at once, ranks, crossings; beside SciPy where it has the same."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmark.curve import RobustnessCurve, proportion_interval
from benchmark.statistics import crossings, rank_intervals, summarise
from perf import Benchmark, Options
from perf.tables import table


def run(options: Options, folder: Path) -> dict[str, Any]:
    """Time each function on synthetic distances, in this process."""
    rng = np.random.default_rng(0)
    n = 1_000 if options.quick else 10_000
    many = rng.gamma(3, 0.1, size=(100, n))
    board = rng.gamma(3, 0.1, size=(1_000, 1_000))
    eps, grid = np.linspace(0, 1, 101), np.linspace(0.05, 0.6, 20)
    first, second = (RobustnessCurve(row, "l2") for row in (many[0], 0.05 + 0.8 * many[0]))
    counts = np.arange(n + 1)
    seed = itertools.count()  # the last resampling is kept; a new seed pays for it
    work: list[tuple[str, Callable[[], object]]] = [
        (f"summarise 100 curves × {n} samples at 101 eps", lambda: summarise(many, eps=eps, up_to=1.0)),
        (f"thin a curve of {n} samples to 256 steps", lambda: first.thin(256, keep=[0.1, 0.3])),
        (f"crossings of two curves, {n} samples, 1,000 resamples", lambda: crossings(first, second, seed=next(seed))),
        ("rank intervals, 1,000 models × 1,000 samples, 20 eps", lambda: rank_intervals(board, grid, seed=next(seed))),
        (f"rank intervals, 100 models × {n} samples, 20 eps", lambda: rank_intervals(many, grid, seed=next(seed))),
        (f"Clopper–Pearson, {n + 1} intervals", lambda: proportion_interval(counts, n)),
        ("the same by scipy.stats.binomtest, 100 intervals", lambda: _scipy(counts[:100], n)),
    ]
    return {"timings": [{"what": what, "seconds": _seconds(call)} for what, call in work]}


def report(result: dict[str, Any]) -> str:
    """One table."""
    rows = [[timing["what"], f"{timing['seconds']:.2g}"] for timing in result["timings"]]
    return "Synthetic distances; the median of three calls.\n\n" + table(["what", "seconds"], rows)


def _scipy(counts: np.ndarray[Any, np.dtype[Any]], n: int) -> list[object]:
    return [stats.binomtest(int(k), n).proportion_ci(0.95, method="exact") for k in counts]


def _seconds(call: Callable[[], object]) -> float:
    """Median processor seconds of three calls."""
    taken = []
    for _ in range(3):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return float(np.median(taken))


BENCHMARK = Benchmark("statistics", "Statistics of curves", run, report)
