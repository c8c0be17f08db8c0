"""What errors under corruptions and flips along sequences are summed up to. No torch, no model.

A missing cell never makes a mean smaller: what it would enter has no value, and the missing cells are named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """A mean over cells, or the names of those that are missing.

    Attributes:
        value: The mean; None if a cell is missing.
        missing: The missing cells, as ``"corruption"`` or ``"corruption at 3"``.
    """

    value: float | None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """Errors to be normalised by, and whose they are.

    Attributes:
        name: The model, for people.
        errors: Corruption -> errors of severities 1, 2, ….
        clean: Its error without corruption; None if it is not known.
        source: Where they are published; empty for an evaluation of our own.
    """

    name: str
    errors: Mapping[str, Sequence[float]]
    clean: float | None = None
    source: str = ""


def corruption_errors(
    errors: Mapping[str, ArrayLike], reference: Reference, *, clean: float | None = None
) -> dict[str, float]:
    """CE of each corruption, 1 for the reference: Σ_s E / Σ_s E_ref, or of both the clean errors subtracted.

    Args:
        errors: Corruption -> errors of severities 1, 2, …, or their mean alone; NaN where one is missing.
        reference: What to divide by.
        clean: The model's error without corruption, for the relative CE; its own is subtracted from the reference's.

    Returns:
        Corruption -> CE; NaN where a cell is missing, of the model or of the reference.

    Raises:
        InputError: If a relative CE is asked for and the reference's clean error is not known.
    """
    if clean is not None and reference.clean is None:
        raise InputError(f"The clean error of {reference.name} is not known: there is no relative mCE by it.")
    own, base = clean or 0.0, (reference.clean or 0.0) if clean is not None else 0.0
    found = {}
    for name, values in errors.items():
        mean = float(np.mean(np.asarray(values, dtype=np.float64))) - own
        other = float(np.mean(reference.errors[name])) - base if name in reference.errors else np.nan
        found[name] = mean / other if other > 0 else float("nan")
    return found


def mean_of(values: Mapping[str, ArrayLike], names: Sequence[str]) -> Mean:
    """The mean over ``names`` of the mean over severities; of NaN or of nothing there is none."""
    missing = []
    for name in names:
        cells = np.atleast_1d(np.asarray(values.get(name, np.nan), dtype=np.float64))
        gone = np.flatnonzero(np.isnan(cells))
        if len(gone) == len(cells):
            missing.append(name)
        else:
            missing.extend(f"{name} at {i + 1}" for i in gone)
    if missing or not names:
        return Mean(None, tuple(missing))
    return Mean(float(np.mean([np.mean(np.asarray(values[name], dtype=np.float64)) for name in names])))


def mean_corruption_error(
    errors: Mapping[str, ArrayLike],
    reference: Reference,
    names: Sequence[str],
    *,
    clean: float | None = None,
) -> Mean:
    """MCE: the mean CE over ``names``, 1 for the reference; relative mCE where ``clean`` is given.

    Hendrycks & Dietterich 2019, arXiv:1903.12261, section 4.
    """
    return mean_of(corruption_errors(errors, reference, clean=clean), names)


def flips(predictions: ArrayLike, *, from_first: bool, every: int = 1) -> Floats:
    """Share of steps at which the predicted class changes, a sequence.

    Args:
        predictions: Classes, shape (n, frames).
        from_first: Compare each frame with the first (independent noise) instead of with the one before.
        every: Take every so many-th frame, from each of the first so many as a start («difficulty»); 1 for noise.

    Returns:
        Shape (n,).
    """
    classes = np.asarray(predictions)
    _check_frames(classes, every)
    if from_first:
        return np.asarray((classes[:, 1:] != classes[:, :1]).mean(axis=1))
    steps = [classes[:, start::every] for start in range(every)]
    changed = [part[:, 1:] != part[:, :-1] for part in steps]
    return np.asarray(np.concatenate(changed, axis=1).mean(axis=1))


def top5_distances(logits: ArrayLike, *, from_first: bool, every: int = 1) -> Floats:
    """T5D: how much the ranking of the first five classes changes from frame to frame, on average, a sequence.

    Args:
        logits: Shape (n, frames, classes).
        from_first: As in `flips`.
        every: As in `flips`.

    Returns:
        Shape (n,): 0 if the first five never change; at most 15 where there are ten classes or more.
    """
    values = np.asarray(logits)
    _check_frames(values, every)
    order = np.argsort(-values, axis=2, kind="stable")
    ranks = np.argsort(order, axis=2, kind="stable")
    pairs = []
    for start in range(1 if from_first else every):
        at = list(range(start, values.shape[1], 1 if from_first else every))
        pairs += [(at[0] if from_first else before, after) for before, after in pairwise(at)]
    places = np.arange(min(5, values.shape[2]))
    found = []
    for before, after in pairs:
        new = np.take_along_axis(ranks[:, after], order[:, before, : len(places)], axis=1)
        found.append(np.abs(np.minimum(new, 5) - places).sum(axis=1))
    return np.asarray(np.mean(found, axis=0), dtype=np.float64)


def _check_frames(values: NDArray[np.generic], every: int) -> None:
    if values.ndim < 2 or every < 1 or values.shape[1] <= every:
        raise InputError(f"A sequence has more frames than steps are long; got shape {values.shape}, every {every}.")
