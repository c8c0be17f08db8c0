"""Models that come as a program without code: ``torch.export`` archives (``.pt2``) and ONNX files.

The libraries' own readers cannot be used on a stranger's file: `torch.export.load` unpickles weights, constants and
sample inputs, and evaluates the expressions of symbolic shapes as Python. So the graph is read here as data, each of
its operations is looked up in a table of pure tensor functions, and what is not in the table is refused by name. The
result is an ordinary `torch.fx.GraphModule`: differentiable, and open to whatever traces modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models_zoo.errors import WeightsError

if TYPE_CHECKING:
    from torch import nn


def load_program(path: Path, name: str) -> nn.Module:
    """The module of a program file whose size and digest have been verified.

    Args:
        path: Where the file lies.
        name: What it is called; the suffix says the format.

    Raises:
        WeightsError: If it is damaged, holds anything but arrays and operations of the table, or is of another format.
    """
    suffix = Path(name).suffix.lower()
    if suffix == ".pt2":
        from models_zoo.formats.pt2 import load_pt2

        return load_pt2(path, name)
    if suffix == ".onnx":
        from models_zoo.formats.onnx import load_onnx

        return load_onnx(path, name)
    raise WeightsError(f"{name}: a program ends in .pt2 (torch.export.save) or .onnx, not in {suffix or 'nothing'}.")
