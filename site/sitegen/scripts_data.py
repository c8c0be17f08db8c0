"""The data files of scripts: each pushes a name and a value onto ``window.curveboard``; this works from disk too."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmark.curve import Floats
from sitegen.axes import Axis
from sitegen.facts import RowFacts, ThreatFacts

ESCAPE: Final = 24
"""Ones after which a fall is written out."""


def push(kind: str, value: Any) -> bytes:
    """A script that pushes ``[kind, value]``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"(window.curveboard ??= []).push([{json.dumps(kind)},{text}]);\n".encode()


def falls(counts: NDArray[Any]) -> str:
    """A falling sequence of whole numbers as base64 of its first value and its falls, in a Rice code.

    Bytes: the code's parameter k; the first value, seven bits a byte (LEB128); then bit by bit, the highest first, each
    fall as its quotient by 2ᵏ in ones, a zero, and its k lowest bits. A quotient of `ESCAPE` or more is `ESCAPE` ones,
    and the whole fall follows in 32 bits. Curves fall by little at most positions: a position takes one to six bits.
    """
    found = [int(fall) for fall in -np.diff(counts)]
    k = min(range(16), key=lambda k: sum(_rice_bits(fall, k) for fall in found))
    head = bytearray([k])
    rest = int(counts[0])
    while rest > 0x7F:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    bits = "".join(_rice(fall, k) for fall in found)
    bits += "0" * (-len(bits) % 8)
    return base64.b64encode(bytes(head) + int(bits or "0", 2).to_bytes(len(bits) // 8)).decode()


def _rice_bits(fall: int, k: int) -> int:
    quotient = fall >> k
    return quotient + 1 + k if quotient < ESCAPE else ESCAPE + 32


def _rice(fall: int, k: int) -> str:
    quotient = fall >> k
    if quotient >= ESCAPE:
        return "1" * ESCAPE + f"{fall:032b}"
    return "1" * quotient + "0" + (f"{fall & (1 << k) - 1:0{k}b}" if k else "")


def columnar(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Records with the same keys, by key: ``{"each": values}``, or ``{"of": [values, places]}`` where many are equal.

    A board of hundreds of models names the same architectures, papers and years again and again.
    """
    found: dict[str, Any] = {}
    for key in rows[0] if rows else ():
        values = [row[key] for row in rows]
        texts = [json.dumps(value, ensure_ascii=False) for value in values]
        kinds = list(dict.fromkeys(texts))
        place = {text: k for k, text in enumerate(kinds)}
        shared = [[json.loads(text) for text in kinds], [place[text] for text in texts]]
        found[key] = {"of": shared} if 2 * len(kinds) <= len(texts) else {"each": values}
    return found


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
