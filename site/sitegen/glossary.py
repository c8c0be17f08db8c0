"""The words of the site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

GLOSSARY: Final[Mapping[str, str]] = {
    "adversarial example": "An image that differs little from a clean one and that the model classifies wrongly, "
    "although it classified the clean one correctly.",
    "area under the curve": "The mean over images of min(distance, end of the axis): the robust accuracy, averaged "
    "over all ε, times the length of the axis.",
    "AutoAttack": "An ensemble of four attacks at one ε (Croce & Hein 2020): a cross-check of the curve, for a protocol "
    "that asks for it.",
    "certificate": "A proof that no adversarial example is nearer than a given radius. It cannot be lowered by any "
    "attack.",
    "challenge": "Adversarial examples brought by somebody else, re-checked here, and credited.",
    "CLEVER": "An estimate of the distance to the nearest adversarial example, from sampled gradients (Weng et al. "
    "2018). It is not a bound.",
    "confidence band": "Where the whole curve of all images lies with 95 % probability, given the images that were "
    "measured (Dvoretzky–Kiefer–Wolfowitz).",
    "crossing": "An ε at which two models change their order.",
    "decided": "The share of the curve where the certified and the attacked curve agree, so that nothing is left open.",
    "distance": "Of an image: the size of the smallest perturbation found that changes the model's answer. 0 if the "
    "clean image is misclassified, ∞ if nothing was found.",
    "ε (perturbation budget)": "How far an attacker may move an image, in a norm; images have values between 0 and 1.",
    "flag": "A warning about a row: something that was measured suggests that its numbers may mislead.",
    "ledger": "For each model, image and norm the smallest verified distance of anything so far.",
    "norm": "How the size of a perturbation is measured. ℓ∞: the largest change of any pixel value; ℓ₂: Euclidean; ℓ₁: "
    "the sum of all changes.",
    "optimality": "How near an attack's distances come to the smallest known: the mean of (nearest known ÷ its own).",
    "protocol": "A named, versioned list of what must be measured for every row of a board.",
    "robust accuracy": "The share of images that are classified correctly, and for which no adversarial example within "
    "ε was found.",
    "robustness curve": "Robust accuracy as a function of ε.",
    "slice": "The first n images of a dataset.",
    "stale": "Evaluated by an older version of the protocol: shown apart, never ranked with the others.",
    "threat model": "What the attacker may do: here, move an image by at most ε in a norm, within the box of valid "
    "images, knowing the model.",
    "union of norms": "All three norms at once: an image is robust only if it is robust in each, at the same multiple "
    "of each norm's reference budget.",
}
