"""What the values of a bundle's manifest can be at all, whatever they claim: kinds, ranges and sizes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from db.schema import State

MOST_TEXT: Final = 4000
MOST_JSON: Final = 200_000
MOST_SECONDS: Final = 1e9
"""Thirty years: no evaluation takes longer."""
LARGEST: Final = 2**63 - 1
"""The largest whole number that a database holds; versions are counted in fewer."""
SKEW: Final = timedelta(days=1)
"""By how much another board's clock may be ahead."""


def check_manifest(manifest: Mapping[str, Any], *, size: int) -> None:
    """Refuse a manifest that holds what cannot be.

    Args:
        manifest: The manifest; its lists of tables are such.
        size: Number of images of its dataset.

    Raises:
        ValueError, TypeError, KeyError: With what is wrong.
    """
    for protocol in manifest["protocols"]:
        _text("a protocol's title", protocol["title"])
        _whole("a protocol's version", protocol["version"], 0, 2**31 - 1)
        _json("a protocol", protocol["spec"])
    keys = [values["key"] for values in manifest["evaluations"]]
    if len(set(map(str, keys))) < len(keys):
        raise ValueError("it has an evaluation twice")
    for values in manifest["evaluations"]:
        _evaluation(values, size)


def _evaluation(values: Mapping[str, Any], size: int) -> None:
    n = _whole("a slice", values["n"], 1, size)
    _whole("a number of samples", values["samples"], 1, n)
    _whole("a seed", values["seed"], 0, LARGEST)
    for name in ("version", "attack_version"):
        _whole(f"a {name}", values[name], 0, 2**31 - 1)
    if State(values["state"]) not in {State.DONE, State.UNSUPPORTED}:
        raise ValueError(f"an evaluation is {values['state']!r}, not finished")
    for _, _, slice_ in values["cells"]:
        _whole("a row's slice", slice_, 1, size)
    _json("a provenance", values["provenance"])
    _provenance(values["provenance"])
    _text("a reason", values["reason"] or "")
    _moment(values["finished_at"])
    starts = [chunk["start"] for chunk in values["chunks"]]
    if len(set(starts)) < len(starts):
        raise ValueError("an evaluation has a chunk twice")
    for chunk in values["chunks"]:
        _number("seconds", chunk["seconds"], 0.0, MOST_SECONDS)
        for name in ("forward_passes", "backward_passes"):
            _whole(name, chunk[name], 0, LARGEST)
        for note in chunk["notes"]:
            _flag(note)
    for flag in values["flags"]:
        _flag(flag)
    for score in values["scores"]:
        _score(score)


def _provenance(values: Mapping[str, Any]) -> None:
    """Refuse what the readers of a provenance would stumble over: the boards, the credit, the pages."""
    for name in ("method", "packages", "sources"):
        if not isinstance(values.get(name, {}), dict):
            raise TypeError(f"a provenance's {name} is {str(values[name])[:40]!r}, no table")
    for name, value in values.get("method", {}).items():
        _text(f"a method's {name}", value or "")
    for name, value in values.get("sources", {}).items():
        _whole(f"a number of examples from {name[:80]!r}", value, 0, LARGEST)
    for name, value in values.get("packages", {}).items():
        _text(f"the version of {name[:80]!r}", value or "")


def _score(score: Mapping[str, Any]) -> None:
    _text("a score's name", score["name"], 80)
    for name in ("value", "low", "high"):
        if score[name] is not None:
            _number(f"a score's {name}", score[name], -math.inf, math.inf)
    if score["low"] is not None and score["high"] is not None and score["low"] > score["high"]:
        raise ValueError(f"the interval of {score['name']!r} goes from {score['low']} to {score['high']}")
    if score["confidence"] is not None:
        _number("a confidence", score["confidence"], 0.0, 1.0)


def _flag(flag: Mapping[str, Any]) -> None:
    _text("a flag's code", flag["code"], 80)
    _text("a flag's message", flag["message"])
    if flag["value"] is not None and not isinstance(flag["value"], int | float):
        raise TypeError(f"a flag's value is {str(flag['value'])[:40]!r}")


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {str(value)[:40]}; it is a whole number from {low} to {high}")
    return value


def _number(name: str, value: Any, low: float, high: float) -> None:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} is {str(value)[:40]}; it is a finite number from {low:g} to {high:g}")


def _text(name: str, value: Any, most: int = MOST_TEXT) -> None:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{name} is {str(value)[:40]!r}; it is a text of at most {most} characters")


def _json(name: str, value: Any) -> None:
    if not isinstance(value, dict) or len(json.dumps(value)) > MOST_JSON:
        raise ValueError(f"{name} is no table of at most {MOST_JSON} characters")


def _moment(value: Any) -> None:
    if value is None:
        return
    _text("a date", value, 40)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None or moment > datetime.now(UTC) + SKEW:
        raise ValueError(f"the date {value} has no zone, or has not come yet")
