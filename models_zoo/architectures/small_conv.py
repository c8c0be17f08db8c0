"""A small convolutional network for images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import nn

VERSION: Final = 1


def build(*, shape: Sequence[int], channels: Sequence[int], hidden: int, classes: int) -> nn.Module:
    """3×3 convolutions with ReLU, the second and later ones with stride 2, then two fully connected layers.

    Args:
        shape: (c, h, w) of the images.
        channels: Output channels of each convolution.
        hidden: Width of the fully connected hidden layer.
        classes: Number of classes.

    Returns:
        Images, shape (n, c, h, w), to logits, shape (n, classes).
    """
    before, height, width = shape
    layers: list[nn.Module] = []
    for i, after in enumerate(channels):
        stride = 2 if i else 1
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.ReLU()]
        before, height, width = after, -(-height // stride), -(-width // stride)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(before * height * width, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )
