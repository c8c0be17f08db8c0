"""Smallest adversarial distances of each sample: the robustness curve's own measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmark.attacks import EFFORTS, Effort, get_attack, run_attack, spent
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Method, Needs, Result, Task
from benchmark.measures.nearest import distance_outputs, distance_scores
from benchmark.results import Output, Score, Work
from benchmark.threat import Norm, get_norm

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True)
class CurveParameters:
    """Parameters of the curve.

    Attributes:
        norm: The norm of the distances.
        attack: A registered attack.
        effort: How much it may spend.
        queries: Images that the model is shown a sample at most, of an attack without gradients; None: as the effort
            says.
    """

    norm: Norm = "linf"
    attack: str = "engine"
    effort: Effort = "standard"
    queries: int | None = None

    def __post_init__(self) -> None:
        get_norm(self.norm)
        if self.effort not in EFFORTS:
            raise InputError(f"An attack's effort is one of {', '.join(EFFORTS)}, got {self.effort!r}.")
        spent(self.queries, 0)


class Curve(Measure[CurveParameters]):
    """One attack's distances in one norm."""

    name = "curve"
    version = 1
    title = "Robustness curve: smallest adversarial distance of each sample"
    abstaining = True
    Parameters = CurveParameters

    def attack_version(self, parameters: CurveParameters) -> int:
        """Its attack's: a better attack is a new evaluation. `InputError` where the attack has no such norm."""
        attack = get_attack(parameters.attack)
        attack.check(parameters.norm)
        attack.check_queries(parameters.queries)
        return attack.version_in(parameters.norm)

    def method(self, parameters: CurveParameters) -> Method:
        """The attack's title and paper."""
        attack = get_attack(parameters.attack)
        return Method(attack.title, attack.paper, contributor=attack.name)

    def needs(self, parameters: CurveParameters) -> Needs:
        """Gradients, and images to start from."""
        return Needs(gradients=True, pool=True)

    def outputs(self, parameters: CurveParameters, dataset: Dataset) -> Sequence[Output]:
        """Each sample's distance, and what the distances come to."""
        return distance_outputs(
            parameters.norm,
            distance="Smallest distance at which the attack found an adversarial example.",
            found="Share of images with an adversarial example.",
            median="Median distance of all images, 0 where misclassified.",
            mean="Mean distance of the images with an adversarial example, 0 where misclassified.",
        )

    def work(self, parameters: CurveParameters, dataset: Dataset) -> Work | None:
        """The attack's."""
        return get_attack(parameters.attack).stated_work(parameters.norm, parameters.effort)

    def why_uncounted(self, parameters: CurveParameters) -> str:
        """The attack's reason."""
        attack = get_attack(parameters.attack)
        return f"{attack.name}: {attack.uncounted or 'the attack states no work'}"

    def run(self, task: Task, parameters: CurveParameters) -> Result:
        """Attack one chunk."""
        attack = get_attack(parameters.attack)
        found = run_attack(
            attack,
            task.model,
            task.x,
            task.y,
            norm=parameters.norm,
            effort=parameters.effort,
            seed=task.seed,
            pool=task.pool,
            queries=parameters.queries,
        )
        arrays = {"origin": np.array(found.origin, dtype="S16")} if found.origin else {}
        return Result(arrays, found.adversarials, found.flags)

    def summarise(self, inputs: Inputs, parameters: CurveParameters) -> list[Score]:
        """Share found, median distance, and mean distance of the samples with an example (0 where misclassified)."""
        return distance_scores(inputs.arrays[f"distance_{parameters.norm}"])


MEASURE = Curve()
