"""Models ranked by a grid: at each position of its second axis and over all, with the paired bootstrap over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmark.intervals import widened
from benchmark.results import Output
from benchmark.statistics import ranks_of_counts
from sitegen.grids import GridNumbers, existing, mean_of

Floats = NDArray[np.float64]

TAIL: Final = 0.025


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; the ends are None where no answers an image are stored."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Place:
    """A row in a ranking; of one with a missing cell only ``cells`` and ``missing`` say anything.

    Attributes:
        index: Of the row.
        cells: The row's values along the first axis, means over the second where all positions are meant; NaN where
            one is missing.
        missing: Labels of the first axis without which there is no mean.
        mean: Over the labels that means are over.
        behind: How much better the first model is (0 of itself), paired: in the unit of the mean, never negative.
        rank: 1 + the number of models that are strictly better; None with a missing cell.
        best: Best rank within the interval.
        last: Worst rank within the interval.
        worst: The label with the worst value, and that.
    """

    index: int
    cells: Floats
    missing: tuple[str, ...] = ()
    mean: Interval | None = None
    behind: Interval | None = None
    rank: int | None = None
    best: int | None = None
    last: int | None = None
    worst: tuple[str, float] | None = None


def over(output: Output) -> list[int]:
    """Places of the labels of the first axis that means are over."""
    axis = output.axes[0]
    return [k for k, label in enumerate(axis.labels) if label not in axis.apart]


def ranking(grids: Sequence[GridNumbers], output: Output, at: Sequence[int]) -> list[Place]:
    """The rows, the best first; those with a missing cell last, in the order given.

    Args:
        grids: Of each row, over the same images.
        output: The grid's declaration.
        at: Places on the second axis: one, or all.
    """
    labels = output.axes[0].labels
    real = existing(output.axes, [grid.values for grid in grids])[:, at]
    rows = [k for k in over(output) if real[k].any()]
    cells = [mean_of(grid.values[:, at], real, axis=1) for grid in grids]  # NaN where one of them is missing
    gone = [tuple(labels[k] for k in rows if not np.isfinite(c[k])) for c in cells]
    whole = [i for i in range(len(grids)) if not gone[i]]
    sign = 1 if output.direction == "higher" else -1
    places = _ranked([grids[i] for i in whole], sign, rows, at, real[rows])
    found = []
    for i, place in zip(whole, places, strict=True):
        worst = min(rows, key=lambda k, i=i: sign * cells[i][k])  # type: ignore[misc]
        told = (labels[worst], float(cells[i][worst]))
        found.append(Place(i, cells[i], (), place.mean, place.behind, place.rank, place.best, place.last, told))
    found.sort(key=lambda p: (p.rank, p.index))
    return found + [Place(i, cells[i], gone[i]) for i in range(len(grids)) if gone[i]]


@dataclass(frozen=True)
class _Standing:
    mean: Interval
    behind: Interval
    rank: int
    best: int | None = None
    last: int | None = None


def _ranked(
    grids: Sequence[GridNumbers], sign: int, rows: Sequence[int], at: Sequence[int], real: NDArray[np.bool_]
) -> list[_Standing]:
    if not grids:
        return []
    counted = [g for g in grids if g.counts is not None and g.drawn is not None]
    if len(counted) < len(grids) or not real.all():
        means = np.array([mean_of(g.values[np.ix_(rows, at)], real) for g in grids])
        gaps = sign * (sign * means).max() - means
        better = (sign * means)[None] > (sign * means)[:, None]
        ranks = 1 + better.sum(axis=1)
        return [
            _Standing(Interval(float(m)), Interval(abs(float(g))), int(r))
            for m, g, r in zip(means, gaps, ranks, strict=True)
        ]
    return _bootstrapped(counted, sign, rows, at)


def _bootstrapped(grids: Sequence[GridNumbers], sign: int, rows: Sequence[int], at: Sequence[int]) -> list[_Standing]:
    """Sums of counts over the cells: they rank as the means do, and in whole numbers equals are equal."""
    place = np.ix_(rows, at)
    whole = grids[0].samples * len(rows) * len(at)
    totals = np.array([g.counts[place].sum() for g in grids if g.counts is not None], dtype=np.int64)
    drawn = np.stack([g.drawn[place].sum(axis=(0, 1), dtype=np.int64) for g in grids if g.drawn is not None])
    good, resampled = (totals, drawn) if sign > 0 else (whole - totals, whole - drawn)
    table = ranks_of_counts(good[:, None], resampled[:, None], eps=[0.0])
    first = int(np.argmax(good))
    found = []
    for i in range(len(grids)):
        behind = (resampled[first] - resampled[i]) / whole
        found.append(
            _Standing(
                mean=_interval(totals[i] / whole, drawn[i] / whole, grids[0].samples, least=0),
                behind=_interval((good[first] - good[i]) / whole, behind, grids[0].samples, least=-1),
                rank=int(table.rank[i, 0]),
                best=int(table.low[i, 0]),
                last=int(table.high[i, 0]),
            )
        )
    return found


def _interval(value: float, drawn: Floats, n: int, *, least: float) -> Interval:
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL])
    return Interval(float(value), *widened(float(low), float(high), float(value), n, least=least))


def worst_position(grid: GridNumbers, output: Output) -> tuple[str, float] | None:
    """The label of the second axis with the worst mean, and that; None with a missing cell."""
    means = mean_of(grid.values[over(output)], existing(output.axes, [grid.values])[over(output)], axis=0)
    if not np.isfinite(means).all():
        return None
    worst = int(means.argmin() if output.direction == "higher" else means.argmax())
    return output.axes[1].labels[worst], float(means[worst])


def same_images(grids: Mapping[str, GridNumbers]) -> int:
    """How many images most rows were measured on; of two equally frequent numbers the larger."""
    numbers = [grid.samples for grid in grids.values()]
    return max(set(numbers), key=lambda n: (numbers.count(n), n))
