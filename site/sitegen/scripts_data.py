"""The data files of scripts: each pushes a name and a value onto ``window.curveboard``; this works from disk too."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats, RobustnessCurve
from sitegen.facts import NormFacts, RowFacts


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
        sheets: The norms that have a sheet of adversarial examples.
    """
    norms = {norm: _norm(found) for norm, found in facts.norms.items()}
    return push("bins", {"slug": facts.row.model.slug, "n": facts.n, "norms": norms, "sheets": list(sheets)})


def _norm(facts: NormFacts) -> dict[str, Any]:
    grid = facts.axis.grid
    found: dict[str, Any] = {"bins": words16(np.searchsorted(grid, facts.curve.distances, side="left"))}
    for name, values in (("certified", facts.lower), ("clever", facts.clever)):
        if values is not None:
            found[name] = falls(_counts(values, grid))
    return found


def _counts(values: Floats, grid: Floats) -> NDArray[np.int64]:
    """How many of the values exceed each position."""
    curve = RobustnessCurve(np.maximum(np.nan_to_num(values, nan=0.0), 0.0), "linf")
    return np.rint(curve.robust_accuracy(grid) * len(curve)).astype(np.int64)
