"""Boundary thickness (Yang et al. 2020, arXiv:2007.05086): how wide the uncertain zone towards another class is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch.nn import functional

from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.balls import BallParameters
from benchmark.measures.means import mean_score, scalar
from benchmark.results import Output, Score, Work
from benchmark.threat.ascent import ascend

if TYPE_CHECKING:
    from benchmark.data import Dataset

POINTS: Final = 128
THICKNESS: Final = scalar(
    "thickness",
    "Boundary thickness",
    "Mean of ‖x − x'‖₂ times the share of the segment on which the two classes' probabilities differ by α to β.",
    "distance",
    "higher",
)


@dataclass(frozen=True)
class ThicknessParameters(BallParameters):
    """The ball in which the other end of the segment is searched, and the zone.

    Attributes:
        alpha: Lower end of p_y − p_target.
        beta: Its upper end.
    """

    norm: str = "l2"  # type: ignore[assignment]
    eps: float = 1.0
    steps: int = 50
    alpha: float = 0.0
    beta: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -1 <= self.alpha < self.beta <= 1:
            raise InputError(f"alpha is {self.alpha}, beta {self.beta}; needed: −1 <= alpha < beta <= 1.")


class Thickness(Measure[ThicknessParameters]):
    """Boundary thickness towards a random other class."""

    name = "boundary-thickness"
    version = 1
    title = "Boundary thickness"
    paper = "Yang et al. 2020, arXiv:2007.05086"
    Parameters = ThicknessParameters

    def needs(self, parameters: ThicknessParameters) -> Needs:
        """Gradients."""
        return Needs(gradients=True)

    def outputs(self, parameters: ThicknessParameters, dataset: Dataset) -> Sequence[Output]:
        """One mean."""
        return (THICKNESS,)

    def work(self, parameters: ThicknessParameters, dataset: Dataset) -> Work | None:
        """Targeted gradient steps, and the points of the way."""
        passes = parameters.steps + POINTS + 2
        return Work(forward=passes, backward=parameters.steps + 1, steps=passes, operations=20)

    def run(self, task: Task, parameters: ThicknessParameters) -> Result:
        """Array ``thickness`` (n,), float64; the other end by targeted PGD from the image, steps of eps / 5."""
        rows = torch.arange(len(task.x), device=task.y.device)
        generator = torch.Generator().manual_seed(task.seed)
        with torch.no_grad():
            own = task.model(task.x)
        classes = own.shape[1]
        label = own.argmax(dim=1)
        target = torch.randint(1, classes, (len(label),), generator=generator, device="cpu").to(label)
        target = (label + target) % classes
        with torch.enable_grad():
            other = ascend(
                lambda x: -functional.cross_entropy(task.model(x), target, reduction="sum"),
                task.x,
                torch.zeros_like(task.x),
                norm=parameters.norm,  # type: ignore[arg-type]
                eps=parameters.eps,
                step=parameters.eps / 5,
                steps=parameters.steps,
            )
        inside_zone = torch.zeros(len(task.x), dtype=torch.float64, device="cpu")
        with torch.no_grad():
            for share in torch.linspace(0, 1, POINTS, device="cpu").tolist():
                p = task.model(torch.lerp(task.x, other, share)).double().softmax(dim=1)
                gap = p[rows, label] - p[rows, target]
                inside_zone += ((gap > parameters.alpha) & (gap < parameters.beta)).double().cpu()
        length = (other - task.x).double().flatten(1).norm(dim=1).cpu()
        return Result({"thickness": (length * inside_zone / POINTS).numpy()})

    def summarise(self, inputs: Inputs, parameters: ThicknessParameters) -> list[Score]:
        """The mean with its interval."""
        return [mean_score(THICKNESS, np.asarray(inputs.arrays["thickness"]))]


MEASURE = Thickness()
