"""Smallest adversarial distances of each sample: the robustness curve's own measure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.attacks import EFFORTS, Effort, get_attack, run_attack
from benchmark.errors import InputError
from benchmark.measures import Arrays, Measure, Method, Result, Task
from benchmark.results import Score
from benchmark.threat import Norm, get_norm


@dataclass(frozen=True)
class CurveParameters:
    """Parameters of the curve.

    Attributes:
        norm: The norm of the distances.
        attack: A registered attack.
        effort: How much it may spend.
    """

    norm: Norm = "linf"
    attack: str = "engine"
    effort: Effort = "standard"

    def __post_init__(self) -> None:
        get_norm(self.norm)
        if self.effort not in EFFORTS:
            raise InputError(f"An attack's effort is one of {', '.join(EFFORTS)}, got {self.effort!r}.")


class Curve(Measure[CurveParameters]):
    """One attack's distances in one norm."""

    name = "curve"
    version = 1
    title = "Robustness curve: smallest adversarial distance of each sample"
    unit = "distance"
    direction = "higher"
    Parameters = CurveParameters

    def parameter_version(self, parameters: CurveParameters) -> int:
        """The attack's version: a better attack is a new evaluation."""
        return get_attack(parameters.attack).version

    def method(self, parameters: CurveParameters) -> Method:
        """The attack's title and paper."""
        attack = get_attack(parameters.attack)
        return Method(attack.title, attack.paper)

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
        )
        arrays = {"origin": np.array(found.origin, dtype="S16")} if found.origin else {}
        return Result(arrays, found.adversarials, found.flags)

    def summarise(self, arrays: Arrays, parameters: CurveParameters) -> list[Score]:
        """Share found, median distance, and mean distance of the samples with an example (0 where misclassified)."""
        distances = np.asarray(arrays[f"distance_{parameters.norm}"], dtype=np.float64)
        found = np.isfinite(distances)
        scores = [
            Score("found", float(found.mean()), unit="share"),
            Score("median_distance", float(np.quantile(distances, 0.5, method="lower")), unit="distance"),
        ]
        if found.any():
            scores.append(Score("mean_distance", float(distances[found].mean()), unit="distance", direction="higher"))
        return scores


MEASURE = Curve()
