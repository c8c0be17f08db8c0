"""A row's grids of two axes in counts, with their paired bootstrap: what models are ranked by, position by position."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.results import GridAxis, Output
from benchmark.statistics import resampling
from db.queries import EvaluationInfo
from db.schema import State
from sitegen.findings import Found, outputs_of
from sitegen.numbers import RESAMPLES

Floats = NDArray[np.float64]

FILE: Final = "grids.npz"


@dataclass(frozen=True, order=True)
class GridKey:
    """Which grid: rows that have the same one are compared.

    Attributes:
        output: ``measure.output``, with ``@threat`` where it speaks of one.
        parameters: Of the measure, as JSON: another suite is another grid.
        axes: Of the grid, as JSON.
    """

    output: str
    parameters: str
    axes: str

    @property
    def text(self) -> str:
        """The key as one line."""
        return json.dumps([self.output, self.parameters, self.axes])


@dataclass(frozen=True, eq=False)
class GridNumbers:
    """A row's grid.

    Attributes:
        values: Shape (a, s), NaN in a missing cell.
        low: Lower ends of the intervals, NaN where none is known.
        high: Upper ends.
        samples: Images that were measured.
        counts: Images that count, shape (a, s), 0 in a missing cell; None where no answers an image are stored.
        drawn: The same in each bootstrap resample, shape (a, s, resamples).
    """

    values: Floats
    low: Floats
    high: Floats
    samples: int
    counts: NDArray[np.int64] | None = None
    drawn: NDArray[np.integer] | None = None


def existing(axes: Sequence[GridAxis], tables: Sequence[Floats]) -> NDArray[np.bool_]:
    """Which cells a grid has at all: of a square one from each label to every other the diagonal does not exist.

    Args:
        axes: Its axes.
        tables: Values of the rows that have it.

    Returns:
        The shape of a table; false where two axes have the same labels and no row has a number at any label itself.
    """
    cells = np.ones([len(axis.labels) for axis in axes], dtype=np.bool_)
    if len(axes) == 2 and axes[0].labels == axes[1].labels:
        cells[np.diag_indices(len(cells))] = any(np.isfinite(np.diagonal(table)).any() for table in tables)
    return cells


def mean_of(values: Floats, cells: NDArray[np.bool_], axis: int | None = None) -> Floats:
    """Means over the cells that exist; NaN where one of them is missing, or none exists."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(cells, values, 0.0).sum(axis=axis) / cells.sum(axis=axis))


def grid_outputs(evaluation: EvaluationInfo) -> list[tuple[GridKey, Output]]:
    """The grids of two axes that rank: those of which it is declared whether more is better."""
    found = [o for o in outputs_of(evaluation) if o.kind == "grid" and len(o.axes) == 2 and o.direction != "none"]
    return [(_key(evaluation, output), output) for output in found]


def declared_grids(cells: Sequence[EvaluationInfo]) -> dict[GridKey, Output]:
    """Those of a row's finished evaluations."""
    return dict(pair for cell in cells if cell.state is State.DONE for pair in grid_outputs(cell))


def _key(evaluation: EvaluationInfo, output: Output) -> GridKey:
    name = f"{evaluation.measure}.{output.name}"
    parameters = json.dumps(dict(evaluation.parameters), sort_keys=True, default=str)
    axes = json.dumps([[axis.name, list(axis.labels)] for axis in output.axes])
    return GridKey(f"{name}@{output.threat}" if output.threat else name, parameters, axes)


def grid_numbers(found: Sequence[Found], labels: NDArray[np.int64] | None) -> dict[str, GridNumbers]:
    """The grids of a row, by the text of their keys; the newest of each.

    Args:
        found: Its outputs.
        labels: Of the slice, shape (n,), or None where they are not stored.
    """
    made = {}
    for one in found:
        for key, output in grid_outputs(one.evaluation):
            if output == one.output and one.table is not None:
                made[key.text] = _numbers(one, labels)
    return made


def _numbers(found: Found, labels: NDArray[np.int64] | None) -> GridNumbers:
    table, samples = found.table, found.data.detail.samples
    assert table is not None
    right = _right(found, labels)
    if right is None:
        return GridNumbers(table.values, table.low, table.high, samples)
    n, cells = len(right), right.shape[1:]
    drawn = resampling(n, RESAMPLES, 0) @ right.reshape(n, -1).astype(np.float32)  # exact: whole numbers below 2**24
    kind = np.uint16 if n < 1 << 16 else np.uint32
    return GridNumbers(
        values=table.values,
        low=table.low,
        high=table.high,
        samples=n,
        counts=right.sum(axis=0, dtype=np.int64),
        drawn=drawn.T.reshape(*cells, RESAMPLES).astype(kind),
    )


def _right(found: Found, labels: NDArray[np.int64] | None) -> NDArray[np.bool_] | None:
    """Whether each image counts in each cell, (samples, a, s); None unless the stored answers give the stored table."""
    array, table = found.data.arrays.get(found.output.array), found.table
    if table is None or found.output.unit != "share" or array is None or array.shape[1:] != table.values.shape:
        return None
    if array.dtype.kind in "iu":
        samples = found.data.samples[found.output.array]
        if labels is None or not len(samples) or int(samples.max()) >= len(labels):
            return None
        array = array == labels[samples].reshape(-1, 1, 1)
    if array.dtype.kind != "b" or not len(array):
        return None
    known = np.isfinite(table.values)
    agrees = np.allclose(array.mean(axis=0)[known], table.values[known], atol=1e-6)
    right: NDArray[np.bool_] = array & known
    return right if agrees else None


def save_grids(folder: Path, grids: Mapping[str, GridNumbers]) -> None:
    """Keep a row's grids in its folder; nothing where it has none."""
    if not grids:
        return
    arrays: dict[str, Any] = {"keys": np.array(list(grids))}
    for k, grid in enumerate(grids.values()):
        parts = {"values": grid.values, "low": grid.low, "high": grid.high, "samples": np.array(grid.samples)}
        parts |= {} if grid.counts is None or grid.drawn is None else {"counts": grid.counts, "drawn": grid.drawn}
        arrays |= {f"{k}-{name}": part for name, part in parts.items()}
    np.savez(folder / FILE, **arrays)


def load_grids(folder: Path) -> dict[str, GridNumbers]:
    """What `save_grids` has kept."""
    if not (folder / FILE).exists():
        return {}
    with np.load(folder / FILE, allow_pickle=False) as kept:
        return {
            str(key): GridNumbers(
                values=kept[f"{k}-values"],
                low=kept[f"{k}-low"],
                high=kept[f"{k}-high"],
                samples=int(kept[f"{k}-samples"]),
                counts=kept.get(f"{k}-counts"),
                drawn=kept.get(f"{k}-drawn"),
            )
            for k, key in enumerate(kept["keys"])
        }
