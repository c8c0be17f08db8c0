"""The robust generalisation gap: robust accuracy on training images minus that on test images, at every ε."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.attacks import get_attack, run_attack
from benchmark.curve import proportion_interval
from benchmark.errors import UnsupportedModelError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.curve import CurveParameters
from benchmark.measures.means import CONFIDENCE
from benchmark.measures.members import training_batch
from benchmark.results import GridAxis, Output, Score, Summary, Table
from benchmark.threat.budget import within
from benchmark.verification import verify

if TYPE_CHECKING:
    from benchmark.data import Dataset

POINTS: Final = 41
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GapParameters(CurveParameters):
    """The attack that both curves are of, and the ε axis.

    Attributes:
        up_to: End of the ε axis; 0 for twice the dataset's largest published eps in the norm.
    """

    effort: str = "quick"  # type: ignore[assignment]
    up_to: float = 0.0


class Gap(Measure[GapParameters]):
    """Robust accuracy on training minus test images, from one attack's distances on both."""

    name = "generalisation"
    version = 2
    title = "Robust generalisation gap"
    paper = "Kim et al. 2023, Fantastic Robustness Measures"
    Parameters = GapParameters

    def attack_version(self, parameters: GapParameters) -> int:
        """The attack's version."""
        return get_attack(parameters.attack).version_in(parameters.norm)

    def needs(self, parameters: GapParameters) -> Needs:
        """The training split, as many images of it as of the slice."""
        return Needs(gradients=True, pool=True, splits=("train",))

    def outputs(self, parameters: GapParameters, dataset: Dataset) -> Sequence[Output]:
        """The gap along ε, and at the reference ε."""
        eps = self._eps(parameters, dataset)
        axis = GridAxis("ε", tuple(f"{e:.4g}" for e in eps.tolist()), "distance")
        return (
            Output(
                "gap",
                "trace",
                "Robust gap",
                "Robust accuracy on training images minus that on test images.",
                "share",
                "lower",
                threat=parameters.norm,
                axes=(axis,),
            ),
            Output(
                "reference",
                "scalar",
                "Robust gap",
                "Robust accuracy on training images minus that on test images, at the dataset's reference ε.",
                "share",
                "lower",
                threat=parameters.norm,
            ),
        )

    def run(self, task: Task, parameters: GapParameters) -> Result:
        """Array ``train_distance`` (n,), float64, verified; the examples of the test images join the ledger.

        Raises:
            UnsupportedModelError: If the training split has fewer images than the slice.
        """
        attack = get_attack(parameters.attack)
        options = {"norm": parameters.norm, "effort": parameters.effort, "seed": task.seed, "pool": task.pool}
        x, y = training_batch(task)
        found = run_attack(attack, task.model, x, y, **options)  # type: ignore[arg-type]
        train = verify(task.module, x, y, found.adversarials).distances[parameters.norm]
        own = run_attack(attack, task.model, task.x, task.y, **options)  # type: ignore[arg-type]
        return Result({"train_distance": train.numpy()}, adversarials=own.adversarials, flags=own.flags)

    def summarise(self, inputs: Inputs, parameters: GapParameters) -> Summary:
        """The gaps with Newcombe's intervals for the difference of two proportions (his method 10)."""
        assert inputs.dataset is not None
        eps = self._eps(parameters, inputs.dataset)
        train = np.asarray(inputs.arrays["train_distance"])
        test = np.asarray(inputs.arrays[f"distance_{parameters.norm}"])
        reference = _reference(inputs.dataset, parameters.norm)
        levels = np.append(eps, reference)
        counts = [np.array([np.count_nonzero(~within(d, e)) for e in levels.tolist()]) for d in (train, test)]
        gaps, low, high = gap_interval((counts[0], len(train)), (counts[1], len(test)))
        ends = float(low[-1]), float(high[-1])
        score = Score("reference", float(gaps[-1]), *ends, CONFIDENCE, unit="share", direction="lower")
        return Summary([score], {"gap": Table(gaps[:-1], low[:-1], high[:-1], CONFIDENCE)})

    @staticmethod
    def _eps(parameters: GapParameters, dataset: Dataset) -> Floats:
        top = parameters.up_to or 2 * max(dataset.eps.get(parameters.norm, ()), default=0.0)
        if not top > 0:
            raise UnsupportedModelError(
                f"The dataset {dataset.name!r} has no published eps in {parameters.norm}; give up_to, the axis' end."
            )
        return np.linspace(0, top, POINTS)


def _reference(dataset: Dataset, norm: str) -> float:
    published = dataset.eps.get(norm, ())
    return float(published[0]) if published else 0.0


def gap_interval(
    train: tuple[NDArray[np.int64], int], test: tuple[NDArray[np.int64], int]
) -> tuple[Floats, Floats, Floats]:
    """Differences of two independent proportions, with intervals that hold where all or none are robust.

    Newcombe 1998, Statistics in Medicine 17, method 10, here from Clopper and Pearson's ends.

    Args:
        train: How many training images are robust, shape (k,), and of how many.
        test: Of the test images, likewise.

    Returns:
        The differences, and the low and high ends of their intervals, shape (k,) each.
    """
    (first, low, high), (second, other_low, other_high) = (
        (count / n, *proportion_interval(count, n, confidence=CONFIDENCE)) for count, n in (train, test)
    )
    gap = first - second
    return gap, gap - np.hypot(first - low, other_high - second), gap + np.hypot(high - first, second - other_low)


MEASURE = Gap()
