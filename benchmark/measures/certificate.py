"""Certified radii: no adversarial example is nearer, whatever the attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch

from benchmark.certificates import certificate
from benchmark.measures import Arrays, Measure, Result, Task
from benchmark.results import Direction, Score
from benchmark.threat import Norm


@dataclass(frozen=True, kw_only=True)
class CertificateParameters:
    """Parameters of `CertificateMeasure`.

    Attributes:
        norm: The norm of the radii.
        method: Which certificate, or ``"best"``: per sample the largest of all that apply to the model. ``"auto"`` is
            CROWN, and for Gaussian kernels, whose one certificate it is, the Cross-Lipschitz bound.
        samples: The first so many samples are certified: a large network takes seconds for each.
    """

    norm: Norm = "linf"
    method: Literal["auto", "crown", "ibp", "cross-lipschitz", "linear-region", "best"] = "auto"
    samples: int = 10_000


class CertificateMeasure(Measure[CertificateParameters]):
    """Lower bounds of the distances, array ``radius`` (n,) float64: 0 where misclassified or nothing is certified."""

    name: ClassVar[str] = "certificate"
    version: ClassVar[int] = 2
    title: ClassVar[str] = "Certified radius: no adversarial example is nearer"
    unit: ClassVar[str] = "distance"
    direction: ClassVar[Direction] = "higher"
    chunk: ClassVar[int] = 25
    Parameters = CertificateParameters

    def samples(self, parameters: CertificateParameters, n: int) -> int:
        """The first ``parameters.samples``."""
        return min(n, parameters.samples)

    def run(self, task: Task, parameters: CertificateParameters) -> Result:
        """Certify one chunk."""
        radius = certificate(task.module, task.x, task.y, norm=parameters.norm, method=parameters.method)
        # The decision that counts is the model's own, in its own precision, wherever the traced copy sees it otherwise.
        with torch.no_grad():
            radius[task.model(task.x).argmax(dim=1) != task.y] = 0.0
        return Result(arrays={"radius": radius.cpu().numpy()})

    def summarise(self, arrays: Arrays, parameters: CertificateParameters) -> list[Score]:
        """Mean and median of the radii."""
        radius = arrays["radius"]
        return [
            Score("mean_radius", float(np.mean(radius)), unit="distance", direction="higher"),
            Score("median_radius", float(np.median(radius)), unit="distance", direction="higher"),
        ]


MEASURE = CertificateMeasure()
