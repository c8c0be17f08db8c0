"""What a measure gives, held against what it declared: a result of another shape or range is a failed job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import InputError
from benchmark.results import PER_SAMPLE, Kind, Output, Score, Summary, Table

Arrays = Mapping[str, NDArray[Any]]

_NUMBERS: Mapping[Kind, str] = {"upper": "f", "lower": "f", "estimate": "f", "verdict": "bf"}
"""The dtype kinds of an output's array: floating point, or of a verdict also bool."""


def check_declaration(measure: str, outputs: Sequence[Output]) -> None:
    """Raise `InputError` unless names are unique, and every output says what its kind needs."""
    names = [output.name for output in outputs]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"The measure {measure!r} declares two outputs called {', '.join(doubled)}.")
    for output in outputs:
        lacking = ""
        if output.kind in PER_SAMPLE and not output.array:
            lacking = "the name of its array"
        elif output.kind in {"upper", "lower", "verdict"} and output.threat is None:
            lacking = "its threat"
        elif output.kind == "upper" and output.array != f"distance_{output.threat}":
            lacking = f"the array distance_{output.threat}, which the evaluator measures"
        elif output.kind in {"grid", "trace"} and not output.axes:
            lacking = "its axes"
        elif output.kind == "trace" and len(output.axes) != 1:
            lacking = "one axis alone, that of the work"
        if lacking:
            raise InputError(f"The measure {measure!r} declares the {output.kind} {output.name!r} without {lacking}.")


def check_arrays(measure: str, arrays: Arrays, outputs: Sequence[Output], n: int) -> None:
    """Raise `InputError` unless every array has ``n`` rows, and those of declared outputs are in their range.

    Distances and radii are floats >= 0, infinity included; estimates may be undefined (NaN) where there is none.
    """
    for name, array in arrays.items():
        if array.shape[:1] != (n,):
            raise InputError(f"{measure}: the array {name!r} has the shape {array.shape}; its first axis must be {n}.")
        if array.dtype.kind not in "biufSU":
            raise InputError(f"{measure}: the array {name!r} is of {array.dtype}, which is neither numbers nor text.")
    for output in outputs:
        if output.kind not in PER_SAMPLE:
            continue
        if output.array not in arrays:
            raise InputError(f"{measure}: the output {output.name!r} was declared, but there is no {output.array!r}.")
        _check_values(measure, output, arrays[output.array])


def _check_values(measure: str, output: Output, array: NDArray[Any]) -> None:
    where = f"{measure}: the array {output.array!r} of the {output.kind} {output.name!r}"
    if array.ndim != 1 or array.dtype.kind not in _NUMBERS[output.kind]:
        raise InputError(f"{where} is {array.dtype} of shape {array.shape}; expected one number a sample.")
    if array.dtype.kind == "b":
        return
    undefined = np.isnan(array)
    if output.kind != "estimate" and undefined.any():
        raise InputError(f"{where} is NaN, first at row {int(undefined.argmax())}; say inf where nothing is known.")
    negative = array < 0
    if negative.any():
        row = int(negative.argmax())
        raise InputError(f"{where} is {array[row]:.6g} at row {row}; a distance is never negative.")


def check_summary(measure: str, given: Summary | Sequence[Score], outputs: Sequence[Output]) -> Summary:
    """The summary, checked: scores are numbers of unique names, and each grid and trace has a table of its axes."""
    summary = given if isinstance(given, Summary) else Summary(tuple(given))
    names = [score.name for score in summary.scores]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InputError(f"{measure}: there are two scores called {', '.join(doubled)}.")
    declared = {output.name: output for output in outputs if output.kind in {"grid", "trace"}}
    undeclared = sorted(set(summary.tables) - set(declared))
    if undeclared:
        raise InputError(f"{measure}: tables were given that are not declared: {', '.join(undeclared)}.")
    for name, output in declared.items():
        if name not in summary.tables:
            raise InputError(f"{measure}: the {output.kind} {name!r} was declared, but there is no such table.")
        _check_table(measure, output, summary.tables[name])
    return summary


def _check_table(measure: str, output: Output, table: Table) -> None:
    expected = tuple(len(axis.labels) for axis in output.axes)
    for part in (table.values, table.low, table.high):
        if part is not None and np.shape(part) != expected:
            raise InputError(
                f"{measure}: the {output.kind} {output.name!r} has the shape {np.shape(part)}; its axes say {expected}."
            )
