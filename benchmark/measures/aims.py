"""Targets of samples, and the distances to all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.attacks import Effort, get_attack, run_attack
from benchmark.errors import UnsupportedModelError
from benchmark.measures import Task
from benchmark.rejection import rejects
from benchmark.results import Flag, Work
from benchmark.threat import Norm
from benchmark.threat.goals import TARGETED
from benchmark.verification import verify


def number_of_classes(task: Task) -> int:
    """How many classes the model knows; `UnsupportedModelError` where there is no other than the label."""
    with torch.no_grad():
        classes = int(task.model(task.x[:1]).shape[1]) - rejects(task.model)
    if classes < 2:
        raise UnsupportedModelError("A targeted attack needs a model of two classes at least.")
    return classes


def random_targets(y: Tensor, first: int, classes: int) -> Tensor:
    """Another class for each sample, drawn by the sample's index in the dataset alone; shape (n,), int64."""
    offsets = [
        1 + int(np.random.default_rng([0, first + i]).integers(classes - 1)) for i in range(len(y))
    ]  # one generator a sample, so that chunks do not matter
    return (y + torch.tensor(offsets, dtype=torch.int64, device=y.device)) % classes


def stated_work(attack: str, norm: Norm, effort: Effort, *, targets: int) -> Work | None:
    """What an attack states to compute of a sample, towards so many targets."""
    work = get_attack(attack).stated_work(norm, effort)
    return None if work is None else work.times(targets)


@dataclass(frozen=True, eq=False)
class AllTargets:
    """What was found for each sample and class.

    Attributes:
        distances: Verified distances, shape (n, k), float64; NaN at the label.
        adversarials: Of the chosen target: candidates, shape (n, c, h, w).
        targets: The chosen targets, shape (n,), int64.
        flags: What the attack noticed.
    """

    distances: NDArray[np.float64]
    adversarials: Tensor
    targets: Tensor
    flags: tuple[Flag, ...]


def attack_all(task: Task, attack: str, *, norm: Norm, effort: Effort, hardest: bool) -> AllTargets:
    """Attack every sample towards each other class, and choose its nearest target, or its farthest."""
    classes, y = number_of_classes(task), task.y
    distances = np.full((len(y), classes), np.nan)
    chosen, targets = task.x.clone(), (y + 1) % classes
    best = np.full(len(y), -np.inf if hardest else np.inf)
    flags: list[Flag] = []
    rows = np.arange(len(y))
    for offset in range(1, classes):
        wanted = (y + offset) % classes
        found = run_attack(
            get_attack(attack),
            task.model,
            task.x,
            y,
            norm=norm,
            goal=TARGETED,
            targets=wanted,
            effort=effort,
            seed=task.seed,
            pool=task.pool,
        )
        flags += found.flags
        distance = verify(task.model, task.x, y, found.adversarials, targets=wanted).distances[norm].numpy()
        distances[rows, wanted.cpu().numpy()] = distance
        wins = distance > best if hardest else distance < best
        where = torch.from_numpy(wins).to(y.device)
        best[wins] = distance[wins]
        chosen[where], targets[where] = found.adversarials.to(task.x)[where], wanted[where]
    return AllTargets(distances, chosen, targets, tuple(flags))
