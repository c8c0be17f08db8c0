"""The conformance report: is a module a classifier of these images that can be evaluated, and what is unusual about it?

Each check has a verdict, the value seen and a sentence. ``refuse`` means that no figure of the model would mean
anything; ``flag`` that the figures need a warning beside them. `docs/submitting.md` says for each check which it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmark import flags
from benchmark.curve import proportion_interval
from benchmark.rejection import rejects, seen_rejecting
from benchmark.twin import REPRODUCIBLE, batch_dependence, disagreement
from models_zoo.inner_passes import counted_backward_passes

Verdict = Literal["pass", "flag", "refuse"]

IMAGES: Final = 500
"""How many images are looked at, at most."""

FEW: Final = 32
"""How many for what needs gradients or single images, at most."""

VALUES: Final = 2**24
"""Numbers in the images that are looked at, at most: 111 images of 3 × 224 × 224."""

AGAIN: Final = 2**22
"""The same for what passes them several times: 32 (`FEW`) of 3 × 224 × 224."""

TOGETHER: Final = 2**21
"""Numbers in the images of one call, at most: all 500 of CIFAR, 13 of 3 × 224 × 224."""

KEPT: Final = 2**19
"""The same where the model is differentiated, or computed in float64: 32 of CIFAR, 4 of 3 × 224 × 224."""

SLOW: Final = 1.0
"""Seconds an image from which on an evaluation would take days."""


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: For instance ``"finite_outputs"``.
        verdict: ``pass``, ``flag`` or ``refuse``.
        value: The value seen.
        unit: Of the value.
        message: What was seen and, if it did not pass, what to do.
        code: Of the flag that a verdict ``flag`` raises (`benchmark.flags`); by default the name with hyphens.
    """

    name: str
    verdict: Verdict
    value: float
    unit: str
    message: str
    code: str = ""

    @property
    def flag(self) -> str:
        """The flag's code."""
        return self.code or self.name.replace("_", "-")


@dataclass(frozen=True)
class Report:
    """All checks that could be made; those after a refusal that prevents them are missing."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the verdicts."""
        found = {check.verdict for check in self.checks}
        return "refuse" if "refuse" in found else "flag" if "flag" in found else "pass"


def looked_at(shape: Sequence[int]) -> int:
    """How many images of a shape (c, h, w) are looked at."""
    return max(FEW, min(IMAGES, VALUES // math.prod(shape)))


def check_conformance(
    module: nn.Module, x: Tensor, y: Tensor, *, classes: int, claimed_accuracy: float | None = None
) -> Report:
    """Check a module on images of its dataset.

    Args:
        module: The classifier, in eval mode.
        x: Images in [0, 1], shape (n, c, h, w), float32, on the module's device; the first `looked_at` are used.
        y: Labels, shape (n,), int64.
        classes: Number of classes of the dataset; a module that may reject has a logit more (`benchmark.rejection`).
        claimed_accuracy: Clean accuracy that its authors report on the dataset, a share.

    Returns:
        The report. Failures of the module itself are lines of it, never exceptions.
    """
    n = looked_at(x.shape[1:])
    x, y = x[:n].clone(), y[:n]  # a model may write into what it is given
    again = max(FEW, AGAIN // x[0].numel())
    few = max(4, min(FEW, KEPT // x[0].numel()))
    checks = [_parameters(module), _size(module)]
    logits, seconds, inner = _first_call(module, x)
    reject = rejects(module)
    for check in _basics(logits, x, seconds=seconds, inner=inner, classes=classes + reject):
        checks.append(check)
        if check.verdict == "refuse":
            return Report(tuple(checks))
    assert isinstance(logits, Tensor)
    rest: dict[str, Callable[[], Check]] = {
        "flops": lambda: _flops(module, x[:1]),
        "input_unchanged": lambda: _input_unchanged(module, x[:few]),
        "extreme_inputs": lambda: _extreme_inputs(module, x[:few]),
        "logits": lambda: _logits(logits),
        "deterministic": lambda: _deterministic(module, x[:again], logits[:again]),
        "batch_independent": lambda: _batch_independent(module, x[:few]),
        "input_gradients": lambda: _finite_gradients(module, x[:few], y[:few]),
        "accuracy": lambda: _accuracy(logits, y, classes),
        "input_range": lambda: _input_range(module, x[:again], y[:again], logits[:again]),
    }
    if reject:
        rest["rejection"] = lambda: Check("rejection", "flag", *seen_rejecting(logits, y), flags.REJECTS)
    checks += [_guarded(name, check) for name, check in rest.items()]
    if claimed_accuracy is not None:
        checks.append(_claimed_accuracy(logits, y, claimed_accuracy))
    return Report(tuple(checks))


def _basics(logits: Tensor | Exception, x: Tensor, *, seconds: float, inner: int, classes: int) -> Iterator[Check]:
    """What the first call shows; nothing else can be checked after a refusal here."""
    yield _input_shape(logits, x)
    assert isinstance(logits, Tensor)
    yield _output_shape(logits, len(x), classes)
    yield _speed(seconds / len(x))
    yield _inner_optimisation(inner)
    yield _finite_outputs(logits)


_BATCH_ADVICE: Final = (
    "Images come as float32 in [0, 1], in batches of any size; export a program with a dynamic first dimension "
    "(dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))."
)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200].rstrip('.')}"


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    """A check, or its failure as a refusal: a model that breaks on some input cannot be evaluated."""
    try:
        return check()
    except Exception as error:  # the module is a stranger's and may raise anything
        return Check(name, "refuse", math.nan, "", f"The model fails at this: {_one_line(error)}. {_BATCH_ADVICE}")


def _first_call(module: nn.Module, x: Tensor) -> tuple[Tensor | Exception, float, int]:
    """The outputs (or why there are none), the seconds, and the backward passes inside."""
    try:
        with torch.no_grad():
            module(x[:1].clone())  # the first call of a process pays for much that later ones do not
            begin = time.perf_counter()
            with counted_backward_passes() as count:
                logits = _in_parts(module, x)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
        elsewhere = sum(getattr(m, "inner_passes", 0) for m in module.modules())
        return logits, time.perf_counter() - begin, count.passes + elsewhere
    except Exception as error:  # as above
        return error, 0.0, 0


def _in_parts(module: nn.Module, x: Tensor, change: Callable[[Tensor], Tensor] = torch.clone) -> Tensor:
    """The outputs for images, so many at a time that they take little memory, each part a changed copy."""
    found = []
    for part in torch.split(x, max(1, TOGETHER // x[0].numel())):
        logits = module(change(part))
        if not isinstance(logits, Tensor):
            raise TypeError(f"it gives a {type(logits).__name__}, no tensor of logits")
        found.append(logits)
    return torch.cat(found) if len(found) > 1 else found[0]


def _parameters(module: nn.Module) -> Check:
    # A model that runs in another process has none of its own, and says how many there are.
    n = sum(p.numel() for p in module.parameters()) + sum(getattr(m, "n_parameters", 0) for m in module.modules())
    return Check("parameters", "pass", float(n), "parameters", f"{n:,} parameters.")


def _size(module: nn.Module) -> Check:
    held = [*module.parameters(), *module.buffers()]
    size = sum(t.numel() * t.element_size() for t in held) + 4 * sum(
        getattr(m, "n_parameters", 0) for m in module.modules()
    )
    return Check("size", "pass", float(size), "bytes", f"{size / 1e6:.3g} MB of parameters and buffers.")


def _input_shape(outcome: Tensor | Exception, x: Tensor) -> Check:
    if isinstance(outcome, Tensor):
        return Check("input_shape", "pass", len(x), "images", f"It takes {len(x)} images of {tuple(x.shape[1:])}.")
    message = f"The model cannot take {len(x)} images of shape {tuple(x.shape[1:])}: {_one_line(outcome)}."
    return Check("input_shape", "refuse", 0.0, "images", f"{message} {_BATCH_ADVICE}")


def _output_shape(logits: Tensor, n: int, classes: int) -> Check:
    value = float(logits.shape[-1]) if logits.ndim else 0.0
    if logits.shape == (n, classes) and logits.is_floating_point() and classes > 1:
        return Check("classes", "pass", value, "classes", f"{classes} outputs, one a class.")
    message = (
        f"It gives {logits.dtype} of shape {tuple(logits.shape)} for {n} images; the dataset has {classes} classes, so "
        f"floating-point logits of shape ({n}, {classes}) are expected."
    )
    return Check("classes", "refuse", value, "classes", message)


def _speed(seconds: float) -> Check:
    slow = seconds > SLOW
    advice = "; a whole evaluation takes tens of thousands of passes an image, so use a GPU" if slow else ""
    return Check("seconds", "flag" if slow else "pass", seconds, "s/image", f"{seconds:.2g} seconds an image{advice}.")


def _flops(module: nn.Module, x: Tensor) -> Check:
    """What torch's own counter sees of one image's forward pass: convolutions, matrix products, attention."""
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(x.clone())
        total = counter.get_total_flops()
    except Exception:  # the counter follows modules, and stumbles over one that differentiates while it classifies
        total = 0
    if not total:  # in another process, or of operations that the counter does not know: unknown, not free
        return Check("flops", "pass", math.nan, "FLOPs/image", "FLOPs: not to be counted from here.")
    return Check("flops", "pass", total, "FLOPs/image", f"{total:,} floating-point operations an image, forward.")


def _inner_optimisation(passes: int) -> Check:
    if passes:
        message = (
            f"{passes} backward passes inside one forward pass: it optimises while it classifies, which gradient-based "
            "attacks underestimate."
        )
        return Check("inner_optimisation", "flag", passes, "passes", message, flags.INNER_OPTIMISATION)
    return Check("inner_optimisation", "pass", 0.0, "passes", "No optimisation inside the forward pass.")


def _finite_outputs(logits: Tensor) -> Check:
    bad = int((~torch.isfinite(logits).all(dim=1)).sum())
    message = f"{bad} of {len(logits)} images have outputs that are not finite" if bad else "All outputs are finite"
    return Check("finite_outputs", "refuse" if bad else "pass", bad, "images", f"{message}.")


def _input_unchanged(module: nn.Module, x: Tensor) -> Check:
    """A model that writes into its images would be given other ones at every call."""
    shown = x.clone()
    with torch.no_grad():
        module(shown)
    changed = int((shown != x).flatten(1).any(dim=1).sum())
    if changed:
        message = (
            f"It changes {changed} of {len(x)} images in place: let its first operation make a copy (x = x.clone())."
        )
        return Check("input_unchanged", "refuse", changed, "images", message)
    return Check("input_unchanged", "pass", 0.0, "images", "It leaves its images as they are.")


def _extreme_inputs(module: nn.Module, x: Tensor) -> Check:
    """Black, white, noise and checkerboard: attacks go to the corners of the box."""
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), device="cpu").to(x)
    images = torch.cat([torch.zeros_like(x[:1]), torch.ones_like(x[:1]), noise, noise.round()])
    with torch.no_grad():
        bad = int((~torch.isfinite(module(images)).all(dim=1)).sum())
    if bad:
        message = (
            f"Outputs on {bad} of {len(images)} black, white and noise images are not finite: attacks will meet them."
        )
        return Check("extreme_inputs", "flag", bad, "images", message)
    return Check("extreme_inputs", "pass", 0.0, "images", "Outputs on black, white and noise images are finite.")


def _logits(logits: Tensor) -> Check:
    """Rows of non-negative numbers that sum to 1 are probabilities."""
    off = float((logits.double().sum(dim=1) - 1).abs().max())
    if flags.are_probabilities(logits):
        message = "The outputs are probabilities: return the logits before the softmax, whose gradients vanish."
        return Check("logits", "flag", off, "distance", message, flags.PROBABILITIES)
    return Check("logits", "pass", off, "distance", f"Logits: rows sum to 1 ± {off:.2g}, so they are no probabilities.")


def _deterministic(module: nn.Module, x: Tensor, logits: Tensor) -> Check:
    with torch.no_grad():
        difference = max(float(disagreement(logits, _in_parts(module, x)).max()) for _ in range(2))
    if difference > REPRODUCIBLE:
        message = f"Repeated calls differ by {difference:.2g} (relative): it is randomised, or in train mode."
        return Check("deterministic", "flag", difference, "relative", message, flags.RANDOMISED)
    return Check("deterministic", "pass", difference, "relative", f"Repeated calls agree to {difference:.2g}.")


def _batch_independent(module: nn.Module, x: Tensor) -> Check:
    """Each image alone, and all together among others and in another order."""
    with torch.no_grad():
        between_calls = float(disagreement(module(x), module(x)).max())
    if between_calls > REPRODUCIBLE:
        message = "Cannot be told: the model is randomised."
        return Check("batch_independent", "flag", between_calls, "relative", message, flags.RANDOMISED)
    difference, depends = batch_dependence(module, x)
    if not depends:
        message = f"An image alone and in a batch gives the same to {difference:.2g}."
        return Check("batch_independent", "pass", difference, "relative", message)
    message = (
        f"An image's outputs depend on the others of its batch ({difference:.2g}, relative): batch normalisation in "
        "train mode or with the batch's own statistics, a mean over the batch, or a leak between samples. Put the "
        "model into eval mode before exporting it."
    )
    return Check("batch_independent", "refuse", difference, "relative", message)


def _no_gradients() -> Check:
    message = "The outputs have no gradient in the images: only searches that need none can attack it."
    return Check("input_gradients", "flag", 0.0, "share", message, flags.NO_GRADIENTS)


def _finite_gradients(module: nn.Module, x: Tensor, y: Tensor) -> Check:
    """The gradient of the cross-entropy in the images."""
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        outputs = module(leaf)
        if not outputs.requires_grad:
            return _no_gradients()
        loss = functional.cross_entropy(outputs, y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True)
    if gradient is None:
        return _no_gradients()
    rows = gradient.flatten(1)
    bad = int((~torch.isfinite(rows).all(dim=1)).sum())
    if bad:
        message = f"{bad} of {len(x)} images have input gradients that are not finite."
        return Check("input_gradients", "refuse", bad / len(x), "share", message)
    zero = float((rows == 0).all(dim=1).double().mean())
    if flags.zero_gradients_are_many(zero):
        message = (
            f"{zero:.0%} of the images have a gradient of exactly zero: gradients are masked (saturation, rounding)."
        )
        return Check("input_gradients", "flag", zero, "share", message, flags.ZERO_GRADIENTS)
    return Check("input_gradients", "pass", zero, "share", f"Finite; exactly zero on {zero:.0%} of the images.")


def _accuracy(logits: Tensor, y: Tensor, classes: int) -> Check:
    correct = int((logits.argmax(dim=1) == y).sum())
    accuracy = correct / len(y)
    _, high = proportion_interval(correct, len(y))
    if float(high) < 1.5 / classes:
        message = (
            f"{accuracy:.1%} of {len(y)} images are right, no better than chance: is the order of the classes, the "
            "preprocessing or the dataset another?"
        )
        return Check("accuracy", "flag", accuracy, "share", message)
    return Check("accuracy", "pass", accuracy, "share", f"{accuracy:.1%} of the first {len(y)} images are right.")


RANGES: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "0 to 255": lambda x: 255 * x,
    "-1 to 1": lambda x: 2 * x - 1,
    "-0.5 to 0.5": lambda x: x - 0.5,
    "inverted": lambda x: 1 - x,
    "inverted, 0 to 255": lambda x: 255 * (1 - x),
}
"""Other ranges that networks are trained on than [0, 1]."""


def _input_range(module: nn.Module, x: Tensor, y: Tensor, logits: Tensor) -> Check:
    """Whether the model would do better on another range than [0, 1]: its preprocessing was forgotten then."""
    correct = int((logits.argmax(dim=1) == y).sum())
    _, high = proportion_interval(correct, len(y))
    with torch.no_grad():
        shares = {
            name: float((_in_parts(module, x, change).argmax(dim=1) == y).double().mean())
            for name, change in RANGES.items()
        }
    best = max(shares, key=shares.__getitem__)
    if shares[best] > float(high) + 0.02:
        message = (
            f"It is right on {shares[best]:.1%} of images of the range {best}, and on {correct / len(y):.1%} of "
            "[0, 1]: put its preprocessing into the card or the program."
        )
        return Check("input_range", "flag", shares[best], "share", message)
    return Check("input_range", "pass", correct / len(y), "share", "Images in [0, 1] suit it best.")


def _claimed_accuracy(logits: Tensor, y: Tensor, claimed: float) -> Check:
    correct = int((logits.argmax(dim=1) == y).sum())
    low, high = (float(end) for end in proportion_interval(correct, len(y), confidence=0.99))
    seen = f"{correct / len(y):.2%} of the first {len(y)} images are right, 99 % interval {low:.2%} to {high:.2%}"
    if low <= claimed <= high:
        return Check("claimed_accuracy", "pass", claimed, "share", f"Claimed {claimed:.2%}; {seen}.")
    message = f"Claimed {claimed:.2%}, but {seen}: other weights, preprocessing, or data?"
    return Check("claimed_accuracy", "flag", claimed, "share", message)
