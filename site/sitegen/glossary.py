"""The words of the site."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

GLOSSARY: Final[Mapping[str, str]] = {
    "adversarial example": "An image that differs little from a clean one and that the model classifies wrongly, "
    "although it classified the clean one correctly.",
    "area under the curve": "The mean over images of min(distance, end of the axis): the robust accuracy, averaged "
    "over all ε, times the length of the axis.",
    "AutoAttack": "An ensemble of four attacks at one ε (Croce & Hein 2020): a cross-check of the curve, where a "
    "protocol asks for it.",
    "certificate": "A proof that no adversarial example is nearer than a given radius. It cannot be lowered by any "
    "attack.",
    "certified accuracy": "The share of images that a certificate proves robust at ε: no attack can break them.",
    "challenge": "Adversarial examples brought by somebody else, re-checked here, and credited.",
    "CLEVER": "An estimate of the distance to the nearest adversarial example, from sampled gradients (Weng et al. "
    "2018). It is not a bound.",
    "clean accuracy": "The share of images that are classified correctly as they are; distances count the others as 0.",
    "confidence band": "Where the whole curve of all images lies with 95 % probability, given the images that were "
    "measured (Dvoretzky–Kiefer–Wolfowitz).",
    "crossing": "An ε at which two models change their order.",
    "decided": "The share of the curve where the certified and the attacked curve agree, so that nothing is left open.",
    "distance": "Of an image: the size of the smallest perturbation found that changes the model's answer. 0 if the "
    "clean image is misclassified, ∞ if nothing was found.",
    "ε (perturbation budget)": "How far an attacker may move an image, in a norm; images have values between 0 and 1.",
    "FLOPs": "Floating-point operations of one image's forward pass, as torch's own counter sees them: convolutions, "
    "matrix products and attention, a multiplication and an addition each.",
    "flag": "A warning about a row: something that was measured suggests that its numbers may mislead.",
    "ledger": "For each model, image and norm the smallest verified distance of anything so far.",
    "median distance": "The ε at which half of the images are broken.",
    "norm": "How the size of a perturbation is measured. ℓ∞: the largest change of any pixel value; ℓ₂: Euclidean; ℓ₁: "
    "the sum of all changes.",
    "optimality": "How near an attack's distances come to the smallest known: the mean of (nearest known ÷ its own).",
    "passes": "Forward and backward passes that a row's evaluations made, counted in images: what the numbers cost.",
    "protocol": "A named, versioned list of what must be measured for every row of a board.",
    "rank": "1 + the number of models that are better; the small numbers are the middle 95 % of its ranks when the "
    "images are drawn again (paired bootstrap).",
    "reported": "Measured by another board and taken from its bundle. The adversarial examples were re-checked here; "
    "that nothing nearer was found was not, until this board has searched itself.",
    "robust accuracy": "The share of images that are classified correctly, and for which no adversarial example within "
    "ε was found.",
    "robustness curve": "Robust accuracy as a function of ε.",
    "slice": "The first n images of a dataset.",
    "stale": "Evaluated by an older version of the protocol: shown apart, never ranked with the others.",
    "threat model": "What the attacker may do: here, move an image by at most ε in a norm, within the box of valid "
    "images, knowing the model.",
    "union of norms": "All three norms at once: an image is robust only if it is robust in each, at the same multiple "
    "of each norm's reference budget.",
    "verified": "All adversarial examples that the row rests on were read again and re-checked with forward passes, "
    "at their distances, since anything last joined it; the tooltip says when and by what.",
}


def anchor(word: str) -> str:
    """The fragment of a word on the glossary's page."""
    return re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") or "epsilon"


def term_of(title: str) -> str:
    """The fragment of the word that a heading speaks of: the longest that stands in it; empty if none does."""
    found = [word for word in GLOSSARY if re.search(rf"\b{re.escape(word.lower())}\b", title.lower())]
    return anchor(max(found, key=len)) if found else ""
