"""A row's numbers that the board's pages need, kept as one small file: a board of 1,000 rows is read in a moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.statistics import resampled_counts
from benchmark.threat.budget import limit
from sitegen.axes import Axis
from sitegen.facts import ThreatFacts

RESAMPLES: Final = 300
"""Bootstrap resamples behind the intervals of ranks."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """A row under one threat.

    Attributes:
        counts: Robust samples at each position of the axis, shape (g,).
        ranked: The same at the axis' ranked positions, shape (r,).
        resampled: Robust samples there in each bootstrap resample, shape (r, resamples).
        robust: Which samples are robust at the reference budget, packed into bits, shape (⌈n / 8⌉,), uint8.
    """

    counts: NDArray[np.int32]
    ranked: NDArray[np.int32]
    resampled: NDArray[np.integer]
    robust: NDArray[np.uint8]


def numbers_of(facts: ThreatFacts) -> Numbers:
    """The numbers of a row in a threat."""
    distances, axis = facts.curve.distances, facts.axis
    return Numbers(
        counts=facts.counts.astype(np.int32),
        ranked=np.count_nonzero(distances > limit(axis.ranked)[:, None], axis=1).astype(np.int32),
        resampled=resampled_counts(distances, limit(axis.ranked), resamples=RESAMPLES).astype(_kind(len(distances))),
        robust=np.packbits(distances > axis.reference_limit),
    )


def _kind(n: int) -> str:
    """The type that holds counts up to ``n``: two bytes where they do, since resampled counts are most of a file."""
    return "<u2" if n < 1 << 16 else "<i4"


def save_numbers(path: Path, numbers: Mapping[str, Numbers]) -> None:
    """Write the numbers of all threats into one file, without names: `load_numbers` knows the shapes."""
    parts = [part for n in numbers.values() for part in (n.counts, n.ranked, n.resampled, n.robust)]
    path.write_bytes(
        b"".join(np.ascontiguousarray(part).astype(part.dtype.newbyteorder("<")).tobytes() for part in parts)
    )


def load_numbers(path: Path, axes: Mapping[str, Axis], n: int) -> dict[str, Numbers]:
    """Read what `save_numbers` wrote.

    Args:
        path: The file.
        axes: The norms' axes, in the order in which they were written.
        n: Number of samples.
    """
    content, at = path.read_bytes(), 0

    def take(kind: str, *shape: int) -> NDArray[Any]:
        nonlocal at
        found = np.frombuffer(content, dtype=kind, count=int(np.prod(shape)), offset=at).reshape(shape)
        at += found.nbytes
        return found

    return {
        norm: Numbers(
            counts=take("<i4", len(axis.grid)),
            ranked=take("<i4", len(axis.ranked)),
            resampled=take(_kind(n), len(axis.ranked), RESAMPLES),
            robust=take("u1", -(-n // 8)),
        )
        for norm, axis in axes.items()
    }
