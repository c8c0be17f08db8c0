"""Reverse Weibull fits by maximum likelihood, for many samples at once.

The largest of many gradient norms follows, in the limit, a reverse Weibull law with the distribution function
F(x) = exp(−((μ − x)/σ)^c) below its endpoint μ (Weng et al. 2018, arXiv:1801.10578, theorem 4.1); μ estimates the
local Lipschitz constant.

The likelihood has no maximum for c < 1: it grows without bound as μ falls to the largest observation. Here c >= 1 and
μ is never below the largest observation. For a given μ the observations' distances y = μ − x are Weibull with two
parameters, whose likelihood is concave in c and closed in σ; what remains is a search in one dimension, over
the gap between μ and the largest observation. SciPy's general three-parameter fit does the same slowly and starts
from one point, from which it often does not reach the optimum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import torch
from scipy.special import kolmogorov
from torch import Tensor

from benchmark.errors import InputError

CONSTANT: Final = 1e-6
"""Maxima whose range is below this share of the largest are one value: float32 gradients know no finer."""

_FEW: Final = 10
"""With fewer observations three parameters mean little; the fit is flagged."""

_EXACT: Final = 8
"""So many of the largest observations, which hold the endpoint, count one by one while the optimum is being located."""

_BLOCK: Final = 2**15
"""Observations worked on together: a few arrays of this length stay in a core's cache."""


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
        few: Fewer than ten observations.
        unbounded: The likelihood still rises at the end of the search: no finite endpoint is identified.
        replaced: No fit has a p-value of at least ``reject_below``; ``location`` is the largest observation instead.
    """

    location: Tensor
    shape: Tensor
    scale: Tensor
    log_likelihood: Tensor
    ks: Tensor
    p_value: Tensor
    constant: Tensor
    few: Tensor
    unbounded: Tensor
    replaced: Tensor


def fit_reverse_weibull(
    maxima: Tensor, *, penalty: float = 0.0, starts: Sequence[float] = (), reject_below: float = 0.0
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
    n = maxima.shape[-1]
    if n < 2:
        raise InputError(f"A Weibull fit needs at least 2 maxima, got {n}; raise the number of batches.")
    if not torch.isfinite(maxima).all():
        raise InputError("A Weibull fit needs finite maxima, got NaN or inf among them; the gradients overflow.")
    rows = maxima.detach().double().reshape(-1, n)
    blocks = [_fit_block(block, penalty, tuple(starts)) for block in torch.split(rows, max(1, _BLOCK // n))]
    best = _Law(*(torch.cat([getattr(block, f.name) for block in blocks]) for f in fields(_Law)))
    top, spread = rows.amax(dim=1), rows.amax(dim=1) - rows.amin(dim=1)
    constant = spread <= CONSTANT * top.abs()
    location, sigma = top + best.gap * spread, best.scale * spread
    ks, p_value = kolmogorov_smirnov(rows, location, best.shape, sigma)
    replaced = (p_value < reject_below) & ~constant
    nan = torch.full_like(top, torch.nan)

    def shaped(values: Tensor) -> Tensor:
        return values.reshape(maxima.shape[:-1])

    return ReverseWeibull(
        location=shaped(torch.where(constant | replaced, top, location)),
        shape=shaped(torch.where(constant, nan, best.shape)),
        scale=shaped(torch.where(constant, torch.zeros_like(top), sigma)),
        log_likelihood=shaped(torch.where(constant, nan, best.log_likelihood - n * spread.clamp_min(1e-300).log())),
        ks=shaped(torch.where(constant, nan, ks)),
        p_value=shaped(torch.where(constant, nan, p_value)),
        constant=shaped(constant),
        few=shaped(torch.full_like(constant, n < _FEW)),
        unbounded=shaped(best.at_end & ~constant),
        replaced=shaped(replaced),
    )


def bootstrap_location(
    maxima: Tensor, *, resamples: int = 200, confidence: float = 0.95, penalty: float = 0.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
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
    n = maxima.shape[-1]
    draws = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed)).to(maxima.device)
    again = maxima[..., draws]
    tail = (1 - confidence) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64, device=maxima.device)
    low, high = fit_reverse_weibull(again, penalty=penalty).location.quantile(ends, dim=-1)
    return low, high


def kolmogorov_smirnov(rows: Tensor, location: Tensor, shape: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """KS statistic and p-value of fitted laws.

    Args:
        rows: Observations, shape (m, n).
        location: μ, shape (m,), not below the largest observation of its row.
        shape: c, shape (m,).
        scale: σ, shape (m,).

    Returns:
        Statistic and p-value, each of shape (m,), float64.
    """
    n = rows.shape[1]
    y = (location[:, None] - rows.sort(dim=1).values).clamp_min(0)
    law = torch.exp(-((y / scale.clamp_min(1e-300)[:, None]) ** shape[:, None]))
    steps = torch.arange(n + 1, dtype=torch.float64, device=rows.device) / n
    statistic = torch.maximum((steps[1:] - law).amax(dim=1), (law - steps[:-1]).amax(dim=1))
    # Stephens 1970: this argument makes the limiting distribution accurate from n = 5 on.
    argument = statistic * (n**0.5 + 0.12 + 0.11 / n**0.5)
    return statistic, torch.from_numpy(kolmogorov(argument.cpu().numpy())).to(rows.device)


@dataclass(frozen=True)
class _Law:
    """The best law of each row at some gap; gap and σ in units of the row's range; each of shape (m,).

    Attributes:
        value: The log-likelihood less the penalty: what is maximised.
        slope: Its derivative in the logarithm of the gap.
        log_likelihood: Without the penalty.
        gap: Between the endpoint and the largest observation.
        shape: c.
        shape_slope: Derivative of c in the logarithm of the gap.
        scale: σ.
        at_end: The search ended at the largest gap.
    """

    value: Tensor
    slope: Tensor
    log_likelihood: Tensor
    gap: Tensor
    shape: Tensor
    shape_slope: Tensor
    scale: Tensor
    at_end: Tensor

    def predicted_shape(self, step: Tensor | float) -> Tensor:
        """Roughly c where the logarithm of the gap is larger by ``step``; exact in the limit of large gaps."""
        return self.shape * torch.exp(self.shape_slope / self.shape * step)

    def rows(self, index: Tensor) -> _Law:
        """Some of the laws."""
        return _Law(*(getattr(self, f.name)[index] for f in fields(self)))

    def updated(self, index: Tensor, laws: _Law) -> _Law:
        """These laws, some replaced."""
        return _Law(*(getattr(self, f.name).index_copy(0, index, getattr(laws, f.name)) for f in fields(self)))

    def where(self, mask: Tensor, other: _Law) -> _Law:
        """This law where the mask holds, the other elsewhere."""
        return _Law(*(torch.where(mask, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


class _Profile:
    """The likelihood of some rows, maximised over c and σ, as a function of the gap; in units of each row's range.

    Args:
        distance: Of each observation from its row's largest, in units of the range; shape (m, k), from 0 to 1.
        weights: How many observations each column stands for, shape (k,), float64.
        penalty: As in `fit_reverse_weibull`.
    """

    def __init__(self, distance: Tensor, weights: Tensor, penalty: float) -> None:
        self.distance, self.penalty = distance, penalty
        self.n = float(weights.sum())
        self.mean = weights / self.n

    def __call__(self, gap: Tensor, shape: Tensor, *, steps: int) -> _Law:
        """The best law with this gap, shape (m,), greater than 0; ``steps`` Newton steps for c from ``shape``."""
        reach = 1 + gap
        relative = 1 + (self.distance - 1) / reach[:, None]
        z = relative.log()  # log(y / largest y): its powers never overflow
        z_mean = z @ self.mean
        for _ in range(steps):
            first, second, _, _ = self._moments(z, shape)
            lead = first - z_mean
            step = (1 - shape * lead) / (lead + shape * (second - first.square()))
            shape = (shape + step).clamp(shape / 4, shape * 4).clamp_min(1)
        first, second, power, weights = self._moments(z, shape)
        inverse = relative.mul_(reach[:, None]).reciprocal_()  # 1 / y
        inverse_mean = inverse @ self.mean
        weights.mul_(inverse)
        tilted = (weights @ self.mean) / power
        tilted_log = (weights.mul_(z) @ self.mean) / power
        likelihood = self.n * (shape.log() - power.log() + (shape - 1) * z_mean - 1 - reach.log())
        scale = reach * power ** (1 / shape)
        shape_slope = (inverse_mean - tilted - shape * (tilted_log - first * tilted)) / (
            1 / shape.square() + second - first.square()
        )
        shape_slope = torch.where(shape > 1, shape_slope, 0)
        scale_slope = scale * (tilted + (first / shape - power.log() / shape.square()) * shape_slope)
        slope = self.n * ((shape - 1) * inverse_mean - shape * tilted) - 2 * self.penalty * scale * scale_slope
        return _Law(
            value=likelihood - self.penalty * scale.square(),
            slope=gap * slope,
            log_likelihood=likelihood,
            gap=gap,
            shape=shape,
            shape_slope=gap * shape_slope,
            scale=scale,
            at_end=torch.zeros_like(gap, dtype=torch.bool),
        )

    def _moments(self, z: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean of z and z² with the weights e^(c z), the mean of these weights, and the weights, shape (m, k)."""
        weights = torch.exp(shape[:, None] * z)
        power = weights @ self.mean
        weighted = weights * z
        first = (weighted @ self.mean) / power
        return first, (weighted.mul_(z) @ self.mean) / power, power, weights

    def at_zero(self) -> _Law:
        """The law whose endpoint is the largest observation: c = 1, since others have density 0 or inf there."""
        scale = self.distance @ self.mean
        likelihood = -self.n * (scale.clamp_min(1e-300).log() + 1)
        zero, one = torch.zeros_like(scale), torch.ones_like(scale)
        value = likelihood - self.penalty * scale.square()
        return _Law(value, zero, likelihood, zero, one, zero, scale, at_end=zero.bool())

    def rows(self, keep: Tensor) -> _Profile:
        """The same for some of the rows."""
        part = _Profile.__new__(_Profile)
        part.distance, part.penalty, part.n, part.mean = self.distance[keep], self.penalty, self.n, self.mean
        return part


_PER_DECADE: Final = 3
_LOG_GAPS: Final = tuple(math.log(10) * k / _PER_DECADE for k in range(-5 * _PER_DECADE, 4 * _PER_DECADE + 1))
"""Logarithms of the gaps tried first, in units of the range: 1e-5 to 1e4."""

_REFINEMENTS: Final = 12
"""Steps of the search around the best of them; most rows are done in four."""

_RESOLUTION: Final = 1e-6
"""Of the logarithm of the gap."""


def _fit_block(rows: Tensor, penalty: float, starts: tuple[float, ...]) -> _Law:
    """The chosen law of each row of maxima, shape (m, n)."""
    descending = rows.sort(dim=1, descending=True).values
    top, spread = descending[:, :1], descending[:, :1] - descending[:, -1:]
    distance = (top - descending) / torch.where(spread > 0, spread, 1)
    profile = _Profile(distance, distance.new_ones(distance.shape[1]), penalty)
    grid = _scan(_thinned(profile))
    values, shapes = torch.stack([g.value for g in grid]), torch.stack([g.shape for g in grid])
    at_zero = profile.at_zero()
    if not starts:
        best = _refine(profile, grid, values.argmax(dim=0))
        return best.where(best.value > at_zero.value, at_zero)
    chosen, chosen_p = at_zero, torch.full_like(at_zero.value, -1.0)
    for start in starts:
        peak = _climb(values, (shapes < start).sum(dim=0).clamp_max(len(grid) - 1))
        found = _refine(profile, grid, peak).where(peak > 0, at_zero)
        _, p_value = kolmogorov_smirnov(-distance, found.gap, found.shape, found.scale)
        better = p_value > chosen_p
        chosen, chosen_p = found.where(better, chosen), torch.where(better, p_value, chosen_p)
    return chosen


def _thinned(profile: _Profile) -> _Profile:
    """The same likelihood, roughly: the largest observations as they are, groups of the others by their means."""
    n = profile.distance.shape[1]
    edges, size = [0], 1.0
    while edges[-1] < n:
        edges.append(min(n, edges[-1] + int(size)))
        size = max(size * 1.15, 1.0) if edges[-1] >= _EXACT else 1.0
    sizes = torch.tensor(edges).diff()
    group = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    average = (group[:, None] == torch.arange(len(sizes))).double() / sizes
    return _Profile(
        profile.distance @ average.to(profile.distance.device),
        sizes.to(profile.distance),
        profile.penalty,
    )


def _scan(profile: _Profile) -> list[_Law]:
    """The best laws on the grid of gaps; c of one is where the search for the next c starts."""
    shape, grid = torch.ones_like(profile.distance[:, 0]), []
    for log_gap in _LOG_GAPS:
        grid.append(profile(torch.full_like(shape, math.exp(log_gap)), shape, steps=2))
        shape = grid[-1].predicted_shape(_LOG_GAPS[1] - _LOG_GAPS[0])
    return grid


def _climb(values: Tensor, index: Tensor) -> Tensor:
    """From an index into each column of ``values``, shape (g, m), uphill to a local maximum; shape (m,)."""
    last = len(values) - 1
    while True:
        here = values.gather(0, index[None])[0]
        up = values.gather(0, (index + 1).clamp_max(last)[None])[0] > here
        down = (values.gather(0, (index - 1).clamp_min(0)[None])[0] > here) & ~up
        if not (up | down).any():
            return index
        index = index + up.long() - down.long()


def _refine(profile: _Profile, grid: list[_Law], peak: Tensor) -> _Law:
    """The root of the slope around a grid point, by the secant method inside a bracket.

    Args:
        profile: What is maximised.
        grid: Laws on the grid of gaps, from the thinned observations.
        peak: Index of the best grid point of each row, shape (m,).
    """
    slopes, shapes = torch.stack([g.slope for g in grid]), torch.stack([g.shape for g in grid])
    log_gaps = torch.tensor(_LOG_GAPS, dtype=torch.float64, device=peak.device)
    width = _LOG_GAPS[1] - _LOG_GAPS[0]
    uphill = slopes.gather(0, peak[None])[0] > 0
    other = (peak + torch.where(uphill, 1, -1)).clamp(0, len(grid) - 1)
    here, there = slopes.gather(0, peak[None])[0], slopes.gather(0, other[None])[0]
    share = (here / (here - there)).nan_to_num(0.5).clamp(0, 1)
    at = log_gaps[peak] + share * (log_gaps[other] - log_gaps[peak])
    law = profile(at.exp(), shapes.gather(0, peak[None])[0], steps=3)
    curvature = (there - here) / (log_gaps[other] - log_gaps[peak])
    low, high = torch.full_like(at, _LOG_GAPS[0] - width), torch.full_like(at, _LOG_GAPS[-1] + width)
    done, active = law, torch.arange(len(peak), device=peak.device)
    for _ in range(_REFINEMENTS):
        low, high = torch.where(law.slope > 0, at, low), torch.where(law.slope > 0, high, at)
        longest = 2 * width
        step = torch.where(curvature < 0, -law.slope / curvature, law.slope.sign() * longest).clamp(-longest, longest)
        trial = torch.where((at + step > low) & (at + step < high), at + step, (low + high) / 2)
        step = trial - at
        going = (step.abs() > _RESOLUTION).nonzero()[:, 0]
        if not len(going):
            break
        active, at, low, high, step = active[going], trial[going], low[going], high[going], step[going]
        before = law.rows(going)
        shape = before.predicted_shape(step)
        law = profile.rows(active)(at.exp(), shape, steps=2)
        curvature = (law.slope - before.slope) / step
        done = done.updated(active, law)
    return replace(done, at_end=done.gap > 0.9 * math.exp(_LOG_GAPS[-1]))
