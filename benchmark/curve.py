"""Robustness curves: per-sample adversarial distances as an exact step function. No torch.

The robust error at a perturbation budget eps is ``R(eps) = share of samples with distance <= eps``, the empirical
distribution function of the smallest adversarial distances (Göpfert et al. 2020, Risse et al. 2020); robust accuracy
is ``1 - R(eps)``. A misclassified sample has distance 0. A sample without an adversarial example has distance ``inf``:
it is censored, and counted as robust at every finite eps. Nothing is interpolated: between two distances the curve is
constant.

What compares several curves is in `benchmark.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from benchmark import curve_forms
from benchmark.errors import InputError
from benchmark.intervals import bounded_mean_interval
from benchmark.results import Flag
from benchmark.threat import Norm, get_norm
from benchmark.threat.budget import limit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Lower end.
        high: Upper end.
        confidence: Its level, for instance 0.95.
    """

    low: float
    high: float
    confidence: float


@dataclass(frozen=True, eq=False)
class Steps:
    """A curve as a right-continuous step function: on ``[eps[i], eps[i + 1])`` its value is ``robust_error[i]``.

    Attributes:
        eps: Where the function jumps, shape (k,), strictly rising, the first is 0; float64.
        robust_error: The values, shape (k,), non-decreasing, in [0, 1]; float64.
        error: How far ``robust_error`` may lie below the curve anywhere; 0 unless steps were left out (`thin`).
    """

    eps: Floats
    robust_error: Floats
    error: float = 0.0

    @property
    def robust_accuracy(self) -> Floats:
        """``1 - robust_error``, shape (k,)."""
        return 1.0 - self.robust_error

    def at(self, eps: ArrayLike) -> Floats:
        """The value (robust error) at each budget ``eps`` >= 0, with `limit`'s tolerance; of the shape of ``eps``."""
        return np.asarray(self.robust_error[np.searchsorted(self.eps, limit(check_eps(eps)), side="right") - 1])


@dataclass(frozen=True, eq=False)
class Band:
    """A simultaneous confidence band of a whole curve, constant on ``[eps[i], eps[i + 1])``.

    Attributes:
        eps: Perturbation budgets, shape (k,).
        robust_accuracy: The estimate at each, shape (k,).
        low: Lower edge, shape (k,), clipped to [0, 1].
        high: Upper edge, shape (k,), clipped to [0, 1].
        confidence: Probability that the whole true curve lies within.
    """

    eps: Floats
    robust_accuracy: Floats
    low: Floats
    high: Floats
    confidence: float


@dataclass(frozen=True, eq=False)
class RobustnessCurve:
    """The robustness curve of one model in one norm.

    Attributes:
        distances: Smallest adversarial distance found for each sample, shape (n,), float64, read-only; 0 where the
            sample is misclassified, ``inf`` where nothing was found.
        norm: The norm the distances are measured in.
        adversarials: The evidence, shape (n, c, h, w), float32; a row with distance 0 or ``inf`` has no meaning.
        flags: Warnings about the model or the search.
        origin: For each sample what found its example; or empty.

    Raises:
        InputError: If the distances are empty, negative, NaN or not one-dimensional, or the parts do not fit together.
        UnknownNameError: If there is no such norm.
    """

    distances: Floats
    norm: Norm
    adversarials: NDArray[np.float32] | None = None
    flags: tuple[Flag, ...] = ()
    origin: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        distances = check_distances(self.distances, ndim=1).copy()
        distances.flags.writeable = False
        object.__setattr__(self, "distances", distances)
        object.__setattr__(self, "flags", tuple(self.flags))
        object.__setattr__(self, "origin", tuple(self.origin))
        n = len(distances)
        get_norm(self.norm)
        if self.origin and len(self.origin) != n:
            raise InputError(f"There are {n} distances but {len(self.origin)} origins; give one a sample, or none.")
        if self.adversarials is not None:
            _check_adversarials(self.adversarials, n)

    def __len__(self) -> int:
        return len(self.distances)

    def __repr__(self) -> str:
        return (
            f"RobustnessCurve(norm={self.norm!r}, n={len(self)}, clean_accuracy={self.clean_accuracy:.4f}, "
            f"median={self.median:.4g}, censored={self.censored}, flags={[flag.code for flag in self.flags]})"
        )

    @cached_property
    def _sorted(self) -> Floats:
        return np.sort(self.distances)

    @property
    def clean_accuracy(self) -> float:
        """Share of samples that are classified correctly."""
        return 1.0 - int((self.distances == 0).sum()) / len(self)

    @property
    def censored(self) -> int:
        """Number of samples for which no adversarial example was found."""
        return int(np.isinf(self.distances).sum())

    @overload
    def robust_error(self, eps: float) -> float: ...
    @overload
    def robust_error(self, eps: Sequence[float] | NDArray[Any]) -> Floats: ...
    def robust_error(self, eps: float | Sequence[float] | NDArray[Any]) -> float | Floats:
        """Share of samples with a distance within eps, as of `benchmark.threat.budget`.

        Args:
            eps: One perturbation budget or an array of them, >= 0 and finite, in the unit of `norm`.

        Returns:
            A float for a number, otherwise float64 of the shape of ``eps``.

        Raises:
            InputError: If an eps is negative or not finite.
        """
        share = self._broken(eps) / len(self)
        return float(share) if np.ndim(eps) == 0 else share

    @overload
    def robust_accuracy(self, eps: float) -> float: ...
    @overload
    def robust_accuracy(self, eps: Sequence[float] | NDArray[Any]) -> Floats: ...
    def robust_accuracy(self, eps: float | Sequence[float] | NDArray[Any]) -> float | Floats:
        """Share of samples with no distance within eps; arguments and result as of `robust_error`."""
        share = (len(self) - self._broken(eps)) / len(self)
        return float(share) if np.ndim(eps) == 0 else share

    def interval(self, eps: float, *, confidence: float = 0.95) -> Interval:
        """Clopper–Pearson interval of the robust accuracy at one eps.

        It speaks of the sampling of the images, not of the attack's weakness.

        Args:
            eps: Perturbation budget, >= 0.
            confidence: Level, in (0, 1).
        """
        low, high = proportion_interval(len(self) - self._broken(eps), len(self), confidence=confidence)
        return Interval(float(low), float(high), confidence)

    def steps(self) -> Steps:
        """The curve as an exact step function; its first step is at 0, and only finite distances are steps."""
        eps, counts = np.unique(self.distances[np.isfinite(self.distances)], return_counts=True)
        if len(eps) == 0 or eps[0] > 0:
            eps, counts = np.insert(eps, 0, 0.0), np.insert(counts, 0, 0)
        return Steps(eps, np.cumsum(counts) / len(self))

    def band(self, confidence: float = 0.95, *, eps: ArrayLike | None = None) -> Band:
        """Dvoretzky–Kiefer–Wolfowitz band: holds for the whole curve at once, whatever its shape.

        Its half width is ``sqrt(ln(2 / (1 - confidence)) / (2 n))`` (Massart 1990).

        Args:
            confidence: Probability that the whole curve lies within, in (0, 1).
            eps: Where to give it, shape (k,); the curve's steps if None.
        """
        width = dkw_half_width(len(self), confidence=confidence)
        steps = self.steps()
        at = steps.eps if eps is None else np.asarray(eps, dtype=np.float64)
        accuracy = steps.robust_accuracy if eps is None else self.robust_accuracy(at)
        return Band(at, accuracy, np.clip(accuracy - width, 0, 1), np.clip(accuracy + width, 0, 1), confidence)

    def area(self, *, up_to: float) -> float:
        """Exact area under robust accuracy from 0 to a bound: ``mean(min(distance, up_to))``.

        Divided by ``up_to`` it is the mean robust accuracy over that range; with a bound beyond every distance it is
        the mean distance.

        Args:
            up_to: The bound, finite and > 0, in the unit of `norm`.

        Returns:
            In the unit of `norm`, between 0 and ``up_to``.
        """
        return float(np.minimum(self.distances, _check_bound(up_to)).mean())

    def area_interval(self, *, up_to: float, confidence: float = 0.95) -> Interval:
        """Interval of `area`, the mean of n independent values in [0, up_to]: `intervals.bounded_mean_interval`."""
        values = np.minimum(self.distances, _check_bound(up_to))
        low, high = bounded_mean_interval(values, up_to, confidence=check_confidence(confidence))
        return Interval(float(low), float(high), confidence)

    def quantile(self, q: float) -> float:
        """Smallest eps at which at least the share ``q`` of the samples is broken; ``inf`` if it never is.

        Args:
            q: Share, in (0, 1].
        """
        if not 0 < q <= 1:
            raise InputError(f"A quantile's share lies in (0, 1], got {q!r}.")
        return float(self._sorted[_order(q, len(self))])

    @property
    def median(self) -> float:
        """The distance within which half of the samples are broken (`quantile` of 0.5)."""
        return self.quantile(0.5)

    def thin(self, points: int = 256, *, keep: Iterable[float] = ()) -> Steps:
        """Fewer steps, for display: no step is moved and the published points stay exact.

        Args:
            points: How many steps may stay, besides those that ``keep`` needs; at least 3.
            keep: Values of eps at which the thinned curve must equal the curve.

        Returns:
            A subset of `steps`. Its ``error``, below ``1 / (points - 2)``, is the furthest that the thinned robust
            error lies below the true one, anywhere.
        """
        return thin(self.steps(), points, keep=keep)

    def plot(
        self, ax: Axes | None = None, *, up_to: float | None = None, confidence: float | None = 0.95, **line: Any
    ) -> Axes:
        """Draw the curve with matplotlib (extra ``plot``), with its band around it; returns the axes.

        Args:
            ax: Where to draw; a new figure if None.
            up_to: Where the axis ends; just beyond the last step if None.
            confidence: Level of the band; None for no band.
            line: What matplotlib's ``plot`` takes: ``label``, ``color``, ``linestyle`` …
        """
        return curve_forms.plot(self, ax, up_to=up_to, confidence=confidence, **line)

    def to_frame(self, *, confidence: float = 0.95) -> DataFrame:
        """The curve's steps as a table of pandas (extra ``frames``): eps, robust_accuracy, low, high."""
        return curve_forms.to_frame(self, partial(proportion_interval, confidence=confidence))

    def save(self, path: str | Path) -> None:
        """Write the curve, its adversarial examples and flags into an ``.npz`` file."""
        curve_forms.save(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> RobustnessCurve:
        """Read what `save` wrote; an `InputError` if it is something else."""
        found = curve_forms.load(Path(path))
        found.pop("key")
        return RobustnessCurve(**found)

    def _broken(self, eps: ArrayLike) -> NDArray[np.intp]:
        """How many samples have a distance within eps."""
        return np.searchsorted(self._sorted, limit(check_eps(eps)), side="right")


def thin(steps: Steps, points: int = 256, *, keep: Iterable[float] = ()) -> Steps:
    """Leave out steps of a curve; see `RobustnessCurve.thin`."""
    if points < 3:
        raise InputError(f"A curve is thinned to at least 3 points, got {points}.")
    values = steps.robust_error
    level = np.floor(values * (points - 2))  # one step a level, so two values between steps differ by less than a level
    kept = np.concatenate(([True], level[1:] > level[:-1]))
    kept[-1] = True
    wanted = check_eps(np.fromiter(keep, dtype=np.float64))
    kept[np.searchsorted(steps.eps, limit(wanted), side="right") - 1] = True
    shown = values[kept][np.cumsum(kept) - 1]
    return Steps(steps.eps[kept], values[kept], steps.error + float((values - shown).max()))


def proportion_interval(count: ArrayLike, n: int, *, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Clopper–Pearson interval of a proportion (`scipy.stats.binomtest`'s "exact", for whole arrays at once).

    Args:
        count: Successes, of any shape.
        n: Trials.
        confidence: Level, in (0, 1).

    Returns:
        Lower and upper ends, each of the shape of ``count``.
    """
    alpha = 1 - check_confidence(confidence)
    k, where = np.unique(np.asarray(count, dtype=np.float64), return_inverse=True)
    if n < 1 or (k.size and not 0 <= k[0] <= k[-1] <= n):
        raise InputError(f"A proportion is 0 to n of n >= 1, got {k[:1]} to {k[-1:]} of {n}.")
    with np.errstate(all="ignore"):  # a shape of 0 is undefined; those ends are known
        low = np.where(k == 0, 0.0, special.betaincinv(np.maximum(k, 1), n - k + 1, alpha / 2))
        high = np.where(k == n, 1.0, special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - alpha / 2))
    shape = np.shape(count)
    return low[where].reshape(shape), high[where].reshape(shape)


def dkw_half_width(n: int, *, confidence: float = 0.95) -> float:
    """Half width of the Dvoretzky–Kiefer–Wolfowitz band of ``n`` samples."""
    return math.sqrt(math.log(2 / (1 - check_confidence(confidence))) / (2 * n))


def t_half_width(deviation: ArrayLike, n: int, *, confidence: float) -> Floats:
    """Half width of Student's interval of a mean of ``n`` >= 2 values with the given standard deviation(s)."""
    scale = stats.t.ppf((1 + check_confidence(confidence)) / 2, n - 1) / math.sqrt(n)
    return np.asarray(np.asarray(deviation, dtype=np.float64) * scale)


def check_distances(distances: ArrayLike, *, ndim: int) -> Floats:
    """Distances as float64, or an `InputError` that names the first value that is none."""
    array = np.asarray(distances, dtype=np.float64)
    if array.ndim != ndim or array.size == 0:
        raise InputError(f"Distances must have {ndim} dimension(s) and not be empty, got shape {array.shape}.")
    bad = np.argwhere(~(array >= 0))
    if len(bad):
        where = ", ".join(map(str, bad[0]))
        raise InputError(
            f"{len(bad)} distances are negative or NaN, the first is distances[{where}] = {array[tuple(bad[0])]}. "
            f"A distance is >= 0; 0 is a misclassified sample, inf one without an adversarial example."
        )
    return array


def check_eps(eps: ArrayLike) -> Floats:
    """Perturbation budgets as float64, or an `InputError` that names the first value that is none."""
    array = np.asarray(eps, dtype=np.float64)
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        raise InputError(f"A perturbation budget eps is finite and >= 0, got {array[bad].flat[0]}.")
    return array


def check_confidence(confidence: float) -> float:
    """A confidence level, or an `InputError`."""
    if not 0 < confidence < 1:
        raise InputError(f"A confidence level lies strictly between 0 and 1, got {confidence!r}.")
    return confidence


def _check_bound(up_to: float) -> float:
    if not 0 < up_to < math.inf:
        raise InputError(f"The bound of an area is finite and > 0, got {up_to!r}.")
    return up_to


def _check_adversarials(adversarials: NDArray[np.float32], n: int) -> None:
    if adversarials.ndim != 4 or len(adversarials) != n:
        raise InputError(
            f"Adversarial examples must have shape (n, c, h, w) with n = {n} distances, got {adversarials.shape}."
        )
    if adversarials.dtype != np.float32:
        raise InputError(f"Adversarial examples are kept as float32, got {adversarials.dtype}.")


def _order(q: float, n: int) -> int:
    """Index, in sorted order, of the q-quantile of n values; q * n may miss a whole number by rounding."""
    return max(math.ceil(q * n - 1e-9 * n), 1) - 1
