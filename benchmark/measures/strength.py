"""Robust accuracy at one ε against the attacker's work: gradient steps, and queries without one, from one run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from benchmark import flags
from benchmark.attacks.engine.gradient_free import patches
from benchmark.attacks.engine.oracle import Oracle, find_batch_size, frozen
from benchmark.attacks.engine.rows import Rows
from benchmark.attacks.engine.shrinking import sparse_ascent
from benchmark.curve import proportion_interval
from benchmark.errors import InputError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.autoattack import inner_eps
from benchmark.results import Flag, GridAxis, Output, Score, Summary, Table
from benchmark.threat import Norm, get_norm, project_ball_
from benchmark.verification import needed_lead, verify

if TYPE_CHECKING:
    from benchmark.data import Dataset

_NORMS: Final = ("linf", "l2", "l1")
_STILL: Final = 0.01
"""Share of the samples broken in the second half of a budget from which on it was too small."""

_SPARSITY: Final = 0.02
_PATCH: Final = (0.5, 0.01)
"""Share of the image that Square's patches cover, at the first and the last query (a geometric schedule)."""


@dataclass(frozen=True)
class StrengthParameters:
    """Parameters of the strength curves.

    Attributes:
        norm: The norm of the ball.
        eps: Its radius.
        iterations: Gradient steps.
        step: Length of a step, as a share of ``eps``.
        queries: Images that the model is shown a sample by a search without gradients (``linf`` alone); 0 for none.
        samples: At most so many samples are attacked.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    iterations: int = 100
    step: float = 0.1
    queries: int = 1000
    samples: int = 1000

    def __post_init__(self) -> None:
        get_norm(self.norm)
        if self.norm not in _NORMS:
            raise InputError(f"Strength is measured in {', '.join(_NORMS)}, got {self.norm!r}.")
        if not 0 < self.eps < math.inf:
            raise InputError(f"Strength needs a finite eps > 0, got {self.eps!r}.")
        if not 0 < self.step <= 2:
            raise InputError(f"The step is a share of eps above 0 and at most 2, got {self.step!r}.")
        if self.iterations < 1:
            raise InputError(f"Strength needs at least 1 iteration, got {self.iterations!r}.")
        if self.queries < 0 or self.samples < 1:
            raise InputError(
                f"Strength needs queries >= 0 and at least 1 sample, got {self.queries!r} and {self.samples!r}."
            )

    @property
    def axes(self) -> dict[str, tuple[int, ...]]:
        """The positions of each trace."""
        found = {"iterations": positions(self.iterations)}
        if self.norm == "linf" and self.queries:
            found["queries"] = positions(self.queries)
        return found


def positions(budget: int) -> tuple[int, ...]:
    """0, then 1, 2, 5, 10 … up to the budget, which is the last."""
    series = itertools.chain.from_iterable((10**k, 2 * 10**k, 5 * 10**k) for k in itertools.count())
    return (0, *itertools.takewhile(lambda position: position < budget, series), budget)


class Strength(Measure[StrengthParameters]):
    """Robust accuracy against work."""

    name = "strength"
    version = 1
    title = "Strength curves: robust accuracy at one ε against iterations and queries"
    paper = "curves as in Dong et al. 2020, arXiv:1912.11852"
    at_most = "samples"
    abstaining = True
    Parameters = StrengthParameters

    def needs(self, parameters: StrengthParameters) -> Needs:
        """Gradients."""
        return Needs(gradients=True)

    def outputs(self, parameters: StrengthParameters, dataset: Dataset) -> Sequence[Output]:
        """A trace for each kind of work, what it comes to, and how much came late."""
        found = []
        for name, places in parameters.axes.items():
            how = "PGD steps" if name == "iterations" else "queries of a random search"
            axis = GridAxis(name, tuple(map(str, places)), "steps" if name == "iterations" else "queries a sample")
            text = f"Share of images not broken within {parameters.eps:.4g} after so many {how}."
            late = (
                "Share of images broken in the second half of the budget: where it is not small, the curve was still "
                "falling at its end."
            )
            share = partial(Output, unit="share", threat=parameters.norm, eps=parameters.eps)
            title = f"Robust accuracy against {name}"
            found += [
                share(name, "trace", title, text, direction="higher", axes=(axis,)),
                share(f"robust_after_{name}", "scalar", f"Robust after all {name}", text, direction="higher"),
                share(f"late_{name}", "scalar", f"Broken late ({name})", late),
            ]
        return found

    def run(self, task: Task, parameters: StrengthParameters) -> Result:
        """Attack one chunk once a kind of work.

        Returns:
            Arrays ``iterations`` and ``queries``, float64: the work after which each sample was broken, 0 where it is
            misclassified, ``inf`` where it never was.
        """
        x, y = task.x, task.y
        arrays: dict[str, NDArray[np.float64]] = {}
        raised: list[Flag] = []
        chosen = x.clone()
        with frozen(task.model) as classifier:
            noise = needed_lead(classifier, x, y)
            oracle = Oracle(classifier, batch_size=find_batch_size(classifier, x), noise=noise)
            for name in parameters.axes:
                work, found = (_steps if name == "iterations" else _queries)(oracle, x, y, parameters, task.seed)
                arrays[name] = _believed(task, work, found)
                broken = torch.from_numpy(np.isfinite(arrays[name]) & (arrays[name] > 0)).to(x.device)
                chosen[broken] = found[broken]
                late = _late(arrays[name], parameters.axes[name][-1])
                if late > _STILL:
                    raised.append(
                        Flag(
                            flags.STILL_FALLING,
                            f"{late:.1%} of the samples were broken in the second half of the {name}: the curve was "
                            "still falling at the end of its budget.",
                            late,
                        )
                    )
        return Result(arrays, chosen, raised)

    def summarise(self, inputs: Inputs, parameters: StrengthParameters) -> Summary:
        """The traces with Clopper–Pearson intervals."""
        scores: list[Score] = []
        tables: dict[str, Table] = {}
        for name, places in parameters.axes.items():
            work = np.asarray(inputs.arrays[name])
            robust = np.array([(work > place).sum() for place in places])
            low, high = proportion_interval(robust, len(work), confidence=0.95)
            tables[name] = Table(robust / len(work), np.asarray(low), np.asarray(high), 0.95)
            value, lower, upper = (float(part[-1]) for part in (robust / len(work), np.asarray(low), np.asarray(high)))
            scores += [
                Score(f"robust_after_{name}", value, lower, upper, 0.95, unit="share", direction="higher"),
                Score(f"late_{name}", _late(work, places[-1]), unit="share"),
            ]
        return Summary(scores, tables)


def _late(work: NDArray[np.float64], budget: int) -> float:
    """Share of the samples broken in the second half of the budget."""
    return float((np.isfinite(work) & (work > budget / 2)).mean())


def _believed(task: Task, work: Tensor, found: Tensor) -> NDArray[np.float64]:
    """The work, ``inf`` where verification does not believe the example."""
    checked = verify(task.model, task.x, task.y, found)
    values = np.where(checked.holds.numpy(), work.double().cpu().numpy(), np.inf)
    values[~checked.correct.numpy()] = 0.0
    return values


def _steps(oracle: Oracle, x: Tensor, y: Tensor, parameters: StrengthParameters, seed: int) -> tuple[Tensor, Tensor]:
    """Projected gradient on the margin with steps of one length from the clean image; the step that breaks, and how."""
    norm = parameters.norm
    eps = inner_eps(parameters.eps, norm, x[0].numel())
    work, found = _start(oracle, x, y)
    rows = Rows(torch.isinf(work).nonzero().squeeze(1), x, y)
    for k in range(1, parameters.iterations + 1):
        if not len(rows.sample):
            break
        _, gradient = oracle.gradients(rows.images(), rows.y)
        if norm == "l1":
            direction = sparse_ascent(rows, gradient, max(1, int(_SPARSITY * gradient.shape[1])))
        else:
            direction = gradient.sign() if norm == "linf" else normalize(gradient, eps=1e-30)
        rows.delta.add_(direction, alpha=parameters.step * parameters.eps)
        project_ball_(rows.delta, norm, torch.full((len(rows.delta),), eps, device=x.device))
        images = rows.images()
        broken = oracle.margins(images, rows.y) > 0
        work[rows.sample[broken]] = k
        found[rows.sample[broken]] = images[broken]
        rows = _left(rows, x, y, ~broken)
    return work, found


def _queries(oracle: Oracle, x: Tensor, y: Tensor, parameters: StrengthParameters, seed: int) -> tuple[Tensor, Tensor]:
    """Square's search of the corners of the ball (linf): random patches of one sign a channel that raise the margin."""
    generator = torch.Generator(x.device).manual_seed(seed)
    eps = inner_eps(parameters.eps, "linf", x[0].numel())
    work, found = _start(oracle, x, y)
    rows = Rows(torch.isinf(work).nonzero().squeeze(1), x, y)
    width = x.shape[-1]
    score = torch.full((len(rows.sample),), -torch.inf, device=x.device)
    for k in range(1, parameters.queries + 1):
        if not len(rows.sample):
            break
        current, m = rows.delta.clone(), len(rows.sample)
        if k == 1:  # stripes, as in Square
            columns = torch.randint(0, 2, (m, x.shape[1], 1, width), generator=generator, device=x.device)
            rows.delta = ((columns * 2.0 - 1) * eps).expand(-1, -1, x.shape[2], -1).reshape(m, -1)
        else:
            share = _PATCH[0] * (_PATCH[1] / _PATCH[0]) ** (k / parameters.queries)
            sign = torch.randint(0, 2, (m, x.shape[1], 1), generator=generator, device=x.device) * 2.0 - 1
            signs = sign.expand(-1, -1, x[0, 0].numel()).reshape(m, -1)
            rows.delta = torch.where(patches(rows, share, generator), signs * eps, current)
        tried = rows.delta.clone()
        images = rows.images()
        margin = oracle.margins(images, rows.y)
        better = margin > score
        score = torch.where(better, margin, score)
        rows.delta = torch.where(better[:, None], tried, current)
        broken = margin > 0
        work[rows.sample[broken]] = k
        found[rows.sample[broken]] = images[broken]
        rows, score = _left(rows, x, y, ~broken), score[~broken]
    return work, found


def _start(oracle: Oracle, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Work so far, 0 where the clean image is at the goal, else ``inf``; and the examples, clean as yet."""
    at_goal = oracle.margins(x, y) > 0
    return torch.where(at_goal, 0.0, torch.inf), x.clone()


def _left(rows: Rows, x: Tensor, y: Tensor, these: Tensor) -> Rows:
    kept = Rows(rows.sample[these], x, y)
    kept.delta = rows.delta[these]
    return kept


MEASURE = Strength()
