"""Norms of the weights: their size, spectral and Frobenius products, the path norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.errors import UnsupportedModelError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.flatness import movable
from benchmark.measures.means import scalar
from benchmark.results import Output, Score

if TYPE_CHECKING:
    from benchmark.data import Dataset

OUTPUTS: Final = (
    scalar("l2", "Weight norm", "ℓ₂ norm of all weights.", "", "lower"),
    scalar(
        "log_spectral", "log Π spectral²", "Sum over layers of log ‖W‖₂², W as a matrix of out × rest.", "", "lower"
    ),
    scalar("log_frobenius", "log Π Frobenius²", "Sum over layers of log ‖W‖_F².", "", "lower"),
    scalar("log_path", "log path norm", "log of the summed squared products of weights over all paths.", "", "lower"),
    scalar("log_spectral_margin", "log Π spectral² ÷ γ²", "The same less log γ₁₀² of the logits.", "", "lower"),
)


@dataclass(frozen=True)
class WeightNormsParameters:
    """None."""


class WeightNorms(Measure[WeightNormsParameters]):
    """Norms of the weights that generalisation bounds speak of."""

    name = "weight-norms"
    version = 1
    title = "Norms of the weights"
    paper = "Jiang et al. 2020, arXiv:1912.02178"
    chunk = 500
    Parameters = WeightNormsParameters

    def needs(self, parameters: WeightNormsParameters) -> Needs:
        """The module's parameters."""
        return Needs(graph=True)

    def outputs(self, parameters: WeightNormsParameters, dataset: Dataset) -> Sequence[Output]:
        """Five scalars."""
        return OUTPUTS

    def run(self, task: Task, parameters: WeightNormsParameters) -> Result:
        """Array ``margin`` (n,), and the norms, which are the same for every sample."""
        norms = norms_of_weights(task.module, task.x[:1])
        with torch.no_grad():
            logits = task.model(task.x).double()
        own = logits.gather(1, task.y[:, None]).squeeze(1)
        margin = own - logits.scatter(1, task.y[:, None], -torch.inf).amax(dim=1)
        return Result(
            {name: np.full(len(task.x), value) for name, value in norms.items()} | {"margin": margin.cpu().numpy()}
        )

    def summarise(self, inputs: Inputs, parameters: WeightNormsParameters) -> list[Score]:
        """The norms, exact; and the one that is divided by the margin's 10th percentile, where that is positive."""
        values = {name: float(inputs.arrays[name][0]) for name in ("l2", "log_spectral", "log_frobenius", "log_path")}
        tenth = float(np.quantile(inputs.arrays["margin"], 0.1))
        values["log_spectral_margin"] = values["log_spectral"] - 2 * math.log(tenth) if tenth > 0 else math.nan
        return [Score(output.name, values[output.name], direction=output.direction) for output in OUTPUTS]


def norms_of_weights(module: nn.Module, x: Tensor) -> dict[str, float]:
    """The norms of a module's weights.

    The path norm is the sum of the logits of the network with squared weights on an image of ones (Neyshabur et al.
    2015, arXiv:1503.00036); it holds for networks of linear and positively homogeneous layers, and is undefined (NaN)
    where the squared network gives no positive number.

    Args:
        module: With parameters.
        x: One image, for its shape.

    Raises:
        UnsupportedModelError: If it has no weights.
    """
    twin = movable(module).double().eval()
    matrices = [p.detach().flatten(1) for p in twin.parameters() if p.ndim > 1]
    spectral = [float(torch.linalg.matrix_norm(m, ord=2)) for m in matrices]
    frobenius = [float(m.norm()) for m in matrices]
    if min(spectral) == 0:
        raise UnsupportedModelError("A layer's weights are all zero: the products of norms say nothing.")
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.square_()
        path = float(twin(torch.ones_like(x, dtype=torch.float64)).sum())
    return {
        "l2": math.sqrt(sum(norm**2 for norm in frobenius)),
        "log_spectral": sum(2 * math.log(norm) for norm in spectral),
        "log_frobenius": sum(2 * math.log(norm) for norm in frobenius),
        "log_path": math.log(path) if 0 < path < math.inf else math.nan,
    }


MEASURE = WeightNorms()
