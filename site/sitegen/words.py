"""What the site says in words: measures, flags, figures of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

FLAGS: Final[Mapping[str, str]] = {
    "randomised": "The model answers differently when asked twice. Attacks see a moving target, and a result may not "
    "repeat; against an attacker who averages over the randomness it is less robust than shown.",
    "softmax-outputs": "The model seems to return probabilities, not logits. Their gradients vanish where the model is "
    "confident, so attacks that follow gradients, and CLEVER, can look harmless.",
    "zero-gradients": "The gradient is exactly zero on some images. Attacks that follow gradients are blind there: the "
    "distances may be far too large.",
    "gradient-masking": "There are signs that gradients mislead attacks. The curve is an upper bound that a better "
    "attack may lower a lot.",
    "square-gain": "A black-box attack found much that the attacks with gradients missed: the gradients are masked.",
    "optimisation-in-forward": "The forward pass runs an optimisation of its own; gradients through it are only "
    "approximate, and attacks are weaker than they look.",
    "few-classes": "There are too few classes for AutoAttack's targeted losses; it ran without them.",
    "small-images": "The images are too small for one of AutoAttack's parts; it ran without that part.",
    "violation": "CLEVER's estimate lies above a verified adversarial distance on many samples: do not trust it here.",
    "batch": "The answer for an image depends on the other images of its batch.",
    "fit": "The distribution that CLEVER fits does not fit this model's gradients well: its scores are rough.",
}
"""What a flag means, by its code; the message says what was seen."""

MEASURES: Final[Mapping[str, str]] = {
    "clean": "Clean accuracy",
    "curve": "Robustness curve",
    "autoattack": "AutoAttack",
    "clever": "CLEVER",
    "certificate": "Certificate",
    "exact": "Exact distances",
    "challenge": "Challenge",
    "transfer": "Transfer replay",
    "conformance": "Conformance",
}


def flag_meaning(code: str) -> str:
    """What a flag means, in plain words; empty for a code not known here."""
    if code in FLAGS:
        return FLAGS[code]
    return next((text for known, text in FLAGS.items() if known in code), "")


def measure_title(measure: str) -> str:
    """A measure's name for people."""
    return MEASURES.get(measure, measure.replace("_", " ").replace("-", " ").capitalize())


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Parameters as ``norm=linf, eps=0.1``."""
    return ", ".join(
        f"{key}={_value(value)}" for key, value in sorted(parameters.items()) if value not in (None, "", [])
    )


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage without its sign: 0.853 is ``85.3``."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits; ``–`` for none, ``∞`` for infinity."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = f"{value:.0f}" if abs(value) >= 1 else f"{value:.{digits - 1}e}"
    return text


def duration(seconds: float) -> str:
    """A time span in the unit that fits: ``4.2 s``, ``12 min``, ``3.1 h``."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def count(value: float) -> str:
    """A large number with thin spaces: ``12 345``; above a million in millions."""
    if value >= 1e9:
        return f"{value / 1e9:.3g} billion"
    return f"{value / 1e6:.3g} million" if value >= 1e6 else f"{round(value):,}".replace(",", "\u202f")


def date(moment: datetime | None) -> str:
    """A day: ``2026-03-01``."""
    return "–" if moment is None else moment.strftime("%Y-%m-%d")


def listed(items: Iterable[str], *, last: str = "and") -> str:
    """``a, b and c``."""
    words = list(items)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
