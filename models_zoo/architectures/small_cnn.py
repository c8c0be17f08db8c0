"""SmallCNN: the MNIST network of Carlini & Wagner 2017 and of TRADES (Zhang et al. 2019, arXiv:1901.08573)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from torch import nn

VERSION: Final = 1


def build(*, classes: int = 10) -> nn.Module:
    """Twice ``Conv(32,3) ReLU``, ``MaxPool2``, twice ``Conv(64,3) ReLU``, ``MaxPool2``, twice ``FC(200)``; unpadded.

    Args:
        classes: Number of classes.

    Returns:
        Images, shape (n, 1, 28, 28), to logits, shape (n, classes).
    """
    features = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(1, 32, 3),
        relu1=nn.ReLU(),
        conv2=nn.Conv2d(32, 32, 3),
        relu2=nn.ReLU(),
        maxpool1=nn.MaxPool2d(2),
        conv3=nn.Conv2d(32, 64, 3),
        relu3=nn.ReLU(),
        conv4=nn.Conv2d(64, 64, 3),
        relu4=nn.ReLU(),
        maxpool2=nn.MaxPool2d(2),
    )
    classifier = OrderedDict[str, nn.Module](
        fc1=nn.Linear(64 * 4 * 4, 200),
        relu1=nn.ReLU(),
        drop=nn.Dropout(0.5),
        fc2=nn.Linear(200, 200),
        relu2=nn.ReLU(),
        fc3=nn.Linear(200, classes),
    )
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            feature_extractor=nn.Sequential(features), flatten=nn.Flatten(), classifier=nn.Sequential(classifier)
        )
    )
