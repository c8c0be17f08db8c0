"""The data files of scripts: each pushes a name and a value onto ``window.curveboard``; this works from disk too."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from sitegen.axes import Axis
from sitegen.facts import RowFacts, ThreatFacts


def push(kind: str, value: Any) -> bytes:
    """A script that pushes ``[kind, value]``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"(window.curveboard ??= []).push([{json.dumps(kind)},{text}]);\n".encode()


def falls(counts: NDArray[Any]) -> str:
    """A falling sequence of whole numbers as base64 of its first value and its falls, seven bits a byte (LEB128)."""
    out = bytearray()
    for number in (int(counts[0]), *(-np.diff(counts)).tolist()):
        rest = number
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return base64.b64encode(bytes(out)).decode()


def words16(values: NDArray[Any]) -> str:
    """Whole numbers below 65,536 as base64 of two bytes each, the low one first."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<u2").tobytes()).decode()


def bins_js(facts: RowFacts, sheets: Sequence[str]) -> bytes:
    """What the compare page needs of a model, sample by sample: a sample is robust at position i iff i < its bin.

    Args:
        facts: The row.
        sheets: The threats that have a sheet of adversarial examples.
    """
    threats = {threat: _threat(found) for threat, found in facts.threats.items()}
    return push("bins", {"slug": facts.row.model.slug, "n": facts.n, "threats": threats, "sheets": list(sheets)})


def bins(distances: Floats, axis: Axis) -> NDArray[np.int64]:
    """The first position of the axis at which each sample is broken; their number where it is robust everywhere."""
    return np.searchsorted(axis.limits, distances, side="left")


def _threat(facts: ThreatFacts) -> dict[str, Any]:
    grid = facts.axis.grid
    found: dict[str, Any] = {"bins": words16(bins(facts.curve.distances, facts.axis))}
    if facts.lower is not None:
        found["certified"] = falls(len(facts.lower) - np.searchsorted(np.sort(facts.lower), grid, side="right"))
    return found
