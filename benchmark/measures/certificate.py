"""Certified radii: no adversarial example is nearer, whatever the attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch

from benchmark.certificates import certificate
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.results import Output, Score
from benchmark.threat import Norm

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True, kw_only=True)
class CertificateParameters:
    """Parameters of `CertificateMeasure`.

    Attributes:
        norm: The norm of the radii.
        method: Which certificate, or ``"best"``: per sample the largest of all that apply to the model. ``"auto"`` is
            CROWN, and for Gaussian kernels, whose one certificate it is, the Cross-Lipschitz bound.
        samples: The first so many samples are certified: a large network takes seconds for each.
        most_work: A network is refused for which one ball around one image takes more multiplications than this; none
            is tried for which it takes more than half a minute. A radius takes some twenty balls.
    """

    norm: Norm = "linf"
    method: Literal["auto", "crown", "ibp", "cross-lipschitz", "linear-region", "best"] = "auto"
    samples: int = 10_000
    most_work: float | None = None

    def __post_init__(self) -> None:
        if self.most_work is not None and not self.most_work > 0:
            raise InputError(f"A certificate needs some work to be allowed, got most_work={self.most_work}.")


class CertificateMeasure(Measure[CertificateParameters]):
    """Lower bounds of the distances, array ``radius`` (n,) float64: 0 where misclassified or nothing is certified."""

    name: ClassVar[str] = "certificate"
    version: ClassVar[int] = 3
    title: ClassVar[str] = "Certified radius: no adversarial example is nearer"
    chunk: ClassVar[int] = 25
    at_most: ClassVar[str] = "samples"
    abstaining: ClassVar[bool] = True
    uncounted: ClassVar[str] = (
        "it goes by the network's layers: milliseconds an image of a small network, minutes of a large one; one that "
        "is too large, or has other operations, is refused in seconds"
    )
    Parameters = CertificateParameters

    def needs(self, parameters: CertificateParameters) -> Needs:
        """The network's structure."""
        return Needs(graph=True)

    def outputs(self, parameters: CertificateParameters, dataset: Dataset) -> Sequence[Output]:
        """Each sample's radius, their mean and median."""
        norm = parameters.norm
        return (
            Output(
                "radius",
                "lower",
                "Certified radius",
                "No adversarial example is nearer, whatever the attack.",
                unit="distance",
                direction="higher",
                threat=norm,
                array="radius",
            ),
            Output(
                "mean_radius",
                "scalar",
                "Mean certified radius",
                "Mean over the samples of what is proven.",
                unit="distance",
                direction="higher",
                threat=norm,
            ),
            Output(
                "median_radius",
                "scalar",
                "Median radius",
                "Median certified radius.",
                unit="distance",
                direction="higher",
                threat=norm,
            ),
        )

    def run(self, task: Task, parameters: CertificateParameters) -> Result:
        """Certify one chunk."""
        radius = certificate(
            task.module, task.x, task.y, norm=parameters.norm, method=parameters.method, most_work=parameters.most_work
        )
        # The decision that counts is the model's own, in its own precision, wherever the traced copy sees it otherwise.
        with torch.no_grad():
            radius[task.model(task.x).argmax(dim=1) != task.y] = 0.0
        return Result(arrays={"radius": radius.cpu().numpy()})

    def summarise(self, inputs: Inputs, parameters: CertificateParameters) -> list[Score]:
        """Mean and median of the radii."""
        radius = inputs.arrays["radius"]
        return [
            Score("mean_radius", float(np.mean(radius)), unit="distance", direction="higher"),
            Score("median_radius", float(np.median(radius)), unit="distance", direction="higher"),
        ]


MEASURE = CertificateMeasure()
