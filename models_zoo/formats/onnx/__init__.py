"""Reads ONNX files into differentiable modules: the operators that image classifiers are made of.

Written here because the converter there is (onnx2torch) imports torchvision, and runtimes (onnxruntime) give no
gradients. The optional package ``onnx`` parses the file; data outside the file is refused, wherever it is.

Every attribute and every input of an operator is either honoured, as the operator's version in the file's opset defines
it, or the file is refused with the operator's name: what a handler does not ask for is an error (`call.Call.check`).
A file here holds a family of operators.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from torch import nn

from models_zoo.errors import WeightsError, ZooError, shown

VERSION: Final = 2
"""Raised whenever the same file would give other logits; it is part of the digest of every ONNX model."""


def load_onnx(path: Path, name: str) -> nn.Module:
    """The module of an ONNX file.

    Args:
        path: Where it lies.
        name: What it is called, for messages.

    Returns:
        Images, shape (n, c, h, w), to logits, shape (n, k).

    Raises:
        WeightsError: If the file is damaged, keeps data outside itself, takes or gives more than one tensor, uses an
            operator that is not in the tables, or one in a way that is not supported, or would cost too much.
        ZooError: If the package ``onnx`` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ZooError(f"{name}: ONNX files need an optional package: pip install 'curveboard[onnx]'.") from error
    from models_zoo.formats.fixed_batch import build
    from models_zoo.formats.onnx.reader import Reader

    try:
        model = onnx.load_model_from_string(path.read_bytes())
        reader = Reader(model, name)
        return build(reader.module, reader.shape)
    except ZooError:
        raise
    except Exception as error:  # protobuf and the shapes of a hostile graph fail in many ways; none is a bug here
        raise WeightsError(f"{name} is no sound ONNX file: {shown(error)}. Is it truncated?") from error
