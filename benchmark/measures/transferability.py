"""Transfer: examples made on named source models, tried on this one; source × method, as success rates at one ε."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from benchmark.attacks.momentum import METHODS, momentum_attack
from benchmark.curve import proportion_interval
from benchmark.errors import InputError, UnknownNameError
from benchmark.measures import Inputs, Measure, Method, Needs, Result, Task
from benchmark.measures.autoattack import inner_eps
from benchmark.measures.means import proportions
from benchmark.results import GridAxis, Output, Score, Summary
from benchmark.threat.ascent import DenseNorm
from benchmark.threat.budget import within
from benchmark.verification import verify

if TYPE_CHECKING:
    from benchmark.data import Dataset

TOGETHER: Final = "the others together"
"""The last source: all named ones but the target itself, their logits averaged."""


@dataclass(frozen=True)
class TransferabilityParameters:
    """Parameters of the transfer attacks.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: The perturbation budget.
        sources: Slugs of the models that examples are made on; a protocol says ``"*"`` for the package's own.
        methods: Of `benchmark.attacks.momentum.METHODS`.
        steps: Gradient steps on the source, of eps / steps each.
        samples: At most so many samples are attacked.
    """

    norm: DenseNorm = "linf"
    eps: float = 8 / 255
    sources: tuple[str, ...] = ()
    methods: tuple[str, ...] = tuple(METHODS)
    steps: int = 10
    samples: int = 500

    def __post_init__(self) -> None:
        for name in ("sources", "methods"):  # JSON and TOML give lists
            given = getattr(self, name)
            if isinstance(given, str):
                raise InputError(
                    f'{name} is a list of names, got {given!r}; in a protocol write {name} = [["{given}"]].'
                )
            object.__setattr__(self, name, tuple(given))
            if len(set(given)) < len(given):
                raise InputError(f"{name} says a name twice: {', '.join(given)}.")
        for method in self.methods:
            if method not in METHODS:
                raise UnknownNameError("transfer method", method, METHODS)
        if self.norm not in ("linf", "l2"):
            raise InputError(f"Examples are transferred in linf or l2, got {self.norm!r}.")
        if not 0 < self.eps < math.inf:
            raise InputError(f"Transfer needs a finite eps > 0, got {self.eps!r}.")
        if not self.methods or self.steps < 1 or self.samples < 1:
            raise InputError(
                "Transfer needs at least 1 method, 1 step and 1 sample, got "
                f"{len(self.methods)}, {self.steps!r} and {self.samples!r}."
            )

    @property
    def rows(self) -> tuple[str, ...]:
        """The sources as they are listed: of several also all together."""
        return self.sources if len(self.sources) < 2 else (*self.sources, TOGETHER)


class Transferability(Measure[TransferabilityParameters]):
    """How often other models' adversarial examples fool this one."""

    name = "transferability"
    version = 1
    title = "Transfer: adversarial examples made on other models, tried on this one"
    paper = "Dong et al. 2018, arXiv:1710.06081; Xie et al. 2019; Dong et al. 2019; Lin et al. 2020"
    at_most = "samples"
    abstaining = True
    Parameters = TransferabilityParameters

    def needs(self, parameters: TransferabilityParameters) -> Needs:
        """The sources."""
        return Needs(sources=parameters.sources)

    def method(self, parameters: TransferabilityParameters) -> Method:
        """Credited as transfer."""
        return Method(self.title, self.paper, contributor="transfer", change="transfer-lowered")

    def outputs(self, parameters: TransferabilityParameters, dataset: Dataset) -> Sequence[Output]:
        """Accuracy and success by source and method, and against all of them at once."""
        axes = (GridAxis("source", parameters.rows), GridAxis("method", parameters.methods))
        norm, eps = parameters.norm, parameters.eps
        own = "A model’s own row, if it has one, is a white-box attack."
        return (
            Output(
                "accuracy",
                "grid",
                "Accuracy under transfer",
                f"Share of images classified correctly in spite of a source’s examples within {eps:.4g}. {own}",
                unit="share",
                direction="higher",
                threat=norm,
                eps=eps,
                array="right",
                axes=axes,
            ),
            Output(
                "success",
                "grid",
                "Transfer success",
                f"Share of the correctly classified images that the source’s examples within {eps:.4g} break. {own}",
                unit="share",
                threat=norm,
                eps=eps,
                axes=axes,
            ),
            Output(
                "robust_accuracy",
                "scalar",
                "Robust to transfer",
                f"Share of images classified correctly in spite of all other models’ examples within {eps:.4g}.",
                unit="share",
                direction="higher",
                threat=norm,
                eps=eps,
            ),
            Output(
                "strongest",
                "scalar",
                "Strongest transfer",
                "Largest success of another source and method on the correctly classified images.",
                unit="share",
                direction="lower",
                threat=norm,
                eps=eps,
            ),
        )

    def run(self, task: Task, parameters: TransferabilityParameters) -> Result:
        """Attack one chunk by every source and method.

        Returns:
            Arrays ``right``, bool, shape (n, sources, methods): classified correctly in spite of the example;
            ``correct``, bool: without one; ``own``, bool, shape (n, sources): whether the source is the model itself,
            the same for each sample.
        """
        if not parameters.sources:
            raise InputError('Transfer needs sources: name models, or have the protocol say sources = "*".')
        eps = inner_eps(parameters.eps, parameters.norm, task.x[0].numel())
        lots = _lots(parameters.sources, task.itself)
        shape = (len(task.x), len(parameters.rows), len(parameters.methods))
        right = np.ones(shape, dtype=np.bool_)
        best = task.x.clone()
        nearest = torch.full((len(task.x),), torch.inf, dtype=torch.float64, device="cpu")
        correct = np.ones(len(task.x), dtype=np.bool_)
        for i, names in enumerate(lots.values()):
            for j, name in enumerate(parameters.methods):
                candidates = momentum_attack(
                    [task.sources[source] for source in names],
                    task.x,
                    task.y,
                    norm=parameters.norm,
                    eps=eps,
                    steps=parameters.steps,
                    how=METHODS[name],
                    seed=task.seed,
                )
                found = verify(task.model, task.x, task.y, candidates)
                reached = found.distances[parameters.norm]
                correct = found.correct.numpy()
                right[:, i, j] = ~within(reached.numpy(), parameters.eps)
                nearer = found.holds & (reached < nearest)
                best[nearer.to(best.device)] = candidates[nearer.to(best.device)]
                nearest = torch.where(nearer, reached, nearest)
        itself = [all(name in task.itself for name in names) for names in lots.values()]
        own = np.tile(np.array(itself), (len(task.x), 1))
        return Result({"right": right, "correct": correct, "own": own}, best)

    def summarise(self, inputs: Inputs, parameters: TransferabilityParameters) -> Summary:
        """The grids with Clopper–Pearson intervals; the scalars leave the model itself out."""
        right, correct = (np.asarray(inputs.arrays[name]) for name in ("right", "correct"))
        tables = {
            "accuracy": proportions(right),
            "success": proportions(~right[correct]),
        }
        others = ~np.asarray(inputs.arrays["own"])[0]
        if not others.any():
            return Summary((), tables)
        robust = np.asarray(right[:, others].all(axis=(1, 2)))
        low, high = proportion_interval(robust.sum(), len(robust), confidence=0.95)
        scores = [Score("robust_accuracy", float(robust.mean()), float(low), float(high), 0.95, "share", "higher")]
        if correct.any():
            success = tables["success"]
            assert success.low is not None
            assert success.high is not None
            rows = np.flatnonzero(others)
            i, j = np.unravel_index(int(success.values[rows].argmax()), (len(rows), len(parameters.methods)))
            value, least, most = (float(part[rows[i], j]) for part in (success.values, success.low, success.high))
            scores.append(Score("strongest", value, least, most, 0.95, "share", "lower"))
        return Summary(scores, tables)


def _lots(sources: Sequence[str], itself: Collection[str]) -> dict[str, Sequence[str]]:
    """The models of each row; of all together those that are not the target itself, if there are others."""
    lots: dict[str, Sequence[str]] = {name: (name,) for name in sources}
    if len(sources) > 1:
        lots[TOGETHER] = [name for name in sources if name not in itself] or sources
    return lots


MEASURE = Transferability()
