"""What the measures under corruptions share: suites, predictions a cell, means with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.data.corruptions import COMMON
from benchmark.data.suites import Sequences, Suite, get_suite
from benchmark.errors import InputError
from benchmark.intervals import bounded_mean_interval, unseen
from benchmark.measures import Task
from benchmark.results import Direction, Flag, GridAxis, Output, Score, Table

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.data import Dataset

CONFIDENCE: Final = 0.95
MISSING: Final = -1
"""The class in a cell that could not be had."""

RESAMPLES: Final = 1000
OPERATIONS: Final = 300
"""What corrupting an image takes, in small operations, about."""

_VALUES: Final = 1 << 24
"""Values of images that a model is given at once: 64 MB."""

Floats = NDArray[np.float64]


def made_of(name: str, dataset: Dataset | None) -> Suite | Sequences:
    """The suite called ``name``, of a dataset.

    Raises:
        InputError: If it cannot be had for that dataset.
    """
    if dataset is None:
        raise InputError(f"The suite {name!r} needs a dataset to be made of; this task has none.")
    suite = get_suite(name).on(dataset)
    reason = suite.unavailable()
    if reason:
        raise InputError(f"The suite {name!r} cannot be had: {reason}")
    return suite


def grid_suite(name: str, dataset: Dataset | None) -> Suite:
    """The suite of corruption × severity called ``name``, of a dataset."""
    suite = made_of(name, dataset)
    if not isinstance(suite, Suite) or [axis.name for axis in suite.axes] != ["corruption", "severity"]:
        raise InputError(f"The suite {name!r} has no grid of corruption × severity.")
    return suite


def grid_suite_of(task: Task, name: str) -> Suite:
    """The suite that the task was given, or else made of its dataset."""
    given = task.suites.get(name)
    return given if isinstance(given, Suite) else grid_suite(name, task.dataset)


def standard(suite: Suite) -> tuple[str, ...]:
    """The corruptions that means are over: of CIFAR-C and ImageNet-C the fifteen without the extra ones; else all."""
    names = suite.axes[0].labels
    return COMMON if set(COMMON) <= set(names) else names


def in_parts(model: nn.Module, x: Tensor, device: torch.device) -> Tensor:
    """The logits, of as many images at once as fit."""
    rows = max(_VALUES // max(x[0].numel(), 1), 1) if len(x) else 1
    with torch.no_grad():
        return torch.cat([model(part.to(device)) for part in torch.split(x, rows)])


def classes(model: nn.Module, x: Tensor, device: torch.device) -> NDArray[np.int16]:
    """The predicted classes, shape (n,)."""
    found: NDArray[np.int16] = in_parts(model, x, device).argmax(dim=1).cpu().numpy().astype(np.int16)
    return found


def missing_flag(reasons: Mapping[str, str]) -> list[Flag]:
    """One flag that names what could not be had, with each reason once."""
    gone = {name: reason for name, reason in reasons.items() if reason}
    if not gone:
        return []
    text = " ".join(dict.fromkeys(gone.values()))
    message = (
        f"No result for {', '.join(gone)}, so that no mean over them is given. {text} Then evaluate with --rerun all."
    )
    return [Flag("missing-cells", message, float(len(gone)))]


def correct_of(prediction: NDArray[np.integer], labels: NDArray[np.int64]) -> Floats:
    """1 where the class is right, 0 where it is not, NaN in a missing cell: the shape of ``prediction``."""
    right = prediction == labels.reshape(-1, *[1] * (prediction.ndim - 1))
    return np.where(prediction == MISSING, np.nan, right)


def scalar(name: str, title: str, text: str, direction: Direction = "higher", unit: str = "share") -> Output:
    """A declared number."""
    return Output(name, "scalar", title, text, unit=unit, direction=direction)


def margin(
    name: str, title: str, text: str, axis: GridAxis, *, direction: Direction = "higher", unit: str = "share"
) -> Output:
    """A declared number for each label of one axis."""
    return Output(name, "grid", title, text, unit=unit, direction=direction, axes=(axis,))


def means(values: Floats, *, most: float = 1.0) -> Table:
    """Means over the first axis of values in [0, most], with Gaffke's intervals; NaN in a missing cell."""
    mean = values.mean(axis=0)
    gone = np.isnan(mean)
    low, high = bounded_mean_interval(np.moveaxis(np.nan_to_num(values), 0, -1), most, confidence=CONFIDENCE)
    return Table(mean, np.where(gone, np.nan, low), np.where(gone, np.nan, high), CONFIDENCE)


def mean_score(
    name: str, values: Floats, *, direction: Direction = "higher", unit: str = "share", most: float = 1.0
) -> list[Score]:
    """The mean over samples of values in [0, most], with its interval; nothing if a value is missing."""
    if np.isnan(values).any() or not len(values):
        return []
    low, high = bounded_mean_interval(values, most, confidence=CONFIDENCE)
    return [Score(name, float(values.mean()), float(low), float(high), CONFIDENCE, unit, direction)]


def worst_score(name: str, values: Floats, *, direction: Direction = "higher") -> list[Score]:
    """The worst of some columns, (n, k), as `mean_score`; nothing if one is missing: it might be the worst."""
    if np.isnan(values).any() or not values.size:
        return []
    column = values.mean(axis=0)
    worst = int(column.argmin() if direction == "higher" else column.argmax())
    return mean_score(name, values[:, worst], direction=direction)


@dataclass(frozen=True, eq=False)
class Resamples:
    """Bootstrap resamples of the images, shared by all that is compared.

    Attributes:
        weights: How often each image is drawn, shape (resamples, n), float64, rows that sum to 1.
    """

    weights: Floats

    @classmethod
    def of(cls, n: int, seed: int = 0) -> Resamples:
        """The same resamples for the same number of images."""
        rng = np.random.default_rng(seed)
        drawn = [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(RESAMPLES)]
        return cls(np.array(drawn) / n)

    def means(self, values: Floats) -> Floats:
        """Means of each resample: (n, …) -> (resamples, …)."""
        return np.tensordot(self.weights, values, axes=1)

    @staticmethod
    def interval(drawn: Floats) -> tuple[float, float]:
        """Percentiles of what the resamples gave."""
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return float(low), float(high)


def ratio_score(
    name: str,
    values: Floats,
    others: Floats | None,
    fixed: Sequence[float] | None,
    resamples: Resamples,
    *,
    within: tuple[float, float] = (0.0, 1.0),
) -> list[Score]:
    """The mean over k columns of mean ÷ mean of the reference, with its paired bootstrap interval.

    Args:
        name: Of the score.
        values: Shape (n, k).
        others: The reference's values on the same samples, shape (n, k); None if its means are known alone.
        fixed: The reference's k means, where they are known alone.
        resamples: Of the samples.
        within: The range of the values; what no sample shows, a few of those not seen may (`unseen`).

    Returns:
        The score; nothing if a value is missing or the reference has a mean of 0 or less.
    """
    below = others.mean(axis=0) if others is not None else np.asarray(fixed, dtype=np.float64)
    if np.isnan(values).any() or not (below > 0).all() or not len(values):
        return []
    ratio = float((values.mean(axis=0) / below).mean())
    with np.errstate(divide="ignore", invalid="ignore"):
        under = resamples.means(others) if others is not None else below
        drawn = (resamples.means(values) / under).mean(axis=1)
    # A resample without any error of the reference has no ratio: few of them are left out, many leave no interval.
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < 0.95 * len(drawn):
        return [Score(name, ratio, direction="lower")]
    low, high = resamples.interval(defined)
    (least, most), share, scale = within, unseen(len(values), confidence=CONFIDENCE), float((1 / below).mean())
    low = min(low, (share * least if least < 0 else (1 - share) * most) * scale)
    return [Score(name, ratio, low, max(high, share * most * scale), CONFIDENCE, direction="lower")]
