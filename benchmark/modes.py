"""Eval mode for the time of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode while the block runs; then every module's own mode is back, such as a batch norm frozen in training.

    A frozen TorchScript module has no mode any more: what it computes was settled when it was frozen.
    """
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
