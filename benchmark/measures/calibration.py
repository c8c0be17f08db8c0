"""Calibration: whether a confidence of 80 % is right in 80 % of the cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from benchmark.curve import proportion_interval
from benchmark.measures import Inputs, Measure, Result, Task
from benchmark.measures.means import CONFIDENCE, bootstrap_score, scalar
from benchmark.results import GridAxis, Output, Score, Summary, Table, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

Floats = NDArray[np.float64]

BINS: Final = 15
RESAMPLES: Final = 200

ECE: Final = scalar(
    "ece",
    "Calibration error",
    "ECE: mean distance between confidence and accuracy over 15 equal bins (lo, hi]. Few images alone make it larger.",
    "share",
    "lower",
)
BIAS: Final = scalar(
    "bias", "ECE by chance", "The ECE that a perfectly calibrated model would show on as many images.", "share"
)
ADAPTIVE: Final = scalar(
    "adaptive", "Adaptive calibration error", "The same over 15 bins of as many images each.", "share", "lower"
)
SCALED: Final = scalar(
    "scaled",
    "ECE after temperature",
    "ECE after dividing the logits by a temperature fitted on other images.",
    "share",
    "lower",
)
TEMPERATURE: Final = scalar("temperature", "Temperature", "Above 1: overconfident. Fitted on every other image.", "")
UPPER_ENDS: Final = tuple(f"{(i + 1) / BINS:.2f}" for i in range(BINS))
RELIABILITY: Final = Output(
    "reliability",
    "grid",
    "Reliability",
    "Accuracy, mean confidence and share of images in each bin of confidence.",
    unit="share",
    axes=(
        GridAxis("of", ("accuracy", "confidence", "share of images")),
        GridAxis("confidence up to", UPPER_ENDS, apart=UPPER_ENDS),  # bins are no equals: no mean is over them
    ),
)
DIAGRAM: Final = Output(
    "diagram",
    "trace",
    "Accuracy by confidence",
    "Reliability diagram: accuracy of the images in each of 15 bins of confidence; calibrated is the dashed line.",
    unit="share",
    axes=(GridAxis("confidence", tuple(f"{(i + 0.5) / BINS:.3f}" for i in range(BINS)), unit="share"),),
)


@dataclass(frozen=True)
class CalibrationParameters:
    """None."""


class Calibration(Measure[CalibrationParameters]):
    """Expected calibration error with its bias, adaptive bins, and a temperature fitted on held-out images."""

    name = "calibration"
    version = 3
    title = "Calibration of the softmax confidence"
    paper = "Guo et al. 2017, arXiv:1706.04599"
    chunk = 500
    Parameters = CalibrationParameters

    def outputs(self, parameters: CalibrationParameters, dataset: Dataset) -> Sequence[Output]:
        """Five scalars, the reliability diagram and its numbers."""
        return ECE, BIAS, ADAPTIVE, SCALED, TEMPERATURE, RELIABILITY, DIAGRAM

    def work(self, parameters: CalibrationParameters, dataset: Dataset) -> Work | None:
        """One forward pass."""
        return Work(forward=1, steps=1)

    def run(self, task: Task, parameters: CalibrationParameters) -> Result:
        """Array ``logits`` (n, k), float32."""
        with torch.no_grad():
            return Result({"logits": task.model(task.x).float().cpu().numpy()})

    def summarise(self, inputs: Inputs, parameters: CalibrationParameters) -> Summary:
        """The errors with bootstrap intervals, and the reliability diagram.

        Temperatures are fitted on the images of even index for those of odd index, and the other way round: no image
        judges the temperature that was fitted on it.
        """
        logits, labels = np.asarray(inputs.arrays["logits"], dtype=np.float64), np.asarray(inputs.labels)
        confidence, right = confidences(logits, labels)
        rng = np.random.default_rng(0)
        drawn = rng.integers(0, len(labels), size=(RESAMPLES, len(labels)))
        by_chance = [ece(confidence, rng.random(len(labels)) < confidence) for _ in range(RESAMPLES)]
        halves = [np.arange(len(labels)) % 2 == parity for parity in (0, 1)]
        fitted = [temperature(logits[half], labels[half]) if half.any() else 1.0 for half in halves]
        scaled = np.where(halves[0][:, None], logits / fitted[1], logits / fitted[0])
        spread = [ece(confidence[i], right[i]) for i in drawn]
        return Summary(
            scores=[
                bootstrap_score(ECE, ece(confidence, right), spread, n=len(labels)),
                Score(BIAS.name, float(np.mean(by_chance)), unit=BIAS.unit),
                bootstrap_score(
                    ADAPTIVE,
                    ece(confidence, right, adaptive=True),
                    [ece(confidence[i], right[i], adaptive=True) for i in drawn],
                    n=len(labels),
                ),
                bootstrap_score(
                    SCALED,
                    ece(*confidences(scaled, labels)),
                    [ece(*confidences(scaled[i], labels[i])) for i in drawn],
                    n=len(labels),
                ),
                Score(TEMPERATURE.name, float(np.mean(fitted))),
            ],
            tables={
                RELIABILITY.name: Table(np.stack(reliability(confidence, right))),
                DIAGRAM.name: diagram(confidence, right),
            },
        )


def confidences(logits: Floats, labels: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    """The largest probability of each sample, shape (n,), and whether it is the label's."""
    p = softmax(logits, axis=1)
    return p.max(axis=1), p.argmax(axis=1) == labels


def ece(confidence: Floats, right: NDArray[np.bool_], *, adaptive: bool = False) -> float:
    """Expected calibration error: Σ over bins of (share of samples) · |accuracy − mean confidence|.

    Args:
        confidence: Shape (n,), in [0, 1].
        right: Whether each prediction is right, shape (n,).
        adaptive: Bins of as many samples each, instead of equal width.
    """
    if adaptive:
        parts = np.array_split(np.argsort(confidence, kind="stable"), min(BINS, len(confidence)))
        gaps = [abs(right[part].mean() - confidence[part].mean()) * len(part) for part in parts]
        return float(sum(gaps) / len(confidence))
    accuracy, mean, share = reliability(confidence, right)
    return float(np.nansum(np.abs(accuracy - mean) * share))


def reliability(confidence: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Accuracy, mean confidence (NaN in an empty bin) and share of samples in each bin (lo, hi], shape (15,) each."""
    index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(index, minlength=BINS)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(index, weights=right, minlength=BINS) / count
        mean = np.bincount(index, weights=confidence, minlength=BINS) / count
    return accuracy, mean, count / max(len(confidence), 1)


def diagram(confidence: Floats, right: NDArray[np.bool_]) -> Table:
    """The accuracy in each bin with its Clopper–Pearson interval; NaN in an empty bin."""
    accuracy, _, share = reliability(confidence, right)
    low, high = np.full(BINS, np.nan), np.full(BINS, np.nan)
    for k in np.flatnonzero(share):
        count = round(share[k] * len(confidence))
        low[k], high[k] = proportion_interval(round(accuracy[k] * count), count, confidence=CONFIDENCE)
    return Table(accuracy, low, high, CONFIDENCE)


def temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """The temperature T > 0 that minimises the cross-entropy of softmax(logits / T); between e⁻⁵ and e⁵."""

    def loss(log_t: float) -> float:
        return float(-log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))


MEASURE = Calibration()
