"""Smallest distances at which each sample is given a named class: the curve of a targeted goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from benchmark.attacks import EFFORTS, Effort, get_attack, run_attack
from benchmark.attacks.engine.budget import EOT_REPEATS
from benchmark.attacks.targeted import CHOICES
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Method, Needs, Result, Task
from benchmark.measures.aims import attack_all, number_of_classes, random_targets, stated_work
from benchmark.measures.nearest import distance_outputs, distance_scores
from benchmark.rejection import rejects, without_rejection
from benchmark.results import Output, Score, Work
from benchmark.threat import Norm
from benchmark.threat.goals import TARGETED, Threat
from benchmark.twin import is_randomised, mean_logits

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True)
class TargetedParameters:
    """Parameters of a targeted curve.

    Attributes:
        norm: The norm of the distances.
        choice: How targets are chosen: ``next`` (the label + 1), ``least-likely`` (of the clean image's logits),
            ``random`` (the same for every model), ``easiest`` and ``hardest`` (the nearest and the farthest of all
            classes, each of which is tried).
        attack: A registered attack with targeted goals.
        effort: How much it may spend a target.
        samples: At most so many samples are attacked.
    """

    norm: Norm = "linf"
    choice: str = "next"
    attack: str = "targeted"
    effort: Effort = "standard"
    samples: int = 10_000

    def __post_init__(self) -> None:
        if self.choice not in CHOICES:
            raise InputError(f"Targets are chosen by one of {', '.join(CHOICES)}; got {self.choice!r}.")
        if self.effort not in EFFORTS:
            raise InputError(f"An attack's effort is one of {', '.join(EFFORTS)}, got {self.effort!r}.")
        if self.samples < 1:
            raise InputError(f"A targeted curve needs at least 1 sample, got {self.samples!r}.")
        get_attack(self.attack).check(self.norm, self.goal)

    @property
    def goal(self) -> str:
        """The goal's name."""
        return f"{TARGETED}-{self.choice}"


class Targeted(Measure[TargetedParameters]):
    """One attack's distances to a class chosen for each sample."""

    name = "targeted"
    version = 1
    title = "Targeted curve: smallest distance at which each sample is given a named class"
    paper = "goals as in Dong et al. 2020, arXiv:1912.11852"
    at_most = "samples"
    abstaining = True
    Parameters = TargetedParameters

    def attack_version(self, parameters: TargetedParameters) -> int:
        """The attack's version: a better attack is a new evaluation."""
        return get_attack(parameters.attack).version_in(parameters.norm)

    def method(self, parameters: TargetedParameters) -> Method:
        """The attack's title and paper."""
        attack = get_attack(parameters.attack)
        return Method(attack.title, attack.paper, contributor=attack.name)

    def needs(self, parameters: TargetedParameters) -> Needs:
        """Gradients, and images to start from."""
        return Needs(gradients=True, pool=True)

    def work(self, parameters: TargetedParameters, dataset: Dataset) -> Work | None:
        """The attack's, towards one class or towards each other one."""
        targets = dataset.n_classes - 1 if parameters.choice in {"easiest", "hardest"} else 1
        return stated_work(parameters.attack, parameters.norm, parameters.effort, targets=targets)

    def outputs(self, parameters: TargetedParameters, dataset: Dataset) -> Sequence[Output]:
        """Each sample's distance to its target, and what the distances come to."""
        return distance_outputs(
            Threat(parameters.norm, parameters.goal).key,
            distance="Smallest distance at which the attack had the model say the target; 0 where it says it unasked.",
            found="Share of images that reached their target.",
            median="Median distance of all images to their target.",
            mean="Mean distance of the images that reached their target.",
        )

    def run(self, task: Task, parameters: TargetedParameters) -> Result:
        """Attack one chunk; the array ``target`` holds each sample's target."""
        norm, effort, y = parameters.norm, parameters.effort, task.y
        if parameters.choice in {"easiest", "hardest"}:
            all_ = attack_all(task, parameters.attack, norm=norm, effort=effort, hardest=parameters.choice == "hardest")
            adversarials, targets, flags = all_.adversarials, all_.targets, all_.flags
        else:
            targets = self._targets(task, parameters.choice)
            found = run_attack(
                get_attack(parameters.attack),
                task.model,
                task.x,
                y,
                norm=norm,
                goal=parameters.goal,
                targets=targets,
                effort=effort,
                seed=task.seed,
                pool=task.pool,
            )
            adversarials, flags = found.adversarials, found.flags
        return Result({"target": targets.cpu().numpy()}, adversarials, flags, parameters.goal, targets)

    def _targets(self, task: Task, choice: str) -> torch.Tensor:
        classes = number_of_classes(task)
        if choice == "random":
            return random_targets(task.y, task.first, classes)
        if choice == "next":
            return (task.y + 1) % classes
        calls = EOT_REPEATS if is_randomised(task.model, task.x[:2]) else 1
        with torch.no_grad():
            logits = without_rejection(mean_logits(task.model, task.x, calls), reject=rejects(task.model))
        least: torch.Tensor = logits.scatter(1, task.y[:, None], torch.inf).argmin(dim=1)
        return least

    def summarise(self, inputs: Inputs, parameters: TargetedParameters) -> list[Score]:
        """Share found, median distance, and mean distance of the samples that reached their target."""
        return distance_scores(inputs.arrays[f"distance_{Threat(parameters.norm, parameters.goal).key}"])


MEASURE = Targeted()
