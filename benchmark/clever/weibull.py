"""Reverse Weibull fits by maximum likelihood, for many samples at once.

The largest of many gradient norms follows, in the limit, a reverse Weibull law with the distribution function
F(x) = exp(−((μ − x)/σ)^c) below its endpoint μ (Weng et al. 2018, arXiv:1801.10578, theorem 4.1); μ estimates the
local Lipschitz constant.

The likelihood has no maximum for c < 1: it grows without bound as μ falls to the largest observation. Here c >= 1, and
μ is never below the largest observation. Within these bounds the optimum is found by `benchmark.clever.profile`;
SciPy's general three-parameter fit is slower, and starts from one point, from which it often gets stuck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from benchmark.clever.profile import COARSE, LOG_GAPS, Fit, Floats, Profile, Scan, ks_p_value, refine
from benchmark.errors import InputError

CONSTANT: Final = 1e-6
"""Maxima whose range is below this share of the largest are one value: float32 gradients know no finer."""

FEW: Final = 10
"""With fewer observations three parameters mean little; the fit is flagged."""


@dataclass(frozen=True)
class ReverseWeibull:
    """Fitted laws; each attribute has the shape of the batch.

    Attributes:
        location: The endpoint μ, float64.
        shape: c >= 1, float64; NaN where all observations are equal.
        scale: σ, float64; 0 where all observations are equal.
        log_likelihood: At the fit, float64; NaN where all observations are equal.
        ks: Kolmogorov–Smirnov statistic of the fit, float64; NaN where all observations are equal.
        p_value: Its p-value (asymptotic with Stephens' correction), float64. The parameters are fitted to the same
            observations, so it is an upper bound.
        constant: All observations are equal (up to `CONSTANT`); ``location`` is their value. A linear model gives this.
        few: Fewer than `FEW` observations.
        unbounded: The objective still rises at the largest gap tried: no finite endpoint is identified.
        replaced: The fit's p-value is below ``reject_below``; ``location`` is the largest observation instead.
    """

    location: Floats
    shape: Floats
    scale: Floats
    log_likelihood: Floats
    ks: Floats
    p_value: Floats
    constant: NDArray[np.bool_]
    few: NDArray[np.bool_]
    unbounded: NDArray[np.bool_]
    replaced: NDArray[np.bool_]


def fit_reverse_weibull(
    maxima: ArrayLike, *, penalty: float = 0.0, starts: Sequence[float] = (), reject_below: float = 0.0
) -> ReverseWeibull:
    """Fit a reverse Weibull law to each row.

    Args:
        maxima: Observations, shape (..., n), n >= 2.
        penalty: Weight of σ² (in units of the observations' range) subtracted from the log-likelihood; the released
            CLEVER code uses 0.01. Without it the endpoint can run far off where the data do not bound it.
        starts: Initial shapes c. Without them the best optimum is taken; with them the optima that are reached
            from these shapes, and of these the one with the largest KS p-value, as the released CLEVER code does.
        reject_below: Where the p-value is smaller, the largest observation replaces the endpoint.

    Returns:
        The fits, with the shape of the batch.

    Raises:
        InputError: If there are fewer than two observations, or one is not finite.
    """
    observed = np.asarray(maxima, dtype=np.float64)
    n = observed.shape[-1] if observed.ndim else 0
    if n < 2:
        raise InputError(f"A Weibull fit needs at least 2 maxima, got {n}; raise the number of batches.")
    if not np.isfinite(observed).all():
        raise InputError("A Weibull fit needs finite maxima, got NaN or inf among them; the gradients overflow.")
    rows = observed.reshape(-1, n)
    top = rows.max(axis=1)
    spread = top - rows.min(axis=1)
    constant = spread <= CONSTANT * np.abs(top)
    unit = np.where(constant, 1, spread)
    distance = np.sort((top[:, None] - rows) / unit[:, None], axis=1)
    distance[constant] = np.linspace(0, 1, n)  # anything that can be fitted; it is not reported
    profile = Profile(distance, np.full(n, 1 / n), n, penalty)
    best = _best(profile, starts)
    p_value = ks_p_value(best.ks, n)
    replaced = (p_value < reject_below) & ~constant

    def shaped(values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(observed.shape[:-1])

    def fitted(values: Floats) -> Floats:
        return shaped(np.where(constant, np.nan, values))

    return ReverseWeibull(
        location=shaped(np.where(constant | replaced, top, top + best.gap * unit)),
        shape=fitted(best.shape),
        scale=shaped(np.where(constant, 0, best.scale * unit)),
        log_likelihood=fitted(best.log_likelihood - n * np.log(unit)),
        ks=fitted(best.ks),
        p_value=fitted(p_value),
        constant=shaped(constant),
        few=shaped(np.full(len(top), n < FEW)),
        unbounded=shaped((best.gap > 0.9 * np.exp(LOG_GAPS[-1])) & ~constant),
        replaced=shaped(replaced),
    )


def _best(profile: Profile, starts: Sequence[float]) -> Fit:
    """The law of each row: the best optimum, or the best-fitting of those that the starts lead to."""
    scan = Scan.of(profile.thinned(COARSE))
    if not starts:
        best = refine(profile, scan, scan.value.argmax(axis=1))
        exponential = profile.value_at_zero() >= best.value
        best.put(exponential, profile.rows(exponential).at_zero())
        return best
    at_zero = profile.at_zero()
    chosen = replace(at_zero, ks=np.full(len(at_zero.ks), np.inf))
    for start in starts:
        peak = scan.climb(start)
        found = refine(profile, scan, peak).where(peak > 0, at_zero)
        chosen = found.where(found.ks < chosen.ks, chosen)  # of equal n, the smaller statistic has the larger p-value
    return chosen


def bootstrap_location(
    maxima: ArrayLike, *, resamples: int = 200, confidence: float = 0.95, penalty: float = 0.0, seed: int = 0
) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of the endpoint.

    Args:
        maxima: Observations, shape (..., n).
        resamples: How often the observations are drawn again.
        confidence: Between 0 and 1.
        penalty: As in `fit_reverse_weibull`.
        seed: Of the draws.

    Returns:
        Lower and upper ends, each of the shape of the batch, float64.

    Raises:
        InputError: If ``resamples`` or ``confidence`` is out of range.
    """
    if resamples < 2 or not 0 < confidence < 1:
        raise InputError(
            f"A bootstrap needs 2 resamples or more and a confidence between 0 and 1, got {resamples} and {confidence}."
        )
    observed = np.asarray(maxima, dtype=np.float64)
    n = observed.shape[-1]
    draws = np.random.default_rng(seed).integers(n, size=(resamples, n))
    locations = fit_reverse_weibull(observed[..., draws], penalty=penalty).location
    low, high = np.quantile(locations, [(1 - confidence) / 2, (1 + confidence) / 2], axis=-1)
    return low, high
