"""The training images that measures set beside those of the slice."""

from __future__ import annotations

from torch import Tensor

from benchmark.errors import UnsupportedModelError
from benchmark.measures import Task


def training_batch(task: Task) -> tuple[Tensor, Tensor]:
    """As many training images as the chunk has, from the same position, with their labels, on the task's device.

    Raises:
        UnsupportedModelError: If the training split has fewer images than the slice.
    """
    split = task.splits["train"]
    stop = task.first + len(task.x)
    if split.size < stop:
        raise UnsupportedModelError(
            f"The training split has {split.size} images, the slice goes to {stop}; take a smaller --limit."
        )
    x, y = split.batch(task.first, stop)
    return x.to(task.x.device), y.to(task.x.device)
