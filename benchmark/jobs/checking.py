"""The conformance report of a submission, made in a process of its own."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.apart import Limits, StoppedError, run_apart
from benchmark.conformance import Check, Report, check_conformance
from models_zoo import Entry
from models_zoo.loading import load_entry


@dataclass(frozen=True)
class Checked:
    """A report, and the wall time in seconds that it took."""

    report: Report
    seconds: float


def check_apart(
    entry: Entry,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    *,
    classes: int,
    claimed_accuracy: float | None = None,
    device: str = "cpu",
    limits: Limits | None = None,
) -> Checked:
    """Load a model and check it, in a child process; see `benchmark.conformance.check_conformance`.

    Args:
        entry: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        classes: Number of classes.
        claimed_accuracy: Clean accuracy that its authors report.
        device: Where it is checked.
        limits: What it may use. Beyond them the model is refused, in a line of the report.

    Raises:
        InputError: If the model cannot be loaded.
    """
    begin = time.perf_counter()
    about = {"classes": classes, "claimed_accuracy": claimed_accuracy}
    try:
        checks = run_apart(_check, entry, (x, y), device, about, limits=limits or Limits(), device=device)
    except StoppedError as error:
        checks = [dataclasses.asdict(Check(error.kind, "refuse", math.nan, "", str(error)))]
    return Checked(Report(tuple(Check(**check) for check in checks)), time.perf_counter() - begin)


def _check(
    entry: Entry, data: tuple[NDArray[np.float32], NDArray[np.int64]], device: str, about: Mapping[str, Any]
) -> list[dict[str, Any]]:
    module = load_entry(entry, device=device)
    x, y = (torch.from_numpy(array).to(device) for array in data)
    return [dataclasses.asdict(check) for check in check_conformance(module, x, y, **about).checks]
