"""The architectures of timm (Wightman 2019), an optional package."""

from __future__ import annotations

from typing import Final

from torch import nn

from models_zoo.optional import optional

VERSION: Final = 1


def build(*, name: str, classes: int) -> nn.Module:
    """The network that timm calls ``name``, without weights.

    Args:
        name: For instance ``"resnet50"``.
        classes: Number of classes.

    Raises:
        ZooError: If timm is not installed, or cannot be imported.
    """
    timm = optional("timm", extra="timm", what=f"The architecture timm:{name}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return network
