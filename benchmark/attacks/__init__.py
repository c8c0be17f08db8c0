"""Minimum-norm attacks, one a file, and their registry.

To add an attack, add a file here (or an entry point of the group ``curveboard.attacks``) that holds a constant
``ATTACK = Attack(...)``. An attack is a pure function of tensors; nothing it returns is believed before
`benchmark.verification.verify` has re-checked it, so a row where it found nothing is simply a row that does not hold
(the clean image, for instance).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, Final, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from benchmark import flags
from benchmark.attacks.access import Access, limited
from benchmark.attacks.outward import pushed_outward
from benchmark.attacks.rounded import rounded
from benchmark.errors import AccessError, BenchmarkError, InputError
from benchmark.inputs import check_logits, logits_of
from benchmark.isolation import isolated
from benchmark.modes import eval_mode
from benchmark.plugins import discover, look_up
from benchmark.rejection import rejects
from benchmark.results import Flag, Work
from benchmark.threat import Norm, get_norm, norm_names
from benchmark.threat.goals import UNTARGETED, check_goal
from benchmark.verification import check_classes

Effort = Literal["quick", "standard", "thorough"]
"""How much an attack may spend."""

EFFORTS: Final[tuple[Effort, ...]] = ("quick", "standard", "thorough")


@dataclass(frozen=True)
class AttackResult:
    """What an attack claims.

    Attributes:
        adversarials: Candidate adversarial examples, shape (n, c, h, w), float32, on the model's device.
        flags: What the attack noticed about the model's reliability.
        origin: For each sample, the family within the attack that found its example; or empty.
        fallback: Farther candidates, shape of ``adversarials``, to go back to where nothing near the first holds.
    """

    adversarials: Tensor
    flags: tuple[Flag, ...] = ()
    origin: Sequence[str] = ()
    fallback: Tensor | None = None


class AttackFunction(Protocol):
    """An attack as a function."""

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, effort: Effort, seed: int, pool: Tensor | None
    ) -> AttackResult:
        """Look for the nearest adversarial example of each sample.

        An attack with targeted goals is also given ``targets``, int64, shape (n,), or None for the goal ``untargeted``.

        Args:
            model: Classifier in eval mode, images in [0, 1] -> logits (n, k); with the access ``decisions`` -> labels
                (n,), int64.
            x: Images, shape (n, c, h, w), float32; the attack's own copy.
            y: Labels, shape (n,), int64; the attack's own copy.
            norm: The norm whose distance is to be small.
            effort: How much to spend.
            seed: The same seed gives the same result on the same machine.
            pool: Images of the same dataset to start from, shape (m, c, h, w), or None for ``x`` itself.
        """


@dataclass(frozen=True)
class Attack:
    """A registered attack.

    Attributes:
        name: The name in protocols, on the command line and on the board.
        version: Raised whenever the results can change; part of the evaluation's key (see `version_in`).
        title: What it is, in one line.
        paper: Its source, for instance ``"Croce & Hein 2020, arXiv:1907.02044"``.
        run: The function.
        norms: The norms it attacks in; all that are registered if it does not say.
        goals: The goals it has; for others than ``untargeted`` its function takes ``targets``.
        access: What it may use of the model; `run_attack` gives it no more.
        work: What it computes of one sample in a norm at an effort, about, or None; for `evaluate --plan`.
        uncounted: Why ``work`` cannot say that, if it cannot.
        default: Whether protocols that ask for all attacks run it. An attack that is only there to compare says False.
        newer: Later versions in norms where alone it has changed since: the others' results stand.
    """

    name: str
    version: int
    title: str
    paper: str
    run: Callable[..., AttackResult]
    norms: tuple[Norm, ...] = field(default_factory=norm_names)
    goals: tuple[str, ...] = (UNTARGETED,)
    access: Access = "gradients"
    default: bool = True
    work: Callable[[Norm, Effort], Work | None] | None = None
    uncounted: str = ""
    newer: Mapping[Norm, int] = field(default_factory=dict)

    def version_in(self, norm: Norm) -> int:
        """The version of what it does in a norm."""
        return self.newer.get(norm, self.version)

    def stated_work(self, norm: Norm, effort: Effort) -> Work | None:
        """What ``work`` says; None if it is not there, or says nothing of this norm."""
        return None if self.work is None else self.work(norm, effort)

    @property
    def counts_queries(self) -> bool:
        """Whether its function can be told how many images the model may be shown."""
        return "queries" in inspect.signature(self.run).parameters

    def check(self, norm: Norm, goal: str = UNTARGETED) -> None:
        """Refuse a threat that this attack does not have.

        Raises:
            UnknownNameError: If there is no such norm.
            InputError: If the attack is not one in this norm, or not for this goal.
        """
        get_norm(norm)
        if norm not in self.norms:
            raise InputError(f"The attack {self.name!r} attacks in {', '.join(self.norms)}, not in {norm!r}.")
        if check_goal(goal) not in self.goals:
            raise InputError(f"The attack {self.name!r} has the goals {', '.join(self.goals)}, not {goal!r}.")

    def check_queries(self, queries: int | None) -> None:
        """Refuse a number of queries, unless it is None, where the attack counts none: `InputError`."""
        if queries is not None and not self.counts_queries:
            raise InputError(f"The attack {self.name!r} counts no queries; it spends what its effort says.")


def run_attack(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: Norm,
    goal: str = UNTARGETED,
    targets: Tensor | None = None,
    effort: Effort = "standard",
    seed: int = 0,
    pool: Tensor | None = None,
    queries: int | None = None,
) -> AttackResult:
    """Run an attack as it declares itself: on copies, with no more access than it states, in a threat that it has.

    Args:
        attack: The attack.
        model: Classifier of images in [0, 1]; its parameters, buffers and mode are as before afterwards.
        x: Images, shape (n, c, h, w), float32.
        y: Labels, shape (n,), int64.
        norm: The norm whose distance is to be small.
        goal: What counts as success.
        targets: The wanted class of each sample, shape (n,), int64, for a targeted goal.
        effort: How much to spend.
        seed: The same seed gives the same result on the same machine.
        pool: Images of the same dataset to start from, shape (m, c, h, w).
        queries: Images that the model may be shown for each sample, besides a few to start, for an attack that counts
            them; None leaves it to the effort.

    Returns:
        What the attack claims, examples on the boundary itself moved outward by as little as verification asks for
        (`benchmark.attacks.outward`), those of large images with fewer bits (`benchmark.attacks.rounded`), with a flag
        where it changed the model. Nothing of it is verified.

    Raises:
        UnknownNameError | InputError: If the attack has no such threat, is given no query at all, or returns something
            else than it must.
        AccessError: If it asks for more of the model than its access gives.
        UnsupportedModelError: If it failed since the model gives something else than logits, labels for instance.
    """
    attack.check(norm, goal)
    if effort not in EFFORTS:
        raise InputError(f"The effort {effort!r} is unknown; choose one of {', '.join(EFFORTS)}.")
    if (targets is None) != (goal == UNTARGETED):
        raise InputError(f"The goal {goal!r} {'needs' if targets is None else 'has no'} targets.")
    if pool is not None and not len(pool):
        pool = None
    attack.check_queries(queries)
    options: dict[str, Any] = {} if queries is None else {"queries": spent(queries, 0)}
    if not len(x):
        return AttackResult(x.clone())
    with _logits_or_else(model, x):
        if targets is not None:
            _check_targets(model, x, y, targets)
            options["targets"] = targets.clone()
        with isolated(model, x, y, pool) as own, limited(own.model, attack.access, attack.name) as classifier:
            result = attack.run(classifier, own.x, own.y, norm=norm, effort=effort, seed=seed, pool=own.pool, **options)
        if not isinstance(result, AttackResult) or not isinstance(result.adversarials, Tensor):
            got = type(result.adversarials if isinstance(result, AttackResult) else result).__name__
            raise BenchmarkError(f"The attack {attack.name!r} must return an AttackResult of a tensor, got {got}.")
        adversarials = pushed_outward(model, x, y, result.adversarials, targets=targets, fallback=result.fallback)
        adversarials = rounded(model, x, y, adversarials, norm=norm, targets=targets)
    result = replace(result, adversarials=adversarials, fallback=None)
    if own.changed:
        message = f"The attack {attack.name!r} changed what it was lent ({own.described()}); it was put back first."
        return replace(result, flags=(*result.flags, Flag(flags.MODEL_CHANGED, message)))
    return result


def spent(queries: int | None, usual: int) -> int:
    """How many queries an attack may make a sample: those asked for, or else the usual ones.

    Raises:
        InputError: If no whole number, or fewer than one, was asked for.
    """
    if queries is None:
        return usual
    if not isinstance(queries, Integral) or isinstance(queries, bool) or queries < 1:
        raise InputError(
            f"An attack that sees no gradients needs at least 1 query a sample, got {queries!r}; give a whole number."
        )
    return int(queries)


@contextmanager
def _logits_or_else(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Where something fails, look whether the model gives logits at all: if not, whoever asked is not to blame."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, BenchmarkError) or isinstance(error, AccessError):
            with (
                eval_mode(model),
                torch.no_grad(),
                contextlib.suppress(LookupError, RuntimeError, TypeError, AttributeError),
            ):
                check_logits(logits_of(model(x[:1])), len(x[:1]), reject=rejects(model))
        raise


def _check_targets(model: nn.Module, x: Tensor, y: Tensor, targets: Tensor) -> None:
    if not isinstance(targets, Tensor):
        raise InputError(f"Targets are a tensor of classes, int64; got {type(targets).__name__}.")
    if targets.shape != y.shape or targets.dtype != torch.int64:
        raise InputError(
            f"Targets have shape {tuple(targets.shape)} and type {targets.dtype}; needed: {tuple(y.shape)}, int64."
        )
    if len(x):
        with eval_mode(model), torch.no_grad():
            check_classes(y, targets, model(x[:1]).shape[1] - rejects(model))


def attacks() -> Mapping[str, Attack]:
    """All registered attacks by name."""
    return cast("Mapping[str, Attack]", discover(__name__, "ATTACK"))


def get_attack(name: str) -> Attack:
    """The attack called ``name``; raises `UnknownNameError` with the nearest names."""
    return cast("Attack", look_up("attack", name, attacks()))
