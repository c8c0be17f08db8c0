"""Arithmetic on a few numbers: numpy's on the CPU, torch's elsewhere.

A search does some fifty operations on one number a row beside each pass of a network. On the CPU a call of torch takes
about ten microseconds there, one of numpy one or two; both know the operators and `where`, so one text serves for both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_array(tensor: Tensor) -> Any:
    """On the CPU the tensor's memory as a numpy array, elsewhere the tensor itself."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def as_tensor(array: Any) -> Tensor:
    """The tensor that has the memory of what `as_array` gave, or of what was computed from it."""
    return array if isinstance(array, Tensor) else torch.from_numpy(array)


def where(condition: Any, *choices: Any) -> Any:
    """`torch.where` or `numpy.where`: with no choices the indices, a tuple."""
    return torch.where(condition, *choices) if isinstance(condition, Tensor) else np.where(condition, *choices)


def dots(a: Tensor, b: Tensor) -> Any:
    """Inner product of each row of one matrix with that of the other, shapes (n, d) -> (n,), as of `as_array`."""
    return np.vecdot(a.numpy(), b.numpy()) if a.device.type == "cpu" else torch.linalg.vecdot(a, b)
