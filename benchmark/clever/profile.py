"""The likelihood of a reverse Weibull law along its endpoint, for many rows of observations at once.

With the gap between the endpoint and the largest observation fixed, the observations' distances y from the endpoint are
Weibull with two parameters: σ has a closed form, and the likelihood is concave in c, whose root Newton's method finds.
What remains is a search in one dimension, over the logarithm of the gap. All here is in units of each row's range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import kolmogorov

Floats = NDArray[np.float64]

_PER_DECADE: Final = 2
LOG_GAPS: Final = np.log(10) / _PER_DECADE * np.arange(-5 * _PER_DECADE, 4 * _PER_DECADE + 1)
"""Logarithms of the gaps that are tried first: 1e-5 to 1e4."""

_WIDTH: Final = float(LOG_GAPS[1] - LOG_GAPS[0])
_LONGEST: Final = 2 * _WIDTH
"""The longest step of a search."""

_EXACT: Final = 8
"""So many of the largest observations, which hold the endpoint, count one by one while an optimum is located."""

COARSE: Final = 1.4
"""Growth of the groups of the others while the grid is scanned."""

_FINE: Final = 1.1
"""The same while the search comes near an optimum; only its last steps see every observation."""

_REFINEMENTS: Final = 30
"""Most steps of the search for one optimum; nearly all rows are done in five."""

_RESOLUTION: Final = 5e-3
"""A step shorter than this, in the logarithm of the gap, is the last; its error is of the order of its square."""

_NEWTON: Final = 4
"""Most Newton steps for c at a grid point."""

_NEAR: Final = 0.03
"""A Newton step for c that moves it by less leaves value and slope good enough for the grid."""

_SURE: Final = 1e-2
"""If the last step moved c by less, the sign of the slope can be trusted."""

_BLOCK: Final = 2**15
"""Observations worked on together: a few arrays of this length stay in a core's cache."""


@dataclass(frozen=True)
class Fit:
    """Fitted laws; each attribute has the shape (m,).

    Attributes:
        value: The log-likelihood less the penalty.
        log_likelihood: Without the penalty.
        gap: Between the endpoint and the largest observation.
        shape: c.
        scale: σ.
        ks: Kolmogorov–Smirnov statistic.
    """

    value: Floats
    log_likelihood: Floats
    gap: Floats
    shape: Floats
    scale: Floats
    ks: Floats

    def where(self, mask: NDArray[np.bool_], other: Fit) -> Fit:
        """These laws where the mask holds, the others elsewhere."""
        return Fit(*(np.where(mask, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))

    def put(self, mask: NDArray[np.bool_], fits: Fit) -> None:
        """Replace the laws where the mask holds."""
        for f in fields(self):
            getattr(self, f.name)[mask] = getattr(fits, f.name)

    @staticmethod
    def joined(fits: Sequence[Fit]) -> Fit:
        """All laws, one after the other."""
        return Fit(*(np.concatenate([np.empty(0), *(getattr(fit, f.name) for fit in fits)]) for f in fields(Fit)))


@dataclass(frozen=True)
class _Point:
    """The profile at some gap; each attribute has the shape (m,).

    Attributes:
        value: What is maximised.
        slope: Its derivative in the logarithm of the gap.
        shape: c.
        shape_slope: Derivative of c in the logarithm of the gap.
        moved: How far the last Newton step moved c, relative to c.
    """

    value: Floats
    slope: Floats
    shape: Floats
    shape_slope: Floats
    moved: Floats

    def predicted_shape(self, step: Floats | float) -> Floats:
        """Roughly c where the logarithm of the gap is larger by ``step``; c grows no faster than the gap."""
        return np.maximum(self.shape * np.exp(np.clip(self.shape_slope / self.shape, 0, 1) * step), 1)

    def rows(self, keep: NDArray[Any]) -> _Point:
        """Some of the rows."""
        return _Point(*(getattr(self, f.name)[keep] for f in fields(self)))


@dataclass(frozen=True)
class Profile:
    """The likelihood of rows of observations, maximised over c and σ, as a function of the gap.

    Attributes:
        distance: Of each observation from its row's largest, ascending from 0 to 1; shape (m, k).
        share: Which share of the observations each column stands for; shape (k,).
        n: How many observations there are in a row.
        penalty: Weight of σ², subtracted from the log-likelihood.
    """

    distance: Floats
    share: Floats
    n: int
    penalty: float

    def __call__(self, gap: Floats, shape: Floats) -> _Point:
        """Nearly the best laws with these gaps, from one Newton step for c.

        Value and slope are those of the point that the step reaches, to second order in the step, so that a call costs
        one logarithm and one exponential an observation.

        Args:
            gap: Greater than 0, shape (m,).
            shape: A guess of c, shape (m,).
        """
        reach = 1 + gap
        relative = 1 + (self.distance - 1) / reach[:, None]
        z = np.log(relative)  # log(y / largest y): its powers never overflow
        weights = np.exp(shape[:, None] * z)
        z_mean, power = z @ self.share, weights @ self.share
        weighted = weights * z
        first = (weighted @ self.share) / power
        second = (np.multiply(weighted, z, out=weighted) @ self.share) / power
        bend = 1 / shape**2 + second - first**2
        inverse = np.reciprocal(relative, out=relative)
        inverse_mean = (inverse @ self.share) / reach  # of 1 / y
        tilted = (np.multiply(weights, inverse, out=weights) @ self.share) / (power * reach)
        tilted_log = (np.multiply(weights, z, out=weights) @ self.share) / (power * reach)
        # Newton's step for c times the derivative in c: nearly linear in log c, so it converges from afar.
        lead = first - z_mean
        better = shape + (1 - shape * lead) / (lead + shape * (second - first**2))
        better = np.maximum(np.clip(better, shape / 4, shape * 4), 1)
        step = better - shape
        shape_slope = np.where(better > 1, (inverse_mean - tilted - shape * (tilted_log - first * tilted)) / bend, 0)
        log_density = np.log(shape) - np.log(power) + (shape - 1) * z_mean - 1 - np.log(reach)
        likelihood = self.n * (log_density + step * (1 / shape - lead) - bend * step**2 / 2)
        slope = self.n * ((shape - 1) * inverse_mean - shape * tilted + bend * shape_slope * step)
        log_scale = np.log(power) / shape
        scale = reach * np.exp(log_scale)
        scale_by_shape = scale * (first - log_scale) / shape
        scale_slope = scale * tilted + scale_by_shape * shape_slope
        scale = scale + scale_by_shape * step
        return _Point(
            value=likelihood - self.penalty * scale**2,
            slope=gap * (slope - 2 * self.penalty * scale * scale_slope),
            shape=better,
            shape_slope=gap * shape_slope,
            moved=np.abs(step) / shape,
        )

    def conclude(self, gap: Floats, shape: Floats) -> Fit:
        """The laws with these gaps and c, and the best σ.

        Args:
            gap: Shape (m,). Where it is 0, c must be 1: with another the largest observation has density 0 or inf.
            shape: c, shape (m,).
        """
        reach = 1 + gap
        with np.errstate(divide="ignore"):
            z = np.log(1 + (self.distance - 1) / reach[:, None])
        z_mean = np.where(shape > 1, z @ self.share, 0)  # times c − 1
        weights = np.exp(np.multiply(z, shape[:, None], out=z), out=z)
        power = weights @ self.share
        scale = reach * power ** (1 / shape)
        likelihood = self.n * (np.log(shape) - np.log(power) + (shape - 1) * z_mean - 1 - np.log(reach))
        weights *= (-1 / power)[:, None]
        distribution = np.exp(weights, out=weights)
        after = 1 - np.arange(self.n) / self.n  # share of observations up to each; the largest come first
        above, below = (after - distribution).max(axis=1), (distribution - after).max(axis=1) + 1 / self.n
        return Fit(likelihood - self.penalty * scale**2, likelihood, gap, shape, scale, np.maximum(above, below))

    def at_zero(self) -> Fit:
        """The laws whose endpoint is the largest observation: exponential, c = 1."""
        zeros = np.zeros(len(self.distance))
        return Fit.joined([self.rows(block).conclude(zeros[block], zeros[block] + 1) for block in self.blocks()])

    def value_at_zero(self) -> Floats:
        """The objective of these laws, shape (m,)."""
        scale = self.distance @ self.share
        value: Floats = -self.n * (np.log(scale) + 1) - self.penalty * scale**2
        return value

    def rows(self, keep: NDArray[Any] | slice) -> Profile:
        """The same for some of the rows."""
        return replace(self, distance=self.distance[keep])

    def blocks(self) -> Iterator[slice]:
        """Rows to work on together."""
        size = max(1, _BLOCK // self.distance.shape[1])
        return (slice(i, i + size) for i in range(0, len(self.distance), size))

    def thinned(self, growth: float) -> Profile:
        """Nearly the same from fewer columns: the largest observations as they are, groups of the others by means."""
        edges, size = list(range(min(_EXACT, self.n) + 1)), 1.0
        while edges[-1] < self.n:
            size *= growth
            edges.append(min(self.n, edges[-1] + int(size)))
        sums = np.add.reduceat(self.distance, edges[:-1], axis=1)
        sizes = np.array([b - a for a, b in pairwise(edges)])
        return replace(self, distance=sums / sizes, share=sizes / self.n)


@dataclass(frozen=True)
class Scan:
    """A profile on the grid of gaps `LOG_GAPS`; each attribute has the shape (m, g)."""

    value: Floats
    slope: Floats
    shape: Floats

    @classmethod
    def of(cls, profile: Profile) -> Scan:
        """Scan a profile from the smallest gap to the largest; each c is where the search for the next starts."""
        kept = cls(*(np.empty((len(profile.distance), len(LOG_GAPS))) for _ in fields(cls)))
        for rows in profile.blocks():
            part = profile.rows(rows)
            shape = np.ones(len(part.distance))
            for i, log_gap in enumerate(LOG_GAPS):
                for _ in range(_NEWTON):
                    law = part(np.full(len(shape), math.exp(log_gap)), shape)
                    shape = law.shape
                    if law.moved.max() < _NEAR:
                        break
                kept.value[rows, i], kept.slope[rows, i], kept.shape[rows, i] = law.value, law.slope, law.shape
                shape = law.predicted_shape(_WIDTH)
        return kept

    def climb(self, start: float) -> NDArray[np.intp]:
        """Index of the local maximum of each row that is uphill from the gap where c first reaches ``start``."""
        last = len(LOG_GAPS) - 1
        index: NDArray[np.intp] = np.minimum((self.shape < start).sum(axis=1), last).astype(np.intp)
        rows = np.arange(len(index))
        while True:
            here = self.value[rows, index]
            up = self.value[rows, np.minimum(index + 1, last)] > here
            down = (self.value[rows, np.maximum(index - 1, 0)] > here) & ~up
            if not (up | down).any():
                return index
            index = (index + up - down).astype(np.intp)


def refine(profile: Profile, scan: Scan, peak: NDArray[np.intp]) -> Fit:
    """The optimum of each row near a grid point.

    Args:
        profile: What is maximised.
        scan: Its thinned form on the grid.
        peak: Index of a grid point of each row.
    """
    rows = np.arange(len(peak))
    here = scan.slope[rows, peak]
    other = np.clip(peak + np.where(here > 0, 1, -1), 0, len(LOG_GAPS) - 1)
    apart, change = LOG_GAPS[other] - LOG_GAPS[peak], scan.slope[rows, other] - here
    between = (apart != 0) & (change * apart < 0)
    share = np.where(between, np.clip(-here / np.where(between, change, 1), 0, 1), 0)
    shape = scan.shape[rows, peak] * (scan.shape[rows, other] / scan.shape[rows, peak]) ** share
    curvature = np.where(between, change / np.where(between, apart, 1), 0)
    start, fine = _Start(LOG_GAPS[peak] + share * apart, shape, curvature), profile.thinned(_FINE)
    fits = []
    for block in profile.blocks():
        part = profile.rows(block)
        found = _search(part, _search(fine.rows(block), start.rows(block)))
        fits.append(part.conclude(np.exp(found.at), found.shape))
    return Fit.joined(fits)


@dataclass(frozen=True)
class _Start:
    """Where a search begins: logarithm of the gap, c, and the objective's second derivative there (0: unknown)."""

    at: Floats
    shape: Floats
    curvature: Floats

    def rows(self, keep: slice) -> _Start:
        return _Start(self.at[keep], self.shape[keep], self.curvature[keep])


def _search(profile: Profile, start: _Start) -> _Start:
    """The root of the slope by the secant method, inside a bracket that narrows; and where a like search may begin."""
    found = replace(start, at=start.at.copy(), shape=start.shape.copy(), curvature=start.curvature.copy())
    active, at, curvature = np.arange(len(start.at)), start.at, start.curvature
    low, high = np.full_like(at, LOG_GAPS[0] - _WIDTH), np.full_like(at, LOG_GAPS[-1] + _WIDTH)
    point = profile(np.exp(at), start.shape)
    last, last_slope = at, point.slope
    for _ in range(_REFINEMENTS):
        sure = point.moved < _SURE  # elsewhere c is not there yet: another Newton step with the same gap
        moved = sure & (np.abs(at - last) > _RESOLUTION / 100)
        curvature = np.where(moved, (point.slope - last_slope) / np.where(moved, at - last, 1), curvature)
        last, last_slope = np.where(sure, at, last), np.where(sure, point.slope, last_slope)
        low, high = np.where(sure & (point.slope > 0), at, low), np.where(sure & (point.slope <= 0), at, high)
        trial = at + _secant_step(point.slope, curvature)
        trial = np.where((trial > low) & (trial < high), trial, (low + high) / 2)
        step = np.where(sure, trial - at, 0)
        at, shape = at + step, point.predicted_shape(step)
        found.at[active], found.shape[active], found.curvature[active] = at, shape, curvature
        going = (np.abs(step) > _RESOLUTION) | ~sure
        if not going.any():
            break
        active, at, low, high, shape = active[going], at[going], low[going], high[going], shape[going]
        last, last_slope, curvature = last[going], last_slope[going], curvature[going]
        point = profile.rows(active)(np.exp(at), shape)
    return found


def _secant_step(slope: Floats, curvature: Floats) -> Floats:
    """To the root of the slope where the function is concave, uphill by the longest step elsewhere."""
    concave = curvature < 0
    step = np.where(concave, -slope / np.where(concave, curvature, 1), np.sign(slope) * _LONGEST)
    clipped: Floats = np.clip(step, -_LONGEST, _LONGEST)
    return clipped


def ks_p_value(statistic: Floats, n: int) -> Floats:
    """P-value of Kolmogorov–Smirnov statistics of n observations."""
    # Stephens 1970: with this argument the limiting distribution is accurate from n = 5 on.
    p_value: Floats = kolmogorov(statistic * (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)))
    return p_value
