"""The MNIST LeNet of advertorch's examples (Ding, Wang & Jin 2019, arXiv:1902.07623)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from torch import nn

VERSION: Final = 1


def build(*, classes: int = 10) -> nn.Module:
    """``Conv(1,32,3,p1) ReLU MaxPool2 Conv(32,64,3,p1) ReLU MaxPool2 FC(3136,200) ReLU FC(200,classes)``.

    Args:
        classes: Number of classes.

    Returns:
        Images, shape (n, 1, 28, 28), to logits, shape (n, classes).
    """
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(1, 32, 3, padding=1),
            relu1=nn.ReLU(),
            maxpool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 3, padding=1),
            relu2=nn.ReLU(),
            maxpool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            linear1=nn.Linear(64 * 7 * 7, 200),
            relu3=nn.ReLU(),
            linear2=nn.Linear(200, classes),
        )
    )
