"""Exact minimal distances of small ReLU networks: the ground truth between certificate and attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmark.attacks import get_attack
from benchmark.certificates.exact import ExactNorm, exact, refuse_unsolvable
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.results import Kind, Output, Score, Work
from benchmark.verification import verify

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True)
class ExactParameters:
    """Parameters of `ExactMeasure`.

    Attributes:
        norm: ``"linf"`` or ``"l1"``.
        time_limit: Seconds a sample; a time-out gives the two bounds reached.
        samples: The first so many samples are solved.
        most_neurons: A network with more ReLUs than this is not tried.
    """

    norm: ExactNorm = "linf"
    time_limit: float = 10.0
    samples: int = 100
    most_neurons: int = 64


class ExactMeasure(Measure[ExactParameters]):
    """Bounds of the true distance by mixed-integer programming.

    Arrays: ``lower`` (n,) float64; ``upper`` (n,) float64, the distance of the nearest verified example, ``inf``
    without one; ``solved`` (n,) bool, whether they differ by the solver's tolerances only.
    """

    name: ClassVar[str] = "exact"
    version: ClassVar[int] = 2
    title: ClassVar[str] = "Exact minimal distance (mixed-integer program)"
    paper: ClassVar[str] = "Tjeng et al. 2019, arXiv:1711.07356"
    chunk: ClassVar[int] = 10
    at_most: ClassVar[str] = "samples"
    Parameters = ExactParameters

    def needs(self, parameters: ExactParameters) -> Needs:
        """The network's structure; the known distances make its box smaller."""
        return Needs(gradients=True, graph=True, pool=True, ledger=True)

    def outputs(self, parameters: ExactParameters, dataset: Dataset) -> Sequence[Output]:
        """Both bounds of each sample, and how many were solved."""
        norm = parameters.norm

        def bound(name: str, kind: Kind, title: str, text: str, array: str = "") -> Output:
            return Output(name, kind, title, text, "distance", "higher", threat=norm, array=array)

        return (
            Output(
                "solved",
                "scalar",
                "Solved",
                "Share of images whose minimal distance the solver proved.",
                unit="share",
                direction="higher",
                threat=norm,
            ),
            bound("mean_lower", "scalar", "Mean lower bound", "Mean of the solver's lower bounds."),
            bound("mean_upper", "scalar", "Mean upper bound", "Mean distance of the images with an example."),
            bound("lower", "lower", "Lower bound", "No adversarial example is nearer: proven by the solver.", "lower"),
            bound(
                "distance",
                "upper",
                "Upper bound",
                "Distance of the nearest adversarial example of the solver.",
                f"distance_{norm}",
            ),
        )

    def work(self, parameters: ExactParameters, dataset: Dataset) -> Work | None:
        """The solver's limit of time."""
        return Work(most_seconds=parameters.time_limit)

    def run(self, task: Task, parameters: ExactParameters) -> Result:
        """Solve one chunk, within the ledger's distances or, without a ledger, a quick attack's."""
        norm = parameters.norm
        refuse_unsolvable(task.module, task.x[:1], most_neurons=parameters.most_neurons)  # before anything is attacked
        known = torch.tensor(task.distances.get(norm, np.full(len(task.x), np.inf)), device="cpu")
        found: Tensor | None = None
        if not torch.isfinite(known).all():
            attack = get_attack("engine").run
            found = attack(
                task.model, task.x, task.y, norm=norm, effort="quick", seed=task.seed, pool=task.pool
            ).adversarials
            known = torch.minimum(known, verify(task.model, task.x, task.y, found).distances[norm])
        answer = exact(
            task.module,
            task.x,
            task.y,
            norm=norm,
            within=known,
            time_limit=parameters.time_limit,
            most_neurons=parameters.most_neurons,
        )
        examples, upper = answer.adversarials, answer.upper
        if found is not None:
            # After a time-out the attack's example may be the best there is.
            attacked = verify(task.model, task.x, task.y, found).distances[norm]
            nearer = (attacked < upper).to(examples.device)
            examples = torch.where(nearer.view(-1, *[1] * (examples.ndim - 1)), found, examples)
            upper = torch.minimum(upper, attacked)
        arrays = {"lower": answer.lower.numpy(), "upper": upper.numpy(), "solved": answer.solved.numpy()}
        return Result(arrays=arrays, adversarials=examples)

    def summarise(self, inputs: Inputs, parameters: ExactParameters) -> list[Score]:
        """Share solved, and the mean of each bound (the upper one over the samples that have one)."""
        arrays = inputs.arrays
        lower, upper = arrays["lower"], arrays["upper"]
        found = np.isfinite(upper)
        scores = [
            Score("solved", float(np.mean(arrays["solved"])), unit="share", direction="higher"),
            Score("mean_lower", float(np.mean(lower)), unit="distance", direction="higher"),
        ]
        if found.any():
            scores.append(Score("mean_upper", float(np.mean(upper[found])), unit="distance", direction="higher"))
        return scores


MEASURE = ExactMeasure()
