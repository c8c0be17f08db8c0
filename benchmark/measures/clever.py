"""CLEVER scores: estimated distances from sampled gradients. An estimate, never a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.clever import CleverEstimates, clever_estimates, scores_by_radius
from benchmark.clever.presets import Preset, resolve
from benchmark.clever.scores import Order
from benchmark.clever.targets import MOST_TARGETS, Targets
from benchmark.curve import t_half_width
from benchmark.errors import InputError
from benchmark.intervals import bounded_mean_interval
from benchmark.measures import Arrays, Inputs, Measure, Needs, Result, Task
from benchmark.results import Flag, Output, Score, Work
from benchmark.threat import Norm

if TYPE_CHECKING:
    from benchmark.data import Dataset

CONFIDENCE: Final = 0.95

POOR_FIT: Final = 0.05
"""A fit whose KS p-value is below this is poor. The p-value is an upper bound, so a good fit is rarely called poor."""

RADII: Final = (0.125, 0.25, 0.5, 1.0)
"""The radii of the diagnostic, as shares of the preset's."""

TOGETHER: Final = 256
"""Points passed at once, about."""

OPERATIONS: Final = 310
"""What drawing the points and fitting the law to the maxima of one target takes, in small operations, about."""

_THRIFT: Final = 4
"""Each radius of the diagnostic gets N_b / 4 batches of N_s / 4 points: a quarter of the cost for four radii."""

_NOTICED: Final = ("constant", "few", "unbounded", "replaced", "zero", "tied", "capped")


@dataclass(frozen=True)
class CleverParameters:
    """Parameters of CLEVER.

    Attributes:
        norm: The norm of the distances.
        targets: ``"untargeted"``, ``"top2"``, ``"random"``, ``"least"`` or the index of a class.
        preset: ``"board"``, ``"paper"`` or ``"clever2018"``.
        order: 1, or 2 for twice differentiable models in l2.
        limit: Only the first so many samples of the slice are measured.
        batches: N_b instead of the preset's.
        samples: N_s instead of the preset's.
        radius: R in the norm instead of the preset's.
        most_targets: Of more other classes an untargeted score is taken over so many of the likeliest.
        by_radius: Whether scores at smaller radii are stored beside it (order 1), for a quarter more passes. A quarter
            of a dozen batches is too little to fit a law to.

    Raises:
        InputError: If a number is out of range.
        UnknownNameError: If there is no such preset.
    """

    norm: Norm = "linf"
    targets: Targets = "untargeted"
    preset: str = "board"
    order: Order = 1
    limit: int = 100
    batches: int | None = None
    samples: int | None = None
    radius: float | None = None
    most_targets: int = MOST_TARGETS
    by_radius: bool = True

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InputError(f"CLEVER needs at least 1 sample to measure, got limit={self.limit}.")
        if self.most_targets < 1:
            raise InputError(f"CLEVER needs at least 1 class to go to, got most_targets={self.most_targets}.")
        _ = self.settings

    @property
    def settings(self) -> Preset:
        """The preset with what was changed."""
        return resolve(self.preset, batches=self.batches, samples=self.samples, radius=self.radius)


class Clever(Measure[CleverParameters]):
    """CLEVER scores in one norm."""

    name = "clever"
    version = 2
    title = "CLEVER: distance estimated from extreme values of sampled gradients (no bound)"
    paper = "Weng et al. 2018, arXiv:1801.10578"
    chunk = 50
    at_most = "limit"
    Parameters = CleverParameters

    def needs(self, parameters: CleverParameters) -> Needs:
        """Gradients."""
        return Needs(gradients=True)

    def outputs(self, parameters: CleverParameters, dataset: Dataset) -> Sequence[Output]:
        """Each sample's score, their mean and median, and how far to trust them."""
        norm = parameters.norm

        def distance(name: str, title: str, text: str) -> Output:
            return Output(name, "scalar", title, text, unit="distance", direction="higher", threat=norm)

        def share(name: str, title: str, text: str) -> Output:
            return Output(name, "scalar", title, text, unit="share", threat=norm)

        return (
            distance("mean_score", "CLEVER", "Mean estimated distance of the correctly classified images; no bound."),
            distance("median_score", "Median CLEVER", "Median estimated distance; no bound."),
            share("scored", "Scored", "Share of images that are classified correctly, and so have a score."),
            share("poor_fit", "Poor fits", f"Share of fits with a Kolmogorov-Smirnov p-value below {POOR_FIT}."),
            share("degenerate", "Degenerate fits", "Share of fits at constant gradients or without an end point."),
            share("unknown", "Unknown", "Share of correct images where all sampled gradients are zero: no score."),
            share("at_radius", "At the radius", "Share of scores that the sampling radius caps."),
            Output(
                "score",
                "estimate",
                "CLEVER score",
                "Estimated distance to the nearest adversarial example; neither proven nor certified.",
                unit="distance",
                direction="higher",
                threat=norm,
                array="score",
            ),
        )

    def work(self, parameters: CleverParameters, dataset: Dataset) -> Work | None:
        """Of order 1: a forward pass a point, and a backward pass for each of its targets; a quarter more by radius."""
        if parameters.order == 2:
            return None
        settings = parameters.settings
        points = (1 + parameters.by_radius / _THRIFT) * settings.batches * settings.samples
        others = min(dataset.n_classes - 1, parameters.most_targets) if parameters.targets == "untargeted" else 1
        together = math.ceil(points / TOGETHER)
        return Work(
            forward=points, backward=points * others, sample_steps=together, operations=OPERATIONS * others / together
        )

    def run(self, task: Task, parameters: CleverParameters) -> Result:
        """Score one chunk.

        Returns:
            Per sample: ``score`` (0 where misclassified), ``target``, ``margin``, ``location`` (the local Lipschitz
            constant), ``shape``, ``ks``, ``p_value`` of the fit at the nearest target (NaN where misclassified),
            ``interval`` (n, 2) and, for order 1 and unless it is declined, ``score_by_radius`` (n, 4) at the shares
            `RADII` of the preset's radius, uncapped; and what was noticed: ``constant``, ``few``, ``unbounded``,
            ``replaced``, ``zero``, ``tied``, ``capped``. The score is NaN where all gradients are zero.
        """
        estimates = clever_estimates(
            task.model,
            task.x,
            norm=parameters.norm,
            targets=parameters.targets,
            y=task.y,
            preset=parameters.settings,
            seed=task.seed,
            order=parameters.order,
            first=task.first,
            most_targets=parameters.most_targets,
            resamples=50,
            confidence=CONFIDENCE,
        )
        arrays = _arrays(estimates)
        if parameters.order == 1 and parameters.by_radius:
            arrays["score_by_radius"] = _by_radius(task, parameters)
        return Result(arrays, flags=_flags(arrays))

    def summarise(self, inputs: Inputs, parameters: CleverParameters) -> list[Score]:
        """Mean score of the correctly classified samples with its interval, and how far to trust the scores."""
        arrays = inputs.arrays
        correct = arrays["correct"]
        if not correct.any():
            return [Score("scored", 0.0, unit="share")]
        known = correct & np.isfinite(arrays["score"])
        share = [
            Score("scored", float(correct.mean()), unit="share"),
            Score("unknown", float((correct & ~known).sum() / correct.sum()), unit="share"),
        ]
        if not known.any():
            return share
        score, p_value = arrays["score"][known], arrays["p_value"][known]
        mean = float(score.mean())
        low, high = _interval(score, parameters)
        return [
            Score("mean_score", mean, low, high, CONFIDENCE, unit="distance", direction="higher"),
            Score("median_score", float(np.median(score)), unit="distance", direction="higher"),
            *share,
            Score("poor_fit", float((p_value < POOR_FIT).mean()), unit="share"),
            Score("degenerate", float((arrays["constant"] | arrays["unbounded"])[known].mean()), unit="share"),
            Score("at_radius", float(arrays["capped"][known].mean()), unit="share"),
        ]


def _interval(score: NDArray[np.float64], parameters: CleverParameters) -> tuple[float | None, float | None]:
    """Of the mean: capped scores are bounded; of others Student's, which needs two."""
    preset = parameters.settings
    if preset.cap:
        low, high = bounded_mean_interval(score, preset.radius[parameters.norm], confidence=CONFIDENCE)
        return float(low), float(high)
    if len(score) < 2:
        return None, None
    half = float(t_half_width(score.std(ddof=1), len(score), confidence=CONFIDENCE))
    return float(score.mean()) - half, float(score.mean()) + half


def _arrays(estimates: CleverEstimates) -> dict[str, NDArray[Any]]:
    """What is stored of the estimates in one norm: all at the nearest target."""
    nearest = estimates.nearest[:, 0]

    def at_nearest(values: NDArray[Any]) -> NDArray[Any]:
        chosen: NDArray[Any] = estimates.at_nearest(values)[:, 0]
        return chosen

    rows = np.arange(len(nearest))
    arrays: dict[str, NDArray[Any]] = {
        "correct": estimates.correct,
        "score": estimates.score[:, 0],
        "target": estimates.targets[rows, nearest],
        "margin": estimates.margins[rows, nearest],
        "interval": np.stack([estimates.low[:, 0], estimates.high[:, 0]], axis=1),
    }
    arrays |= {name: at_nearest(getattr(estimates, name)) for name in ("location", "shape", "ks", "p_value")}
    return arrays | {name: at_nearest(getattr(estimates, name)) for name in _NOTICED}


def _by_radius(task: Task, parameters: CleverParameters) -> NDArray[np.float64]:
    preset = parameters.settings
    return scores_by_radius(
        task.model,
        task.x,
        [share * preset.radius[parameters.norm] for share in RADII],
        norm=parameters.norm,
        targets=parameters.targets,
        y=task.y,
        preset=preset,
        batches=max(2, preset.batches // _THRIFT),
        samples=max(2, preset.samples // _THRIFT),
        seed=task.seed,
        first=task.first,
        most_targets=parameters.most_targets,
    )


def _flags(arrays: Arrays) -> list[Flag]:
    """Warnings of the whole row: one sample is enough."""
    count = int(arrays["zero"].sum())
    if not count:
        return []
    return [
        Flag(
            "zero-gradients",
            f"All sampled gradients of {count} samples of one chunk are zero: the gradient is masked, and CLEVER says "
            "nothing about the distance.",
            float(count),
        )
    ]


MEASURE = Clever()
