"""What the site says in words: measures, flags, figures of a table."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final

FLAGS: Final[Mapping[str, str]] = {
    "randomised": "The model answers differently when asked twice. Attacks see a moving target, and a result may not "
    "repeat; against an attacker who averages over the randomness it is less robust than shown.",
    "deterministic": "Two calls with the same image gave different outputs: the model is randomised, or was left in "
    "training mode. A result may not repeat.",
    "batch-independent": "The answer for an image depends on the other images of its batch.",
    "softmax-outputs": "The model seems to return probabilities, not logits. Their gradients vanish where the model is "
    "confident, so attacks that follow gradients, and CLEVER, can look harmless.",
    "logits": "The outputs look like probabilities, not logits. Their gradients vanish where the model is confident, "
    "so attacks that follow gradients, and CLEVER, can look harmless.",
    "zero-gradients": "The gradient is exactly zero on some images. Attacks that follow gradients are blind there: the "
    "distances may be far too large.",
    "no-gradients": "The answer has no gradient in the image. Only searches that need none were run: the distances "
    "may be far too large.",
    "model-changed": "An attack changed the model that it was lent, or settings of the whole program. All was put back "
    "before anything was verified.",
    "input-gradients": "Some gradients with respect to the image are zero, infinite or not a number. Attacks that "
    "follow gradients are blind there.",
    "non-finite-gradients": "Some gradients were infinite or not a number. Attacks that follow gradients are blind "
    "there: the distances may be too large.",
    "gradients-mislead": "A random search, which follows no gradient, found nearer examples than gradients led to: "
    "they may be masked, and still nearer examples may exist.",
    "rejects": "The model may reject an image instead of naming a class. A clean image that it rejects counts as an "
    "error; a perturbed one is no success of the attacker. So its curve is not an ordinary model's: what withstands ε "
    "with rejection stands for an ordinary classifier that withstands ε/2.",
    "still-falling": "The robust accuracy was still falling when the attack had done all its work: more work may "
    "break more images.",
    "gradient-free-stronger": "A search that uses no gradients found much nearer examples than those that do: the "
    "gradients are masked, and a better attack may lower the curve a lot.",
    "single-step-stronger": "A single gradient step found nearer examples than many small ones: the gradients are "
    "masked, and a better attack may lower the curve a lot.",
    "square-gain": "A black-box attack broke images that the attacks with gradients had missed. The more of them, the "
    "likelier it is that the gradients are masked; the message says how many.",
    "missing-cells": "Some cells of a grid could not be measured; they are left out, not counted.",
    "seeds-disagree": "The attack found clearly different distances when it began with other random numbers. The "
    "curve is not settled; more effort may lower it.",
    "not-broken-at-largest-distance": "On some samples no adversarial example was found at any distance, although one "
    "nearly always exists: the attack failed there, and these samples count as robust.",
    "optimisation-in-forward": "The forward pass runs an optimisation of its own; gradients through it are only "
    "approximate, and attacks are weaker than they look.",
    "inner-optimisation": "The forward pass runs an optimisation of its own; gradients through it are only "
    "approximate, and attacks are weaker than they look.",
    "extreme-inputs": "The outputs for black, white or noise images are not finite. Attacks may stumble there.",
    "accuracy": "The clean accuracy is close to guessing: weights, preprocessing or labels may not fit together.",
    "claimed-accuracy": "The clean accuracy is not what the model’s card claims: it may not be the model it says.",
    "input-range": "The model does better on images of another range than [0, 1]: its preprocessing may be missing.",
    "seconds": "The model is slow, so that attacks had less effort to spend in the same time.",
    "few-classes": "There are too few classes for AutoAttack's targeted losses; it ran without them.",
    "small-images": "The images are too small for one of AutoAttack's parts; it ran without that part.",
}
"""What a flag means, by its code; the message says what was seen."""

_ARXIV: Final = re.compile(r"\barXiv:(\d{4}\.\d{4,5})\b")


def flag_meaning(code: str) -> str:
    """What a flag means, in plain words; empty for a code not known here."""
    return FLAGS.get(code, "")


def paper_link(paper: str) -> str:
    """The address of a paper that is named as an address, or by its number on arXiv; empty otherwise."""
    if paper.startswith(("https://", "http://")):
        return paper
    found = _ARXIV.search(paper)
    return f"https://arxiv.org/abs/{found[1]}" if found else ""


def arxiv_year(paper: str) -> str:
    """The year in a paper's number on arXiv (since 2007 it begins with two digits of the year); empty without one."""
    found = _ARXIV.search(paper) or re.search(r"\barxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})", paper)
    return f"20{found[1][:2]}" if found else ""


def code_link(repository: object) -> str:
    """The address of a model's code, if it is one; empty otherwise."""
    return str(repository) if str(repository or "").startswith("https://") else ""


def version(number: int) -> str:
    """An evaluation's version, which is stored as 1000 × the measure's + that of what its parameters name: ``1.1``."""
    measure, named = divmod(number, 1000)
    return f"{measure}.{named}" if named else str(measure)


def circumstances(provenance: Mapping[str, Any]) -> str:
    """On what an evaluation ran, as it recorded it: hardware, then versions; empty if it recorded nothing."""
    device, processor = str(provenance.get("device") or ""), str(provenance.get("processor") or "")
    threads = provenance.get("threads")
    hardware = [
        processor if device == "cpu" and processor else device,
        f"{threads} thread{'s' if threads != 1 else ''}" if threads else "",
        str(provenance.get("platform") or ""),
    ]
    versions = {"Python": provenance.get("python")} | dict(provenance.get("packages") or {})
    software = [f"{name} {version}" for name, version in versions.items() if version]
    told = "; ".join(filter(None, (", ".join(filter(None, hardware)), ", ".join(software))))
    return f"{told}; taken from a bundle" if told and provenance.get("ingested") else told


def reported(number: int, of: int) -> str:
    """What part of a row another board has measured; empty if none."""
    return f"{number} of {of} evaluations were made by another board." if number else ""


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Parameters as ``norm=linf, eps=0.1``."""
    return ", ".join(
        f"{key}={_value(value)}" for key, value in sorted(parameters.items()) if value not in (None, "", [])
    )


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage without its sign: 0.853 is ``85.3``; ties are rounded up, as scripts do."""
    if value is None or math.isnan(value):
        return "–"
    return str(Decimal(100 * value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP))


def number(value: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits; ``–`` for none, ``∞`` for infinity."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    exact = Decimal(value)
    places = digits - 1 - exact.adjusted()
    rounded = exact.quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP)
    if rounded.adjusted() < -4:
        return f"{rounded:.{digits - 1}e}".replace("e-0", "e-")
    if rounded.adjusted() >= digits:
        return str(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit: a share in percent."""
    if value is None:
        return "–"
    return f"{percent(value)} %" if unit == "share" else number(value, 4)


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


def images(number: int) -> str:
    """So many images: ``1 image``, ``2 000 images``."""
    return f"{count(number)} image{'s' if number != 1 else ''}"


def date(moment: datetime | None) -> str:
    """A day: ``2026-03-01``."""
    return "–" if moment is None else moment.strftime("%Y-%m-%d")


def listed(items: Iterable[str], *, last: str = "and") -> str:
    """``a, b and c``."""
    words = list(items)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def lacking(titles: Sequence[str], what: str, most: int) -> str:
    """That some models have no value, with their names as far as there are few."""
    if not titles:
        return ""
    rest = len(titles) - most
    named = listed([*titles[:most], f"{rest} more"] if rest > 0 else titles)
    return f"{len(titles)} model{'s have' if len(titles) > 1 else ' has'} {what}: {named}."
