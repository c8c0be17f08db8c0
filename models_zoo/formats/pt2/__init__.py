"""Reads ``torch.export`` archives without running anything they say.

An archive is a zip file with ``models/<name>.json`` (the graph of ATen operations), ``data/weights/`` and
``data/constants/`` (raw numbers, and an index of their shapes). Members that are pickles are refused where they are
needed, and never opened otherwise (the sample inputs).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

from torch import nn

from models_zoo.errors import WeightsError, shown
from models_zoo.formats.weights import refuse_packed_zip

VERSION: Final = 2
"""Raised whenever the same archive would give other logits; it is part of the digest of every model of this form."""


def load_pt2(path: Path, name: str) -> nn.Module:
    """The module of a ``.pt2`` archive.

    Args:
        path: Where it lies.
        name: What it is called, for messages.

    Returns:
        Images, shape (n, c, h, w), to logits, shape (n, k).

    Raises:
        WeightsError: If the archive is damaged, holds a pickle where numbers should be, was exported in training mode,
            takes or gives more than one tensor, uses an operation that is not in the tables, or one in a way that is
            not supported, or would cost too much.
    """
    from models_zoo.formats.fixed_batch import build
    from models_zoo.formats.pt2.reader import Reader

    refuse_packed_zip(path, name)
    try:
        with zipfile.ZipFile(path) as archive:
            reader = Reader(archive, name)
            return build(reader.module, reader.shape)
    except WeightsError:
        raise
    except (
        zipfile.BadZipFile, OSError, RecursionError, KeyError, ValueError, TypeError, AttributeError, IndexError,
        StopIteration, RuntimeError, AssertionError, NotImplementedError, OverflowError, ArithmeticError,
    ) as error:  # fmt: skip
        raise WeightsError(
            f"{name} is no sound torch.export archive: {shown(error)}. Is it truncated? "
            "Save it again with torch.export.save."
        ) from error
