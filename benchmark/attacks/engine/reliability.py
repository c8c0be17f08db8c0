"""Signs that an attack's distances cannot be trusted: what was seen of the model, and the flags that follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn

from benchmark import flags
from benchmark.attacks.engine.budget import EOT_REPEATS
from benchmark.attacks.engine.oracle import Oracle, find_batch_size
from benchmark.errors import UnsupportedModelError
from benchmark.results import Flag
from benchmark.twin import has_gradient, is_randomised
from benchmark.verification import needed_lead, refuse_non_finite

STRONGER: Final = 0.97
"""A check is stronger on a sample where its distance is below this share of the gradient searches'."""

TOLERATED: Final = flags.MANY
"""Share of samples on which a check may be stronger with no flag."""


@dataclass(frozen=True)
class Outputs:
    """What the model's output looks like.

    Attributes:
        randomised: Two identical calls differ.
        probabilities: Every row is a distribution: a softmax is inside the model.
        gradients: There is a gradient in the images at all.
    """

    randomised: bool
    probabilities: bool
    gradients: bool = True


@dataclass(frozen=True)
class Checks:
    """What the checks of one run found; distances have shape (m,), over the checked samples.

    Attributes:
        before: Distances of the gradient searches.
        single_step: Distances of a single gradient step with a line search.
        gradient_free: Distances of the search without gradients.
        zero_gradients: Share of clean images whose gradient is zero everywhere.
        non_finite_gradients: Gradients (rows) with NaN or infinite entries, over the whole run.
        unbroken: Samples on which nothing was found, at whatever distance.
        attacked: Samples attacked.
        seeds: Distances of two runs that differ only in their seed, where two were made.
        misled: Share of the samples that random searches brought clearly nearer than gradients had (linf).
    """

    before: Tensor = field(default_factory=lambda: torch.empty(0, device="cpu"))
    single_step: Tensor = field(default_factory=lambda: torch.empty(0, device="cpu"))
    gradient_free: Tensor = field(default_factory=lambda: torch.empty(0, device="cpu"))
    zero_gradients: float = 0.0
    non_finite_gradients: int = 0
    unbroken: int = 0
    attacked: int = 0
    seeds: tuple[Tensor, Tensor] | None = None
    misled: float = 0.0


def share_of(these: Tensor) -> float:
    """Share of a boolean tensor that is true; 0 of an empty one."""
    return float(these.float().mean()) if len(these) else 0.0


def share_of_several(these: Tensor) -> float:
    """The same, but 0 where a single one is: that says nothing of a model."""
    return share_of(these) if int(these.sum()) > 1 else 0.0


def look_at_outputs(model: nn.Module, x: Tensor, *, most: int = 64) -> Outputs:
    """Call the model (in eval mode) on a few images.

    Args:
        model: The classifier.
        x: Clean images, shape (n, c, h, w).
        most: Images looked at.

    Raises:
        InputError: If its logits are not finite.
    """
    with torch.no_grad():
        logits = model(x[:most])
    refuse_non_finite(logits, first=0)
    return Outputs(is_randomised(model, x[:most]), flags.are_probabilities(logits), has_gradient(model, x[:most]))


def oracle_of(
    model: nn.Module, x: Tensor, y: Tensor, *, kind: type[Oracle] = Oracle, outputs: Outputs | None = None
) -> Oracle:
    """What an attack with gradients asks a model by: in expectation if it is randomised, with the lead that it needs.

    Args:
        model: The classifier, as of `frozen`.
        x: Clean images, at least one, shape (n, c, h, w).
        y: Labels, shape (n,).
        kind: What a goal is.
        outputs: What the model's output looks like; an attack that does nothing without a gradient leaves it out.

    Raises:
        UnsupportedModelError: If ``outputs`` is left out, and there is no gradient.
    """
    if outputs is None:
        outputs = look_at_outputs(model, x)
        if not outputs.gradients:
            raise UnsupportedModelError(
                "The model's logits have no gradient in the images, which this attack follows. The engine searches "
                "such a model at random; attacks by scores and decisions need no gradient."
            )
    return kind(
        model,
        batch_size=find_batch_size(model, x),
        repeats=EOT_REPEATS if outputs.randomised else 1,
        probabilities=outputs.probabilities,
        noise=0.0 if outputs.randomised else needed_lead(model, x, y),
    )


def reliability_flags(outputs: Outputs, checks: Checks) -> tuple[Flag, ...]:
    """The warnings that follow from what was seen."""
    found = []
    if not outputs.gradients:
        found.append(
            Flag(flags.NO_GRADIENTS, "The outputs have no gradient in the images: only random search was run.")
        )
    if outputs.randomised:
        found.append(Flag(flags.RANDOMISED, "The output differs between two identical calls; attacked in expectation."))
    if outputs.probabilities:
        found.append(Flag(flags.PROBABILITIES, "The model returns probabilities, not logits: gradients can vanish."))
    if flags.zero_gradients_are_many(checks.zero_gradients):
        found.append(
            Flag(
                flags.ZERO_GRADIENTS,
                f"The gradient is zero on {checks.zero_gradients:.0%} of the clean images: gradient attacks are blind.",
                checks.zero_gradients,
            )
        )
    if checks.non_finite_gradients:
        found.append(
            Flag(
                flags.NON_FINITE_GRADIENTS,
                f"{checks.non_finite_gradients} gradients were NaN or infinite.",
                float(checks.non_finite_gradients),
            )
        )
    for code, name, distance in (
        (flags.GRADIENT_FREE_STRONGER, "A search without gradients", checks.gradient_free),
        (flags.SINGLE_STEP_STRONGER, "A single gradient step", checks.single_step),
    ):
        stronger = (distance < STRONGER * checks.before).float()
        share = float(stronger.mean()) if len(stronger) else 0.0
        if share > TOLERATED:
            found.append(
                Flag(code, f"{name} beats the gradient searches on {share:.0%} of the samples checked.", share)
            )
    if checks.misled > TOLERATED:
        found.append(
            Flag(
                flags.GRADIENTS_MISLEAD,
                f"Random searches brought {checks.misled:.0%} of the samples clearly nearer than gradients had.",
                checks.misled,
            )
        )
    if checks.seeds is not None and (flag := seeds_disagree(*checks.seeds)):
        found.append(flag)
    if checks.unbroken:
        found.append(
            Flag(
                flags.NOT_BROKEN,
                f"{checks.unbroken} of {checks.attacked} samples have no adversarial example at any distance tried, "
                "the largest possible one included.",
                checks.unbroken / checks.attacked,
            )
        )
    return tuple(found)


def seeds_disagree(first: Tensor, second: Tensor) -> Flag | None:
    """A warning if the mean distances of two seeds differ by more than chance: the search has not converged.

    Args:
        first: Distances of one run, shape (n,).
        second: Distances of the other.

    Returns:
        The flag, where the mean of the paired differences is more than 2.6 standard errors from 0 and more than 2 % of
        the mean distance, or a sample in a hundred was found by one seed only.
    """
    lost = float((torch.isfinite(first) != torch.isfinite(second)).float().mean())
    both = torch.isfinite(first) & torch.isfinite(second)
    a, b = first[both].double(), second[both].double()
    gap = 0.0
    if len(a) > 1:
        difference = a - b
        mean = float(difference.mean().abs())
        if mean > 2.6 * float(difference.std()) / len(a) ** 0.5:
            gap = mean / max(float(torch.minimum(a, b).mean()), 1e-30)
    if gap <= 0.02 and lost <= 0.01:
        return None
    return Flag(
        flags.SEEDS_DISAGREE, f"Two seeds' mean distances differ by {gap:.1%}; {lost:.1%} found by one only.", gap
    )
