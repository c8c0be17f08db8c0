"""The codes of reliability flags: one code for one thing, wherever it is seen, and the threshold that decides."""

from __future__ import annotations

from typing import Final

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

GRADIENTS_MISLEAD: Final = "gradients-mislead"
"""In linf a random search among the ball's corners goes on where gradients end."""

SINGLE_STEP_STRONGER: Final = "single-step-stronger"
"""A single gradient step comes nearer than whole searches."""

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
"""An attack or measure changed the model it was given; it was put back."""

MANY: Final = 0.1
"""Share of the images from which on a warning is given for what a few images may show: zero gradients, a check that is
stronger."""

SUM_TOLERANCE: Final = 1e-4
"""How far from 1 the outputs of an image may sum and still be probabilities."""
