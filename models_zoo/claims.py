"""Figures that others report, taken from the cards they publish: shown beside ours, never ranked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from models_zoo.cards import MAX_CARD_BYTES, Claim
from models_zoo.errors import CardError

NORMS = {"Linf": "linf", "L2": "l2", "L1": "l1"}


def robustbench_claims(path: Path, *, norm: str | None = None) -> tuple[Claim, ...]:
    """The claims of a RobustBench card (a JSON file of its ``model_info``).

    Args:
        path: The file; it usually lies as ``model_info/<dataset>/<threat model>/<name>.json``.
        norm: ``linf``, ``l2`` or ``l1``; by default what the file's folder says.

    Raises:
        CardError: If it cannot be read, or has no figure.
    """
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise CardError(f"{path} has {path.stat().st_size} bytes; a card has at most {MAX_CARD_BYTES}.")
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CardError(f"The RobustBench card {path} cannot be read: {error}.") from error
    if not isinstance(info, dict):
        raise CardError(f"The RobustBench card {path} is a {type(info).__name__}, expected an object.")
    norm = norm or NORMS.get(path.parent.name)
    eps = _number(path, info, "eps")
    figures = (
        ("clean_accuracy", "clean_acc", "RobustBench", False),
        ("robust_accuracy", "reported", "reported by the authors, after RobustBench", True),
        ("robust_accuracy", "autoattack_acc", "AutoAttack, after RobustBench", True),
        ("robust_accuracy", "external", "an external evaluation, after RobustBench", True),
    )
    claims = []
    for name, key, source, robust in figures:
        value = _number(path, info, key)
        if value is not None:
            _check_percentage(path, key, value)
            claims.append(Claim(name, value / 100, source, norm if robust else None, eps if robust else None))
    if not claims:
        raise CardError(f"The RobustBench card {path} has none of {', '.join(key for _, key, _, _ in figures)}.")
    return tuple(claims)


def card_in(path: Path, *, arguments: Mapping[str, Any]) -> Path:
    """The card of a model in a folder with RobustBench's whole ``model_info`` tree; a file is its own.

    Args:
        path: A card, or the folder that holds ``<dataset>/<threat model>/<name>.json``.
        arguments: Those of the model's architecture, ``robustbench``: ``dataset``, ``threat_model``, ``name``.

    Raises:
        CardError: If the folder has no card of this model, or the model is none of RobustBench's.
    """
    if not path.is_dir():
        return path
    parts = [str(arguments.get(key, "")) for key in ("dataset", "threat_model", "name")]
    if not all(parts):
        raise CardError(
            f"{path} is a folder of RobustBench cards, of which one is found for models --from robustbench:…; "
            "give the card itself, <dataset>/<threat model>/<name>.json."
        )
    card = path.joinpath(*parts[:2], f"{parts[2]}.json")
    if not card.resolve().is_relative_to(path.resolve()) or not card.is_file():
        raise CardError(
            f"{path} has no {'/'.join(parts)}.json: give the folder model_info of RobustBench's repository."
        )
    return card


def _check_percentage(path: Path, key: str, value: float) -> None:
    """RobustBench gives per cent; a share in its place would be published as a hundredth of what is meant."""
    if not 0 <= value <= 100 or (key == "clean_acc" and 0 < value <= 1):
        hint = f" ({value:g} as a share would be {100 * value:g} %)" if 0 < value <= 1 else ""
        raise CardError(f"The RobustBench card {path} has {key} = {value:g}; needed is a percentage, 0 to 100{hint}.")


def _number(path: Path, info: Mapping[str, Any], key: str) -> float | None:
    """A number that RobustBench writes as text: "95.28", "8/255"; None for what is missing or "---"."""
    value = info.get(key)
    if value in (None, "", "---", "-") or isinstance(value, bool):
        return None
    try:
        return float(Fraction(str(value)[:40]))
    except (ValueError, ZeroDivisionError) as error:
        raise CardError(f"The RobustBench card {path} has {key} = {str(value)[:40]!r}; that is no number.") from error
