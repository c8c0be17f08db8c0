"""Robust at one perturbation budget: from what is known already, then by the engine's families aimed at that budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmark.attacks.engine.point import NORMS, attack_within
from benchmark.attacks.outward import pushed_outward
from benchmark.curve import proportion_interval
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.autoattack import inner_eps
from benchmark.results import Flag, Output, Score, Work
from benchmark.threat import Norm, get_norm
from benchmark.threat.budget import within
from benchmark.verification import verify

if TYPE_CHECKING:
    from benchmark.data import Dataset


@dataclass(frozen=True)
class VerdictParameters:
    """Parameters of the verdict.

    Attributes:
        norm: The norm of the threat model.
        eps: The perturbation budget; one that no two images are apart asks no more than the largest distance there is.
        samples: At most so many samples are judged.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    samples: int = 10_000

    def __post_init__(self) -> None:
        get_norm(self.norm)
        if self.norm not in NORMS:
            raise InputError(f"A verdict's norm is one of {', '.join(NORMS)}, got {self.norm!r}.")
        if not _is(Real, self.eps) or not 0 < self.eps < math.inf:
            raise InputError(f"A verdict needs a finite number eps > 0, got {self.eps!r}.")
        if not _is(Integral, self.samples) or self.samples < 1:
            raise InputError(f"A verdict needs a whole number of samples, at least 1, got {self.samples!r}.")


def _is(kind: type[Real] | type[Integral], value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


class Verdict(Measure[VerdictParameters]):
    """Robust accuracy at one budget."""

    name = "verdict"
    version = 6
    title = "Verdict: robust accuracy at one perturbation budget"
    paper = "this project"
    chunk = 250
    at_most = "samples"
    abstaining = True
    Parameters = VerdictParameters

    def needs(self, parameters: VerdictParameters) -> Needs:
        """Gradients, images to start from, and what is known already: such samples are not attacked again."""
        return Needs(gradients=True, pool=True, ledger=True)

    def outputs(self, parameters: VerdictParameters, dataset: Dataset) -> Sequence[Output]:
        """Robust accuracy and each sample's verdict; examples that were found on the way join the ledger."""
        norm, eps = parameters.norm, parameters.eps
        array = f"distance_{norm}"
        return (
            Output(
                "robust_accuracy",
                "scalar",
                "Robust by verdict",
                f"Share of images for which nobody has found an adversarial example within {eps:.4g}, all attacks on "
                "this board and this one included.",
                unit="share",
                direction="higher",
                threat=norm,
                eps=eps,
                ledger=True,
            ),
            Output(
                "known",
                "scalar",
                "Known before",
                "Share of images that were broken within the budget before this measure began.",
                unit="share",
                threat=norm,
                eps=eps,
            ),
            Output(
                "robust",
                "verdict",
                "Robust",
                "Whether nothing was found.",
                threat=norm,
                eps=eps,
                array="robust",
                ledger=True,
            ),
            Output(
                "distance",
                "upper",
                "Distance",
                "Distance of the example found here; it is searched within the budget, not for the nearest.",
                unit="distance",
                direction="higher",
                threat=norm,
                array=array,
            ),
        )

    def work(self, parameters: VerdictParameters, dataset: Dataset) -> Work | None:
        """As counted where most samples are robust; less of those that the ledger has broken."""
        if parameters.norm == "linf":
            return Work(forward=1020, backward=230, steps=2420, operations=56)
        if parameters.norm in ("l2", "l1"):
            return Work(forward=430, backward=215, steps=420, operations=105)
        return None

    def run(self, task: Task, parameters: VerdictParameters) -> Result:
        """Attack the samples of the chunk that the ledger does not decide.

        Returns:
            Arrays ``robust`` and ``known`` (broken in the ledger before), both bool, and ``origin`` (bytes: the stage
            that broke the sample, empty where none did).
        """
        norm, eps = parameters.norm, parameters.eps
        ledger = task.distances.get(norm)
        known = np.zeros(len(task.x), dtype=bool) if ledger is None else np.asarray(within(ledger, eps))
        open_ = torch.from_numpy(np.flatnonzero(~known)).to(task.x.device)
        candidates = task.x.clone()
        origin = np.zeros(len(task.x), dtype="S16")
        flags: tuple[Flag, ...] = ()
        if len(open_):
            inner = inner_eps(eps, norm, task.x[0].numel())
            x, y = task.x[open_], task.y[open_]
            found = attack_within(task.model, x, y, norm=norm, eps=inner, seed=task.seed, pool=task.pool)
            candidates[open_] = pushed_outward(task.model, x, y, found.adversarials, fallback=found.fallback)
            origin[~known], flags = found.origin, found.flags
        believed = verify(task.model, task.x, task.y, candidates)
        robust = ~known & ~within(believed.distances[norm].numpy(), eps)
        origin[robust] = b""
        return Result({"robust": robust, "known": known, "origin": origin}, candidates, flags)

    def summarise(self, inputs: Inputs, parameters: VerdictParameters) -> list[Score]:
        """Robust accuracy with its Clopper–Pearson interval, and the share that was known before."""
        robust, known = inputs.arrays["robust"], inputs.arrays["known"]
        low, high = proportion_interval(robust.sum(), len(robust), confidence=0.95)
        return [
            Score(
                "robust_accuracy", float(robust.mean()), float(low), float(high), 0.95, unit="share", direction="higher"
            ),
            Score("known", float(known.mean()), unit="share"),
        ]


MEASURE = Verdict()
