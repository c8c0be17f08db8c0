"""What a process shares with whatever runs in it: torch's defaults, random states, the folder, the environment."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch


def _use_deterministic(mode: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def _set_environment(before: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(before)


_entered: list[torch.inference_mode] = []
"""Contexts that stay entered: one that is deleted ends."""


def _inference(mode: bool) -> None:
    _entered.append(torch.inference_mode(mode))
    _entered[-1].__enter__()


def _set_device(before: torch.device) -> None:
    torch.set_default_device(None if before.type == "cpu" else before)  # None: as if nothing had ever been set


_TOLD: Final[dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, _set_device),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's inference mode": (torch.is_inference_mode_enabled, _inference),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch's deterministic mode": (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        _use_deterministic,
    ),
    "numpy's handling of errors": (np.geterr, lambda before: np.seterr(**before)),
    "the working folder": (Path.cwd, os.chdir),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
}
"""What is put back and told of: name -> how it is read and set."""


@contextmanager
def kept() -> Iterator[list[str]]:
    """Put the global state back when the block ends, however it ends.

    Yields:
        Filled in when the block ends: what had been changed. Random states, filters of warnings and new variables of
        the environment are put back without being told of: many attacks, and libraries at their import, set them, and
        no result depends on it.
    """
    environment = dict(os.environ)
    before = {name: read() for name, (read, _) in _TOLD.items()}
    numbers, python, filters = np.random.get_state(), random.getstate(), list(warnings.filters)
    changed: list[str] = []
    try:
        yield changed
    finally:
        for name, (read, put) in _TOLD.items():
            if _differs(read, before[name]):
                changed.append(name)
                put(before[name])
        if any(os.environ.get(name) != value for name, value in environment.items()):
            changed.append("the environment")
        _set_environment(environment)
        np.random.set_state(numbers)
        random.setstate(python)
        if list(warnings.filters) != filters:
            warnings.filters[:] = filters  # type: ignore[index]


def _differs(read: Callable[[], Any], before: Any) -> bool:
    try:
        return bool(read() != before)
    except OSError:  # the working folder has been deleted
        return True
