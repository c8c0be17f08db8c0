"""Out-of-distribution detection: does the largest probability tell a dataset's images from another's?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional

from benchmark.data import get_dataset
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.means import bootstrap_score, scalar
from benchmark.results import Output, Score, Work

if TYPE_CHECKING:
    from benchmark.data import Dataset

NOISE: Final = "noise"
AUROC: Final = scalar(
    "auroc",
    "OOD AUROC",
    "Probability that an image of the dataset has a higher confidence than one of uniform noise.",
    "share",
    "higher",
)
FPR: Final = scalar(
    "fpr95",
    "OOD FPR@95",
    "Share of images of uniform noise that pass the threshold which 95 % of the dataset's pass.",
    "share",
    "lower",
)


@dataclass(frozen=True)
class OodParameters:
    """What the dataset is told apart from.

    Attributes:
        against: A registered dataset, brought to the image's size by bilinear interpolation and to its number of
            channels by their mean; or ``noise``: uniform noise.
    """

    against: str = NOISE


class Ood(Measure[OodParameters]):
    """AUROC and FPR at 95 % TPR of the largest softmax probability."""

    name = "ood"
    version = 3
    title = "Out-of-distribution detection by confidence"
    paper = "Hendrycks & Gimpel 2017, arXiv:1610.02136"
    chunk = 500
    Parameters = OodParameters

    def needs(self, parameters: OodParameters) -> Needs:
        """The other set."""
        return Needs(datasets=() if parameters.against == NOISE else (parameters.against,))

    def outputs(self, parameters: OodParameters, dataset: Dataset) -> Sequence[Output]:
        """Two shares, which name the other set."""
        return _outputs(parameters.against)

    def work(self, parameters: OodParameters, dataset: Dataset) -> Work | None:
        """Two forward passes: of the images, and of as many others."""
        return Work(forward=2, steps=2)

    def run(self, task: Task, parameters: OodParameters) -> Result:
        """Arrays ``inside`` and ``outside`` (n,), float64: largest probabilities."""
        other = _others(task, parameters.against)
        with torch.no_grad():
            inside, outside = (task.model(x).double().softmax(dim=1).amax(dim=1).cpu().numpy() for x in (task.x, other))
        return Result({"inside": inside, "outside": outside})

    def summarise(self, inputs: Inputs, parameters: OodParameters) -> list[Score]:
        """Both with bootstrap intervals."""
        inside, outside = np.asarray(inputs.arrays["inside"]), np.asarray(inputs.arrays["outside"])
        rng = np.random.default_rng(0)
        scores = []
        for output, statistic in zip(_outputs(parameters.against), (auroc, fpr95), strict=True):
            spread = [statistic(rng.choice(inside, len(inside)), rng.choice(outside, len(outside))) for _ in range(300)]
            scores.append(bootstrap_score(output, statistic(inside, outside), spread, n=min(len(inside), len(outside))))
        return scores


def _outputs(against: str) -> tuple[Output, Output]:
    """AUROC and FPR@95 against a set; of noise under their bare names."""
    if against == NOISE:
        return AUROC, FPR
    name = get_dataset(against).title.partition(",")[0]
    return _of(AUROC, against, name), _of(FPR, against, name)


def _of(output: Output, against: str, name: str) -> Output:
    told = output.help.replace("uniform noise", name)
    return dataclasses.replace(output, name=f"{output.name}-{against}", title=f"{output.title}, {name}", help=told)


def _others(task: Task, against: str) -> Tensor:
    """As many images from elsewhere, in the shape of the task's; a smaller set is gone through again."""
    if against == NOISE:
        generator = torch.Generator().manual_seed(task.seed)
        noise = torch.rand(task.x.shape, generator=generator, dtype=task.x.dtype, device="cpu")
        return noise.to(task.x.device)
    dataset = task.datasets[against]
    start = task.first % dataset.size
    x = dataset.batch(start, min(start + len(task.x), dataset.size))[0]
    while len(x) < len(task.x):
        x = torch.cat([x, dataset.batch(0, min(len(task.x) - len(x), dataset.size))[0]])
    channels, *size = task.x.shape[1:]
    if x.shape[2:] != tuple(size):
        x = functional.interpolate(x, size=size, mode="bilinear", antialias=True).clamp(0, 1)
    if x.shape[1] != channels:
        x = x.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
    return x.contiguous().to(task.x)


def auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """P[inside > outside] + ½ P[inside = outside], by the ranks (Mann & Whitney)."""
    ranks = rankdata(np.concatenate([inside, outside]))
    n, m = len(inside), len(outside)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def fpr95(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Share of ``outside`` at or above the largest threshold that at least 95 % of ``inside`` reach."""
    threshold = np.sort(inside)[int(np.floor(0.05 * len(inside) + 1e-9))]
    return float((outside >= threshold).mean())


MEASURE = Ood()
