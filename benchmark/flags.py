"""The codes of reliability flags: one code for one thing, wherever it is seen, and the threshold that decides.

Whether a model is randomised is decided by `benchmark.twin.is_randomised`. Importing this does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

RANDOMISED: Final = "randomised"
"""Two identical calls differ."""

PROBABILITIES: Final = "softmax-outputs"
"""The outputs are probabilities, not logits."""

ZERO_GRADIENTS: Final = "zero-gradients"
"""The gradient in the image is exactly zero on many images."""

NO_GRADIENTS: Final = "no-gradients"
"""The outputs have no gradient in the images: only searches that need none were run."""

NON_FINITE_GRADIENTS: Final = "non-finite-gradients"
"""Gradients were NaN or infinite."""

INNER_OPTIMISATION: Final = "inner-optimisation"
"""The model optimises while it classifies."""

GRADIENT_FREE_STRONGER: Final = "gradient-free-stronger"
"""A search without gradients comes nearer than those with."""

SINGLE_STEP_STRONGER: Final = "single-step-stronger"
"""A single gradient step comes nearer than whole searches."""

GRADIENTS_MISLEAD: Final = "gradients-mislead"
"""A long random search comes nearer than gradients had on many samples."""

SEEDS_DISAGREE: Final = "seeds-disagree"
"""Two seeds end at clearly different distances."""

NOT_BROKEN: Final = "not-broken-at-largest-distance"
"""Some samples have no adversarial example at any distance tried."""

SQUARE_GAIN: Final = "square-gain"
"""AutoAttack's gradient-free attack breaks what its gradient attacks left."""

FEW_CLASSES: Final = "few-classes"
"""The model has too few classes for some of AutoAttack's attacks."""

SMALL_IMAGES: Final = "small-images"
"""The images are too small for Square Attack."""

MODEL_CHANGED: Final = "model-changed"
"""An attack or measure changed the model that it was lent, or the process's global state; it was put back."""

STILL_FALLING: Final = "still-falling"
"""Many samples were broken late in an attack's budget: a larger one would break more."""

REJECTS: Final = "rejects"
"""The model may reject an image."""

REJECTION: Final = (
    "A perturbed image is adversarial only where it is given a wrong class and not rejected, so its curve is no "
    "ordinary one: whatever withstands ε with rejection stands for an ordinary classifier that withstands ε/2 (Tramèr "
    "2022, arXiv:2107.11630)."
)
"""How a model that may reject is judged, in words."""

MANY: Final = 0.1
"""Share of the images from which on a warning is given for what a few images may show: zero gradients, a check that is
stronger."""

SUM_TOLERANCE: Final = 1e-4
"""How far from 1 the outputs of an image may sum and still be probabilities."""


def probability_error(outputs: Tensor) -> float:
    """How far from 1 a row of outputs (n, k) sums, at most; ``inf`` where an output is negative or there is no row."""
    if not len(outputs) or bool((outputs < -1e-6).any()):
        return float("inf")
    return float((outputs.double().sum(dim=1) - 1).abs().max())


def are_probabilities(outputs: Tensor) -> bool:
    """Whether every row of outputs (n, k) is a probability distribution: a softmax is inside the model."""
    return probability_error(outputs) < SUM_TOLERANCE


def zero_gradients_are_many(share: float) -> bool:
    """Whether so large a share of images with a gradient of exactly zero is worth a flag."""
    return share > MANY
