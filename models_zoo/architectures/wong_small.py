"""The small convolutional network of Wong & Kolter 2018 (arXiv:1711.00851), for 28×28 images of one channel."""

from __future__ import annotations

from typing import Final

from torch import nn

VERSION: Final = 1


def build(*, classes: int = 10) -> nn.Module:
    """``Conv(1,16,4,s2,p1) ReLU Conv(16,32,4,s2,p1) ReLU Flatten FC(1568,100) ReLU FC(100,classes)``.

    Args:
        classes: Number of classes.

    Returns:
        Images, shape (n, 1, 28, 28), to logits, shape (n, classes).
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, classes),
    )
