"""Robust accuracy at one ε against the attacker's work, for every attack of a norm, from one run of each."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark import flags
from benchmark.attacks import EFFORTS, Attack, Effort, attacks, get_attack, run_attack
from benchmark.attacks.engine.oracle import frozen
from benchmark.attacks.engine.reliability import oracle_of
from benchmark.attacks.fixed_budget import gradient_steps, random_corners
from benchmark.attacks.watched import EnoughError, WatchedModel
from benchmark.errors import InputError, UnknownNameError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.measures.autoattack import inner_eps
from benchmark.measures.means import proportions
from benchmark.results import Flag, GridAxis, Output, Score, Summary, Table, Work
from benchmark.threat import Norm, get_norm
from benchmark.threat.budget import within
from benchmark.threat.goals import UNTARGETED
from benchmark.verification import verify

if TYPE_CHECKING:
    from benchmark.data import Dataset

WorkKind = Literal["iterations", "queries"]

PGD: Final = "pgd"
RANDOM: Final = "random-search"
_OWN: Final[dict[str, tuple[Norm, ...]]] = {PGD: ("linf", "l2", "l1"), RANDOM: ("linf",)}
"""The searches inside the ball, and their norms; all others look for the nearest example, and do not know ε."""

TOGETHER: Final = "worst case"
"""The last row: a sample is broken as soon as any attack has broken it."""

_STILL: Final = 0.01
"""Share of the samples broken in the second half of a budget from which on it was too small."""

_UNITS: Final[dict[WorkKind, str]] = {"iterations": "images shown a sample", "queries": "a sample"}


def iterative_attacks(norm: Norm) -> tuple[str, ...]:
    """What ``attacks = "*"`` stands for in a protocol: the searches inside the ball, and all that are registered."""
    own = [name for name, norms in _OWN.items() if norm in norms]
    return (*own, *(name for name, attack in attacks().items() if _fits(attack, norm)))


def _fits(attack: Attack, norm: Norm) -> bool:
    return norm in attack.norms and UNTARGETED in attack.goals and attack.access != "transfer"


@dataclass(frozen=True)
class StrengthParameters:
    """Parameters of the strength curves.

    Attributes:
        norm: The norm of the ball.
        eps: Its radius.
        attacks: ``pgd`` (gradient steps inside the ball), ``random-search`` (Square's, inside the ball, linf alone),
            and registered attacks; by default the first two as far as the norm has them. A protocol says ``"*"`` for
            all.
        iterations: Images that the model is shown, a sample on average, by each attack with gradients, each with its
            gradient or without; of ``pgd`` its steps.
        step: Length of a step of ``pgd``, as a share of ``eps``.
        queries: Images that the model is shown, a sample on average, by each attack without gradients; 0 for none of
            these.
        effort: Of the attacks with gradients: how they plan their work; the budget ends it.
        samples: At most so many samples are attacked.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    attacks: tuple[str, ...] = ()
    iterations: int = 100
    step: float = 0.1
    queries: int = 1000
    effort: Effort = "standard"
    samples: int = 1000

    def __post_init__(self) -> None:
        get_norm(self.norm)
        if not 0 < self.eps < math.inf:
            raise InputError(f"Strength needs a finite eps > 0, got {self.eps!r}.")
        if not 0 < self.step <= 2:
            raise InputError(f"The step is a share of eps above 0 and at most 2, got {self.step!r}.")
        if self.effort not in EFFORTS:
            raise InputError(f"An attack's effort is one of {', '.join(EFFORTS)}, got {self.effort!r}.")
        if self.iterations < 1 or self.queries < 0 or self.samples < 1:
            raise InputError(
                "Strength needs at least 1 iteration and 1 sample, and queries >= 0, got "
                f"{self.iterations!r}, {self.samples!r} and {self.queries!r}."
            )
        if isinstance(self.attacks, str):
            raise InputError(
                f'attacks is a list of names, got {self.attacks!r}; in a protocol write attacks = [["{self.attacks}"]].'
            )
        object.__setattr__(self, "attacks", tuple(self.attacks))  # JSON and TOML give lists
        if len(set(self.attacks)) < len(self.attacks):
            raise InputError(f"attacks says a name twice: {', '.join(self.attacks)}.")
        for name in self.attacks:
            self._check(name)
            if not self.queries and kind_of(name) == "queries":
                raise InputError(f"{name} sees no gradients, and can do nothing with queries = 0; leave it out.")
        if not self.chosen:
            raise InputError(f"Which attacks? {PGD} and {RANDOM} have no {self.norm}; known: {', '.join(attacks())}.")

    def _check(self, name: str) -> None:
        if name in _OWN:
            if self.norm not in _OWN[name]:
                raise InputError(f"{name} searches in {', '.join(_OWN[name])}, not in {self.norm!r}.")
            return
        if name not in attacks():
            raise UnknownNameError("attack", name, [*_OWN, *attacks()])
        attack = get_attack(name)
        attack.check(self.norm, UNTARGETED)
        if attack.access == "transfer":
            raise InputError(f"{name!r} is not shown the model: its strength is no matter of work on it.")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The attacks."""
        own = (name for name, norms in _OWN.items() if self.norm in norms and (name == PGD or self.queries))
        return self.attacks or tuple(own)

    def by_kind(self) -> Iterator[tuple[WorkKind, tuple[str, ...], tuple[int, ...]]]:
        """Each kind of work that any of them does, with these and the positions along it."""
        budgets: dict[WorkKind, int] = {"iterations": self.iterations, "queries": self.queries}
        for kind, budget in budgets.items():
            own = tuple(name for name in self.chosen if kind_of(name) == kind)
            if own:
                yield kind, own, positions(budget)


def kind_of(name: str) -> WorkKind:
    """What an attack's work is counted in."""
    gradients = name == PGD if name in _OWN else get_attack(name).access == "gradients"
    return "iterations" if gradients else "queries"


def positions(budget: int) -> tuple[int, ...]:
    """0, then 1, 2, 5, 10 … up to the budget, which is the last."""
    series = itertools.chain.from_iterable((10**k, 2 * 10**k, 5 * 10**k) for k in itertools.count())
    return (0, *itertools.takewhile(lambda position: position < budget, series), budget)


class Strength(Measure[StrengthParameters]):
    """Robust accuracy against work."""

    name = "strength"
    version = 2
    title = "Strength curves: robust accuracy at one ε against iterations and queries, attack by attack"
    paper = "curves as in Dong et al. 2020, arXiv:1912.11852"
    at_most = "samples"
    abstaining = True
    Parameters = StrengthParameters

    def needs(self, parameters: StrengthParameters) -> Needs:
        """Images to start from, and gradients if an attack is given them."""
        return Needs(gradients=any(kind == "iterations" for kind, _, _ in parameters.by_kind()), pool=True)

    def attack_version(self, parameters: StrengthParameters) -> int:
        """The sum of the attacks' versions: it rises with each of them."""
        return sum(get_attack(name).version_in(parameters.norm) for name in parameters.chosen if name not in _OWN)

    def outputs(self, parameters: StrengthParameters, dataset: Dataset) -> Sequence[Output]:
        """A trace of each kind of work, attack by attack as a grid, what it comes to, and how much came late."""
        found = []
        within_eps = f"within {parameters.eps:.4g}"
        share = partial(Output, unit="share", threat=parameters.norm, eps=parameters.eps)
        for kind, own, places in parameters.by_kind():
            axis = GridAxis(kind, tuple(map(str, places)), _UNITS[kind])
            attack = GridAxis("attack", _rows(own), apart=(TOGETHER,) if len(own) > 1 else ())
            text = f"Share of images that no attack has broken {within_eps} after so many {kind} of each."
            each = f"Share of images that an attack has not broken {within_eps} after so many {kind}."
            late = (
                "Share of images first broken in the second half of the budget: where it is not small, the curve was "
                "still falling at its end."
            )
            title = f"Robust accuracy against {kind}"
            found += [
                share(kind, "trace", title, text, direction="higher", axes=(axis,)),
                share(
                    f"by_{kind}",
                    "grid",
                    f"Strength of attacks by {kind}",
                    each,
                    direction="higher",
                    array=f"robust_{kind}",
                    axes=(attack, axis),
                ),
                share(f"robust_after_{kind}", "scalar", f"Robust after all {kind}", text, direction="higher"),
                share(f"late_{kind}", "scalar", f"Broken late ({kind})", late),
            ]
        return found

    def work(self, parameters: StrengthParameters, dataset: Dataset) -> Work:
        """The whole budget of each attack: as much as is spent on a sample that none of them breaks."""
        kinds = [kind_of(name) for name in parameters.chosen]
        backward = parameters.iterations * kinds.count("iterations")
        forward = backward + parameters.queries * kinds.count("queries")
        return Work(forward=forward, backward=backward, steps=forward, operations=60)

    def run(self, task: Task, parameters: StrengthParameters) -> Result:
        """Run each attack once on the samples of a chunk that are classified correctly.

        Returns:
            Arrays ``iterations`` and ``queries``, float64: the least work of any attack after which each sample was
            broken, 0 where it is misclassified, ``inf`` where it never was; ``robust_iterations`` and
            ``robust_queries``, bool, shape (n, attacks and the worst case, positions).
        """
        arrays: dict[str, NDArray[Any]] = {}
        late: dict[str, float] = {}
        raised: list[Flag] = []
        best = _Nearest(task, parameters.norm)
        for kind, own, places in parameters.by_kind():
            columns = []
            for name in own:
                work = np.zeros(len(task.x))
                if len(best.rows):
                    work[best.rows], noticed = _attacked(name, best, task, parameters)
                    raised += noticed
                late[name] = _late(work, places[-1])
                columns.append(work)
            each = np.stack(columns, axis=1)
            arrays[kind] = each.min(axis=1)
            whole = each if len(own) == 1 else np.column_stack([each, arrays[kind]])
            arrays[f"robust_{kind}"] = whole[:, :, None] > np.array(places)
        falling = {name: value for name, value in late.items() if value > _STILL}
        if falling:
            told = ", ".join(f"{name} ({value:.1%})" for name, value in falling.items())
            message = (
                f"Samples were broken in the second half of the budget by {told}: their curves were still falling at "
                "its end."
            )
            raised.append(Flag(flags.STILL_FALLING, message, max(falling.values())))
        return Result(arrays, best.examples, raised)

    def summarise(self, inputs: Inputs, parameters: StrengthParameters) -> Summary:
        """The traces and grids with Clopper–Pearson intervals."""
        scores: list[Score] = []
        tables: dict[str, Table] = {}
        for kind, _, places in parameters.by_kind():
            work, robust = np.asarray(inputs.arrays[kind]), np.asarray(inputs.arrays[f"robust_{kind}"])
            tables[f"by_{kind}"] = proportions(robust)
            trace = tables[kind] = proportions(work[:, None] > np.array(places))
            assert trace.low is not None
            assert trace.high is not None
            value, low, high = (float(part[-1]) for part in (trace.values, trace.low, trace.high))
            scores += [
                Score(f"robust_after_{kind}", value, low, high, 0.95, unit="share", direction="higher"),
                Score(f"late_{kind}", _late(work, places[-1]), unit="share"),
            ]
        return Summary(scores, tables)


def _rows(own: Sequence[str]) -> tuple[str, ...]:
    """Labels of the grid's first axis: the attacks, and of several the worst case."""
    return (*own, TOGETHER) if len(own) > 1 else tuple(own)


def _late(work: NDArray[np.float64], budget: int) -> float:
    """Share of the samples broken in the second half of the budget."""
    return float((np.isfinite(work) & (work > budget / 2)).mean())


class _Nearest:
    """The samples to attack, and the nearest example of each so far.

    Attributes:
        rows: Indices of the samples that are classified correctly, int64.
        x: Their images, shape (m, c, h, w).
        y: Their labels, shape (m,).
        examples: Shape of the chunk's images.
    """

    def __init__(self, task: Task, norm: Norm) -> None:
        self._task, self._norm = task, norm
        self.examples = task.x.clone()
        self.rows = np.flatnonzero(verify(task.model, task.x, task.y, task.x).correct.numpy())
        self._rows = torch.from_numpy(self.rows).to(task.x.device)
        self.x, self.y = task.x[self._rows], task.y[self._rows]
        self._distance = np.full(len(self.rows), np.inf)

    def believed(self, work: Tensor, found: Tensor, eps: float) -> NDArray[np.float64]:
        """The work of each of ``rows``, ``inf`` where no example within ε holds; nearer ones are kept."""
        reached = verify(self._task.model, self.x, self.y, found).distances[self._norm].numpy()
        values = work.double().cpu().numpy()
        values[~within(reached, eps)] = np.inf
        nearer = np.flatnonzero(np.isfinite(values) & (reached < self._distance))
        self._distance[nearer] = reached[nearer]
        kept = torch.from_numpy(nearer).to(found.device)
        self.examples[self._rows[kept]] = found[kept]
        return values


def _attacked(
    name: str, best: _Nearest, task: Task, parameters: StrengthParameters
) -> tuple[NDArray[np.float64], Sequence[Flag]]:
    """The work after which an attack breaks each of the samples, and what it noticed."""
    if name in _OWN:
        work, found = _inside(name, best, task, parameters)
        return best.believed(work, found, parameters.eps), ()
    attack = get_attack(name)
    kind = kind_of(name)
    most = parameters.iterations if kind == "iterations" else parameters.queries
    watched = WatchedModel(
        task.model,
        best.x,
        best.y,
        norm=parameters.norm,
        eps=parameters.eps,
        most=most,
        after=kind == "iterations",
        pool=task.x if task.pool is None else task.pool,
    ).eval()
    noticed: Sequence[Flag] = ()
    with contextlib.suppress(EnoughError):
        noticed = run_attack(
            attack,
            watched,
            best.x,
            best.y,
            norm=parameters.norm,
            effort=parameters.effort,
            seed=task.seed,
            pool=task.pool,
            queries=most if attack.counts_queries else None,
        ).flags
    return best.believed(watched.seen.work, watched.seen.examples, parameters.eps), noticed


def _inside(name: str, best: _Nearest, task: Task, parameters: StrengthParameters) -> tuple[Tensor, Tensor]:
    norm, eps = parameters.norm, parameters.eps
    inner = inner_eps(eps, norm, task.x[0].numel())
    with frozen(task.model) as classifier:
        oracle = oracle_of(classifier, best.x, best.y)
        if name == PGD:
            step, steps = parameters.step * min(eps, get_norm(norm).diameter(task.x.shape[1:])), parameters.iterations
            return gradient_steps(oracle, best.x, best.y, norm=norm, eps=inner, step=step, steps=steps)
        generator = torch.Generator(best.x.device).manual_seed(task.seed)
        return random_corners(oracle, best.x, best.y, eps=inner, queries=parameters.queries, generator=generator)


MEASURE = Strength()
