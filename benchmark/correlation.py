"""Does one figure of the models tell another? Rank correlations over the rows of a board. No torch.

`kendall`, `pearson` and `spearman` compare two figures over all rows, with intervals; `grouped` and `conditional`
ask the same where training settings are known (Jiang et al., ICLR 2020; Kim et al., NeurIPS 2023): a measure that
merely tells methods apart says nothing within a method.

A bootstrap knows no spread where the rows show none: three rows in the same order by both figures gave an interval from
1 to 1, though one order in three is as good. So no interval is narrower than Fisher's on the scale of artanh, with the
variances of Bonett & Wright (Psychometrika 65, 2000) for ranks; where these have none, it is all of [−1, 1].
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from benchmark.errors import InputError

Floats = NDArray[np.float64]

RESAMPLES: Final = 1000
FEWEST: Final = 3
"""Rows below which a correlation means nothing."""


@dataclass(frozen=True)
class Correlation:
    """A correlation over models.

    Attributes:
        value: In [−1, 1]; NaN where it is not defined (fewer than three models, or a figure that never varies).
        low: Lower end of the interval over models, the wider of a percentile bootstrap and Fisher's; NaN likewise.
        high: Upper end.
        models: How many models have both figures.
    """

    value: float
    low: float
    high: float
    models: int


@dataclass(frozen=True)
class _Few:
    """What n rows can know of a correlation r: artanh r has the standard error √(variance / (n − lost)).

    Attributes:
        variance: Of artanh r, times the rows that count; by r.
        lost: Rows that do not count; with no more than these nothing is known.
        step: How far a perfect correlation of n rows is put from 1: half of the smallest step there is.
    """

    variance: Callable[[float], float]
    lost: int
    step: Callable[[int], float]

    def correlation(self, value: float, resampled: Floats, n: int, confidence: float) -> Correlation:
        """A correlation over n rows; its interval is never surer than these can be, nor than its resamples."""
        low, high = -1.0, 1.0
        if n > self.lost:
            most = 1 - self.step(n)
            known = np.clip(value, -most, most)
            half = ndtri((1 + confidence) / 2) * np.sqrt(self.variance(known) / (n - self.lost))
            with np.errstate(divide="ignore"):  # a straight line is known exactly
                middle = np.arctanh(known)
            low, high = np.tanh(middle - half), np.tanh(middle + half)
        drawn, share = resampled[np.isfinite(resampled)], (1 - confidence) / 2
        first, last = np.quantile(drawn, [share, 1 - share]) if len(drawn) else (value, value)
        return Correlation(value, float(min(low, first, value)), float(max(high, last, value)), n)


_KENDALL: Final = _Few(variance=lambda r: 0.437, lost=4, step=lambda n: 2 / (n * (n - 1)))
_SPEARMAN: Final = _Few(variance=lambda r: 1 + r * r / 2, lost=3, step=lambda n: 6 / (n**3 - n))
_PEARSON: Final = _Few(variance=lambda r: 1.0, lost=3, step=lambda n: 0.0)

TELLING: Final = _KENDALL.lost + 1
"""Rows from which on an order of theirs may be told from chance."""


def kendall(
    x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> Correlation:
    """Kendall's τ-b, which allows for ties; models that lack a figure (NaN) are left out.

    Args:
        x: One figure of each model, shape (m,).
        y: The other, shape (m,).
        confidence: Of the interval.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        InputError: If the lengths differ.
    """
    a, b = _paired(x, y)
    n = len(a)
    if n < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(np.nan, np.nan, np.nan, n)
    # How often each model is drawn weighs its pairs: all resamples are three products of matrices.
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
    weights = np.concatenate([np.ones((1, n)), weights])
    first, second = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    agree, untied_a, untied_b = (
        ((weights @ pairs) * weights).sum(axis=1) for pairs in (first * second, first**2, second**2)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        found = agree / np.sqrt(untied_a * untied_b)
    return _KENDALL.correlation(float(found[0]), found[1:], n, confidence)


def spearman(
    x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> Correlation:
    """Spearman's rank correlation; see `kendall`."""
    return _correlation(_of_ranks, _SPEARMAN, x, y, (confidence, seed, resamples))


def pearson(
    x: ArrayLike, y: ArrayLike, *, confidence: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> Correlation:
    """Pearson's linear correlation; see `kendall`."""
    return _correlation(_linear, _PEARSON, x, y, (confidence, seed, resamples))


def _linear(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else np.nan


def _of_ranks(a: Floats, b: Floats) -> float:
    return _linear(rankdata(a), rankdata(b))


def _correlation(
    statistic: Callable[[Floats, Floats], float],
    few: _Few,
    x: ArrayLike,
    y: ArrayLike,
    options: tuple[float, int, int],
) -> Correlation:
    a, b = _paired(x, y)
    n = len(a)
    if n < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(np.nan, np.nan, np.nan, n)
    confidence, seed, resamples = options
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    found = np.array([statistic(a[i], b[i]) for i in drawn if np.ptp(a[i]) > 0 and np.ptp(b[i]) > 0])
    return few.correlation(statistic(a, b), found, n, confidence)


def _paired(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise InputError(f"Two figures of the same models are needed; got shapes {a.shape} and {b.shape}.")
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both]


def signs(x: Floats, y: Floats) -> float:
    """τ of Kim et al.: the mean of sgn(Δx)·sgn(Δy) over pairs of models; a tie counts 0. NaN for a single model."""
    if len(x) < 2:
        return np.nan
    first, second = np.triu_indices(len(x), k=1)
    return float(np.mean(np.sign(x[first] - x[second]) * np.sign(y[first] - y[second])))


@dataclass(frozen=True)
class Grouped:
    """Whether a measure tells a figure when only one training setting varies.

    Attributes:
        psi: Setting -> ψ, the mean of τ over the groups of models that differ only in that setting; NaN without one.
        mean: Ψ, the mean of the ψ that are defined.
        groups: Setting -> how many groups there are.
    """

    psi: Mapping[str, float]
    mean: float
    groups: Mapping[str, int]


def grouped(x: ArrayLike, y: ArrayLike, settings: Sequence[Mapping[str, str]]) -> Grouped:
    """Ψ, the granulated Kendall coefficient.

    Args:
        x: The measure of each model, shape (m,).
        y: What it should tell, for instance the robust generalisation gap, shape (m,).
        settings: For each model the value of every training setting.

    Raises:
        InputError: If the lengths differ, or the models do not all have the same settings.
    """
    a, b, table = _with_settings(x, y, settings)
    psi: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name in table[0] if table else ():
        groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for i, row in enumerate(table):
            groups[tuple(value for key, value in row.items() if key != name)].append(i)
        found = [signs(a[members], b[members]) for members in groups.values() if len(members) > 1]
        psi[name], counts[name] = (float(np.mean(found)) if found else np.nan), len(found)
    known = [value for value in psi.values() if np.isfinite(value)]
    return Grouped(psi, float(np.mean(known)) if known else np.nan, counts)


def conditional(x: ArrayLike, y: ArrayLike, settings: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """π: for each setting the mean of τ over the groups of models that share its value; see `grouped`."""
    a, b, table = _with_settings(x, y, settings)
    found: dict[str, float] = {}
    for name in table[0] if table else ():
        values = {value: [i for i, row in enumerate(table) if row[name] == value] for value in {r[name] for r in table}}
        taus = [signs(a[members], b[members]) for members in values.values() if len(members) > 1]
        found[name] = float(np.mean(taus)) if taus else np.nan
    return found


def _with_settings(
    x: ArrayLike, y: ArrayLike, settings: Sequence[Mapping[str, str]]
) -> tuple[Floats, Floats, list[dict[str, str]]]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not a.shape == b.shape == (len(settings),):
        raise InputError(f"{len(settings)} models' settings for figures of shapes {a.shape} and {b.shape}.")
    if any(set(row) != set(settings[0]) for row in itertools.islice(settings, 1, None)):
        raise InputError("The models do not all have the same training settings; compare those of one grid.")
    both = np.isfinite(a) & np.isfinite(b)
    return a[both], b[both], [dict(row) for row, kept in zip(settings, both, strict=True) if kept]
