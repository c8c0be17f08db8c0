"""Reads the weights of this card: MATLAB's file of a TensorFlow network, as it was published."""

from __future__ import annotations

from pathlib import Path

import scipy.io
import torch
from torch import Tensor


def convert(path: Path) -> dict[str, Tensor]:
    """The arrays of the file, whose digest has been verified, in float32."""
    arrays = scipy.io.loadmat(path)
    return {name: torch.from_numpy(array.astype("float32")) for name, array in arrays.items() if name[0] != "_"}
