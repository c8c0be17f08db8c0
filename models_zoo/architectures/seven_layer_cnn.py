"""The seven-layer CNN of Carlini & Wagner 2017 (arXiv:1608.04644), used by the CLEVER paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import nn

VERSION: Final = 1


def build(
    *,
    shape: Sequence[int] = (1, 28, 28),
    channels: Sequence[int] = (32, 32, 64, 64),
    hidden: Sequence[int] = (200, 200),
    classes: int = 10,
) -> nn.Module:
    """Twice (3×3 convolution, ReLU, 3×3 convolution, ReLU, 2×2 max-pooling) without padding, then three full layers.

    Args:
        shape: Channels, height and width of an image; height and width at least 16 and such that no pixel is left over
            by the pooling (28 and 32 are).
        channels: Of the four convolutions.
        hidden: Widths of the two full layers before the last; dropout of 0.5 follows the first.
        classes: Number of classes.

    Returns:
        Images, shape (n, c, h, w), to logits, shape (n, classes).
    """
    first, second, third, fourth = channels
    height, width = (((side - 4) // 2 - 4) // 2 for side in shape[1:])
    return nn.Sequential(
        nn.Conv2d(shape[0], first, 3),
        nn.ReLU(),
        nn.Conv2d(first, second, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(second, third, 3),
        nn.ReLU(),
        nn.Conv2d(third, fourth, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(fourth * height * width, hidden[0]),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(hidden[0], hidden[1]),
        nn.ReLU(),
        nn.Linear(hidden[1], classes),
    )
