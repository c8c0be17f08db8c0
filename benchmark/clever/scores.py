"""From maxima of gradient norms to scores: the fits, the distances, and what is to be said about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.clever.presets import Preset
from benchmark.clever.profile import Floats
from benchmark.clever.weibull import bootstrap_location, fit_reverse_weibull
from benchmark.threat import Norm

Order = Literal[1, 2]
"""1: the Lipschitz constant of g is estimated; 2: that of its gradient."""


@dataclass(frozen=True)
class CleverEstimates:
    """CLEVER scores of n images against T targets in Q norms, and what they come from.

    A misclassified image has the score 0 and NaN elsewhere. All arrays are float64 unless said otherwise.

    Attributes:
        norms: The Q norms.
        correct: Whether the image is given its label, shape (n,), bool.
        targets: The target classes, shape (n, T), int64.
        margins: g(x₀) = f_c − f_j, shape (n, T).
        scores: Estimated distance to each target, shape (n, T, Q).
        maxima: The largest dual norm (or curvature) of each batch, shape (n, T, Q, N_b).
        location: Estimated local Lipschitz constant of g, of ∇g for order 2, shape (n, T, Q).
        shape: c of the fitted law, shape (n, T, Q).
        ks: Its Kolmogorov–Smirnov statistic, shape (n, T, Q).
        p_value: The statistic's p-value, shape (n, T, Q).
        low: Lower end of the bootstrap interval of the smallest score, with its target held, shape (n, Q); NaN without
            resamples.
        high: Its upper end.
        constant: All maxima are equal: the model is linear in the ball, as far as seen; shape (n, T, Q), bool.
        few: Fewer than ten maxima, bool.
        unbounded: No finite endpoint is identified, bool.
        replaced: The largest gradient stands in for a fit that was rejected, bool.
        zero: All gradients are zero although the logits differ: nothing is known of the distance (a masked gradient,
            for instance), bool.
        tied: The target's logit equals the label's: the distance is 0, whatever the gradients, bool.
        capped: The score is the radius of the ball, bool.
    """

    norms: tuple[Norm, ...]
    correct: NDArray[np.bool_]
    targets: NDArray[np.int64]
    margins: NDArray[np.float64]
    scores: NDArray[np.float64]
    maxima: NDArray[np.float64]
    location: NDArray[np.float64]
    shape: NDArray[np.float64]
    ks: NDArray[np.float64]
    p_value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    constant: NDArray[np.bool_]
    few: NDArray[np.bool_]
    unbounded: NDArray[np.bool_]
    replaced: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    tied: NDArray[np.bool_]
    capped: NDArray[np.bool_]

    @property
    def score(self) -> NDArray[np.float64]:
        """The smallest score over the targets, shape (n, Q); NaN where every gradient is zero and nothing is known."""
        smallest: NDArray[np.float64] = np.where(self.unknown, np.nan, self.scores.min(axis=1))
        return smallest

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Whether no sampled gradient towards any target says anything of the distance, shape (n, Q)."""
        nothing: NDArray[np.bool_] = np.all(self.zero, axis=1)
        return nothing

    @property
    def nearest(self) -> NDArray[np.int64]:
        """Position in the second axis of the target with the smallest score, shape (n, Q)."""
        positions: NDArray[np.int64] = self.scores.argmin(axis=1)
        return positions

    def at_nearest(self, values: NDArray[Any]) -> NDArray[Any]:
        """One of the (n, T, Q) arrays at the nearest target; shape (n, Q)."""
        chosen: NDArray[Any] = np.take_along_axis(values, self.nearest[:, None, :], axis=1)[:, 0]
        return chosen


@dataclass(frozen=True)
class Sampled:
    """What the model was asked, for n images, m of them classified correctly, T targets and Q norms.

    Attributes:
        norms: The Q norms.
        order: What the maxima are of.
        correct: Shape (n,), bool, m of them true.
        targets: Shape (n, T).
        margins: g(x₀), shape (n, T).
        maxima: Shape (m, T, Q, N_b).
        slopes: ‖∇g(x₀)‖_q, shape (m, T, Q); used by order 2.
    """

    norms: tuple[Norm, ...]
    order: Order
    correct: NDArray[np.bool_]
    targets: NDArray[np.int64]
    margins: Floats
    maxima: Floats
    slopes: Floats


def score(sampled: Sampled, preset: Preset, *, resamples: int, confidence: float, seed: int) -> CleverEstimates:
    """Fit the maxima and turn endpoints into distances.

    Args:
        sampled: What the model was asked.
        preset: How to fit, and whether to cap.
        resamples: Of the bootstrap; 0 for none.
        confidence: Of its interval.
        seed: Of its draws.
    """
    fit = fit_reverse_weibull(
        sampled.maxima, penalty=preset.penalty, starts=preset.starts, reject_below=preset.reject_below
    )
    radii = np.array([preset.radius[norm] for norm in sampled.norms])
    margins = np.broadcast_to(sampled.margins[sampled.correct][:, :, None], sampled.slopes.shape)

    def distance(margin: Floats, location: Floats, slope: Floats) -> Floats:
        raw = _distance(margin, location, slope, sampled.order)
        return np.minimum(raw, radii) if preset.cap else raw

    scores = distance(margins, fit.location, sampled.slopes)
    low = high = np.full_like(scores[:, 0], np.nan)
    if resamples:
        nearest = scores.argmin(axis=1)[:, None]
        margin, slope = (np.take_along_axis(v, nearest, axis=1)[:, 0] for v in (margins, sampled.slopes))
        drawn = np.take_along_axis(sampled.maxima, nearest[..., None], axis=1)[:, 0]
        ends = bootstrap_location(drawn, resamples=resamples, confidence=confidence, penalty=preset.penalty, seed=seed)
        high, low = (distance(margin, end, slope) for end in ends)
    fitted = {name: getattr(fit, name) for name in ("location", "shape", "ks", "p_value")}
    noticed = {name: getattr(fit, name) for name in ("constant", "few", "unbounded", "replaced")}
    noticed["tied"] = margins <= 0
    noticed["zero"] = (sampled.maxima.max(axis=3) <= 0) & (sampled.slopes <= 0) & ~noticed["tied"]
    noticed["capped"] = (scores >= radii) & preset.cap
    unknown = {"maxima": sampled.maxima, "low": low, "high": high, **fitted}
    return CleverEstimates(
        norms=sampled.norms,
        correct=sampled.correct,
        targets=sampled.targets,
        margins=sampled.margins,
        scores=_for_all(scores, sampled.correct, 0.0),
        **{name: _for_all(values, sampled.correct, np.nan) for name, values in unknown.items()},
        **{name: _for_all(values, sampled.correct, False) for name, values in noticed.items()},
    )


def _for_all(values: NDArray[Any], correct: NDArray[np.bool_], fill: float | bool) -> NDArray[Any]:
    """Values of the correctly classified images, and another for the rest."""
    full = np.full((len(correct), *values.shape[1:]), fill, dtype=values.dtype)
    full[correct] = values
    return full


def _distance(margin: Floats, location: Floats, slope: Floats, order: Order) -> Floats:
    """g(x₀)/â; for order 2 the root β of g(x₀) = ‖∇g(x₀)‖β + Lβ²/2 (arXiv:1810.08640, theorem 1) in a stable form.

    0 where the logits are tied: every image is then as near to the boundary as can be.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # no gradient at all: infinitely far, as far as seen
        if order == 1:
            raw = margin / location
        else:
            bend = np.maximum(location, 0)  # a convex g is at least its tangent: L = 0
            raw = 2 * margin / (slope + np.sqrt(slope**2 + 2 * margin * bend))
    distance: Floats = np.where(margin <= 0, 0.0, raw)
    return distance
