"""AutoAttack (Croce & Hein 2020, arXiv:2003.01690) at one perturbation budget, from the package `pyautoattack`.

It is run, not believed: what counts is the distance of each example as the evaluator re-measures it. Its examples join
the ledger like any other attack's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from pyautoattack import AutoAttack as Package
from pyautoattack import checks
from torch import Tensor, nn

from benchmark import flags
from benchmark.attacks.engine.oracle import frozen
from benchmark.curve import proportion_interval
from benchmark.errors import InputError, UnsupportedModelError
from benchmark.measures import Inputs, Measure, Needs, Result, Task
from benchmark.memory import out_of_memory
from benchmark.results import Flag, Output, Score, Work
from benchmark.threat import Norm, get_norm
from benchmark.threat.budget import within
from benchmark.twin import has_gradient, is_randomised

if TYPE_CHECKING:
    from benchmark.data import Dataset

Version = Literal["standard", "plus", "rand"]

ATTACKS: Final[dict[Version, tuple[str, ...]]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
"""The attacks of each version, in their order; each sees the survivors of those before it."""

MISCLASSIFIED: Final = "clean"
"""What stands in `broken_by` for a sample that needed no attack."""

_NAMES: Final[dict[Norm, str]] = {"linf": "Linf", "l2": "L2", "l1": "L1"}
OPERATIONS: Final[dict[Norm, float]] = {"linf": 105, "l2": 175, "l1": 350}
"""Small operations of the package beside each pass, as timed."""

_BATCH: Final = 250
_LOOKED_AT: Final = 64
"""Images that are passed twice to see whether the model is randomised."""

_CLASSES: Final = {"apgd-dlr": 3, "apgd-t": 4}
"""Classes that the losses need: DLR divides by a difference to the third largest logit, targeted DLR to the fourth."""

_SQUARES: Final = 5
"""Image side that Square Attack needs for l2 and l1: it tiles the image with 5 × 5 squares."""

_SIGNS: Final = {"zero gradient": flags.ZERO_GRADIENTS, "dynamic defense": flags.INNER_OPTIMISATION}
"""The printed warnings of the package that we do not decide ourselves, by a piece of their text -> the flag's code."""


@dataclass(frozen=True)
class AutoAttackParameters:
    """Parameters of AutoAttack.

    Attributes:
        norm: The norm of the threat model.
        eps: The perturbation budget.
        version: ``"standard"``, ``"plus"``, or ``"rand"`` for randomised models (expectation over 20 calls).
        samples: At most so many samples are attacked: a robust one costs about 7,700 forward and 1,900 backward passes.
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    version: Version = "standard"
    samples: int = 1000

    def __post_init__(self) -> None:
        get_norm(self.norm)
        if self.norm not in _NAMES:
            raise InputError(f"AutoAttack's norm is one of {', '.join(_NAMES)}, got {self.norm!r}.")
        if not 0 < self.eps < math.inf:
            raise InputError(f"AutoAttack needs a finite eps > 0, got {self.eps!r}.")
        if self.version not in ATTACKS:
            raise InputError(f"AutoAttack's version is one of {', '.join(ATTACKS)}, got {self.version!r}.")
        if self.samples < 1:
            raise InputError(f"AutoAttack needs at least 1 sample, got {self.samples!r}.")


class AutoAttack(Measure[AutoAttackParameters]):
    """Robust accuracy under AutoAttack."""

    name = "autoattack"
    version = 1
    title = "AutoAttack: robust accuracy at one perturbation budget"
    paper = "Croce & Hein 2020, arXiv:2003.01690"
    chunk = _BATCH
    at_most = "samples"
    Parameters = AutoAttackParameters

    def needs(self, parameters: AutoAttackParameters) -> Needs:
        """Gradients."""
        return Needs(gradients=True)

    def outputs(self, parameters: AutoAttackParameters, dataset: Dataset) -> Sequence[Output]:
        """Robust accuracy, with the verdict and the example's distance of each sample."""
        norm, eps = parameters.norm, parameters.eps
        array = f"distance_{norm}"
        return (
            Output(
                "robust_accuracy",
                "scalar",
                "AutoAttack",
                f"Share of images for which AutoAttack finds no adversarial example within {eps:.4g}.",
                unit="share",
                direction="higher",
                threat=norm,
                eps=eps,
            ),
            Output(
                "square_gain",
                "scalar",
                "Square alone",
                "Share of images that only Square Attack, which uses no gradients, broke: high where they are masked.",
                unit="share",
                threat=norm,
                eps=eps,
            ),
            Output(
                "robust", "verdict", "Robust", "Whether AutoAttack finds nothing.", threat=norm, eps=eps, array=array
            ),
            Output(
                "distance",
                "upper",
                "Distance",
                "Distance of the example that AutoAttack found; it searches within its budget, not for the nearest.",
                unit="distance",
                direction="higher",
                threat=norm,
                array=array,
            ),
        )

    def work(self, parameters: AutoAttackParameters, dataset: Dataset) -> Work | None:
        """Of the standard version: two thirds of its passes are Square Attack's, which has no gradients."""
        if parameters.version != "standard":
            return None
        return Work(forward=7000, backward=1700, steps=7900, operations=OPERATIONS.get(parameters.norm, 0))

    def run(self, task: Task, parameters: AutoAttackParameters) -> Result:
        """Run the version's attacks one after the other, each on the survivors.

        Returns:
            Arrays ``robust`` (bool: what AutoAttack claims) and ``broken_by`` (bytes: the attack that broke the sample,
            ``"clean"`` if misclassified, empty if robust).
        """
        with frozen(task.model) as model, _own_randomness(task.x.device), torch.no_grad():
            found = _attack(replace(task, model=model), parameters)
        arrays = {"robust": found.broken_by == "", "broken_by": found.broken_by.astype("S8")}
        blind = any(flag.code == flags.NO_GRADIENTS for flag in found.flags)  # there is nothing to gain over then
        gain = [] if blind else _square_gain(found.broken_by)
        return Result(arrays, found.adversarials, (*found.flags, *gain))

    def summarise(self, inputs: Inputs, parameters: AutoAttackParameters) -> list[Score]:
        """Robust accuracy as re-verified, with its Clopper–Pearson interval, and the share that Square alone broke."""
        robust = ~within(inputs.arrays[f"distance_{parameters.norm}"], parameters.eps)
        low, high = proportion_interval(robust.sum(), len(robust), confidence=0.95)
        square = float((inputs.arrays["broken_by"] == b"square").mean())
        accuracy = float(robust.mean())
        return [
            Score("robust_accuracy", accuracy, float(low), float(high), 0.95, unit="share", direction="higher"),
            Score("square_gain", square, unit="share", direction="none"),
        ]


@dataclass
class _Found:
    """Adversarial examples so far.

    Attributes:
        adversarials: Shape of ``x``; the clean image where there is none.
        broken_by: For each sample the attack that broke it, ``"clean"``, or empty; shape (n,).
        flags: What was noticed.
    """

    adversarials: Tensor
    broken_by: np.ndarray[tuple[int], np.dtype[np.str_]]
    flags: list[Flag] = field(default_factory=list)


def _attack(task: Task, parameters: AutoAttackParameters) -> _Found:
    logits = task.model(task.x)
    classes = logits.shape[1]
    correct = (logits.argmax(dim=1) == task.y).cpu().numpy()
    found = _Found(task.x.clone(), np.where(correct, "", MISCLASSIFIED).astype("<U8"))
    gradients = has_gradient(task.model, task.x)
    names, found.flags = _applicable(parameters, classes, tuple(task.x.shape[-2:]), gradients=gradients)
    found.flags += _outputs(task.model, task.x, logits)
    package = _package(task, parameters, classes)
    for name in names:
        left = np.flatnonzero(found.broken_by == "")
        if len(left) == 0:
            break
        rows = torch.from_numpy(left).to(task.x.device)
        package.attacks_to_run = [name]
        adversarials, messages = _run(package, task.x[rows], task.y[rows])
        changed = (
            torch.cat([task.model(part).argmax(dim=1) for part in torch.split(adversarials, _BATCH)]) != task.y[rows]
        )
        found.adversarials[rows[changed]] = adversarials[changed]
        found.broken_by[left[changed.cpu().numpy()]] = name
        found.flags += [flag for message in messages if (flag := _flag(message, len(rows))) is not None]
    return found


def _outputs(model: nn.Module, x: Tensor, logits: Tensor) -> list[Flag]:
    """What the outputs say about the model, by the same rules as everywhere."""
    found = []
    if is_randomised(model, x[:_LOOKED_AT]):
        found.append(Flag(flags.RANDOMISED, 'AutoAttack: two identical calls differ; use version="rand".'))
    if flags.are_probabilities(logits):
        found.append(Flag(flags.PROBABILITIES, "AutoAttack: the outputs are probabilities, not logits."))
    return found


def _applicable(
    parameters: AutoAttackParameters, classes: int, size: tuple[int, ...], *, gradients: bool
) -> tuple[list[str], list[Flag]]:
    """The version's attacks that this model has gradients, classes and pixels enough for, and what was left out.

    Raises:
        UnsupportedModelError: If none is left.
    """
    names = list(ATTACKS[parameters.version])
    if classes < _CLASSES["apgd-t"] and parameters.version == "standard":
        names.insert(1, "apgd-dlr")  # the untargeted DLR loss still applies to 3 classes
    found = []
    if not gradients:
        names = ["square"]
        found.append(Flag(flags.NO_GRADIENTS, "AutoAttack: the outputs have no gradient; only Square Attack was run."))
    few = [name for name in names if _CLASSES.get(name, 2) > classes]
    if few:
        found.append(
            Flag(
                flags.FEW_CLASSES,
                f"The model has {classes} classes; AutoAttack's {' and '.join(few)} need more and were left out.",
                float(classes),
            )
        )
    if parameters.norm != "linf" and min(size) < _SQUARES and "square" in names:
        few.append("square")
        found.append(Flag(flags.SMALL_IMAGES, f"Square Attack needs images of 5 × 5 pixels or more, got {size}."))
    left = [name for name in names if name not in few]
    if not left:
        raise UnsupportedModelError(
            f"None of AutoAttack's attacks applies to a model {'with' if gradients else 'without'} gradients, of "
            f"{classes} classes, on images of {' × '.join(map(str, size))} pixels, in {parameters.norm}."
        )
    return left, found


def _package(task: Task, parameters: AutoAttackParameters, classes: int) -> Any:
    """The package's attack with the version's settings, an explicit seed, and no more target classes than there are."""
    package = Package(
        task.model,
        norm=_NAMES[parameters.norm],
        eps=inner_eps(parameters.eps, parameters.norm, task.x[0].numel()),
        version=parameters.version,
        seed=task.seed,
        device=task.x.device,
    )
    for attack in (package.apgd_targeted, package.fab):
        attack.n_target_classes = min(attack.n_target_classes, classes - 1)
    return package


def inner_eps(eps: float, norm: Norm, size: int) -> float:
    """The budget given to the package: smaller than ``eps`` by what float32 rounding of the images can add.

    An example that the package puts on the sphere of radius ``eps`` has, once rounded to float32, a distance of
    ``eps`` give or take this much; with the smaller radius it is within ``eps`` exactly, as the ledger measures it. The
    relative change is about 1e-6. No two images are farther apart than the box allows: more is never asked for.

    Args:
        eps: The budget of the threat model.
        norm: Its norm.
        size: Values an image.
    """
    ulp = 2.0**-23
    inner = eps * (1 - 1e-6) - (ulp * math.sqrt(size) if norm == "l1" else ulp)
    return min(inner, get_norm(norm).diameter((size,)))


def _run(package: Any, x: Tensor, y: Tensor) -> tuple[Tensor, list[str]]:
    """One of the package's attacks, silenced; out of memory, it is tried again with half the batch."""
    batch = _BATCH
    while True:
        try:
            with _captured(package.logger) as messages:
                adversarials, _ = package.run_standard_evaluation(x, y, batch_size=batch)
        except (MemoryError, RuntimeError) as error:
            if batch == 1 or not out_of_memory(error):
                raise
            batch //= 2
        else:
            return adversarials, messages


@contextlib.contextmanager
def _captured(logger: logging.Logger) -> Iterator[list[str]]:
    """Collect the package's warnings, keep it off the terminal, and undo what it does to the process.

    It counts calls of functions named ``grad`` or ``backward`` during a forward pass in a table that it never resets,
    with a trace function that replaces the debugger's.
    """
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    propagate, trace = logger.propagate, sys.gettrace()
    logger.addHandler(handler)
    logger.propagate = False
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield messages
    finally:
        sys.settrace(trace)
        logger.removeHandler(handler)
        logger.propagate = propagate


@contextlib.contextmanager
def _own_randomness(device: torch.device) -> Iterator[None]:
    """The package seeds the global generators; they are put back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _flag(message: str, n: int) -> Flag | None:
    """The flag for one of the package's warnings on ``n`` images; those about outputs and classes are ours to give."""
    for sign, code in _SIGNS.items():
        if sign in message:
            value = next((float(word) for word in message.split() if word.isdigit()), None)
            if code == flags.ZERO_GRADIENTS and not flags.zero_gradients_are_many((value or 0.0) / n):
                return None
            return Flag(code, f"AutoAttack: {message.partition(' See ')[0]}", value)
    return None


def _square_gain(broken_by: np.ndarray[tuple[int], np.dtype[np.str_]]) -> list[Flag]:
    """The authors' rule: gradients are suspect if the gradient-free attack breaks over 0.2 % more samples."""
    gained = int((broken_by == "square").sum())
    if gained <= 0.002 * len(broken_by):
        return []
    message = (
        f"AutoAttack: Square Attack, which uses no gradients, broke {gained} of {len(broken_by)} samples that the "
        f"gradient attacks had left: the gradients may be masked."
    )
    return [Flag(flags.SQUARE_GAIN, message, gained / len(broken_by))]


MEASURE = AutoAttack()
