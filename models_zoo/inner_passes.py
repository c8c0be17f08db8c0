"""Notices a model that optimises inside its forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from unittest import mock

import torch


class Count:
    """How many backward passes there were.

    Attributes:
        passes: So far.
    """

    def __init__(self) -> None:
        self.passes = 0


@contextmanager
def counted_backward_passes() -> Iterator[Count]:
    """Count the backward passes that are run inside, whoever calls them and by whatever function."""
    count = Count()
    engine = cast("Any", torch.autograd)._engine_run_backward

    def counted(*args: Any, **kwargs: Any) -> Any:
        count.passes += 1
        return engine(*args, **kwargs)

    with mock.patch.object(torch.autograd, "_engine_run_backward", counted):
        yield count
