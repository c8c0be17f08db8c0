"""The tables of operators, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from models_zoo.formats.onnx import (
    activations,
    arithmetic,
    convolution,
    indexing,
    linear,
    normalisation,
    pooling,
    reductions,
    resizing,
    shapes,
    sized,
)
from models_zoo.formats.onnx.call import Call

OPERATORS: Final[Mapping[str, Callable[[Call], Any]]] = {
    **activations.TABLE,
    **arithmetic.TABLE,
    **convolution.TABLE,
    **indexing.TABLE,
    **linear.TABLE,
    **normalisation.TABLE,
    **pooling.TABLE,
    **reductions.TABLE,
    **resizing.TABLE,
    **shapes.TABLE,
}
"""The operators there are: each makes a value, or a list of the values of its first outputs."""

ON_SIZES: Final[Mapping[str, Callable[[Call], Any]]] = sized.TABLE
"""What those among them do that shapes are computed with, on numbers that follow the number of images."""
