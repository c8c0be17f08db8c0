"""Residual networks for small images: ResNet-20, 32, 44, 56 of He et al. 2016 (arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn
from torch.nn import functional

VERSION: Final = 1


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut: the identity, or a 1×1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, before, h, w) to (n, after, h / stride, w / stride)."""
        hidden = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.shortcut(x))


def build(*, depth: int = 32, width: int = 16, channels: int = 3, classes: int = 10, dropout: float = 0.0) -> nn.Module:
    """Three stages of (depth − 2) / 6 blocks, of ``width``, 2·``width`` and 4·``width`` channels, and a linear layer.

    Args:
        depth: Layers with weights: 6k + 2.
        width: Channels of the first stage.
        channels: Of the images.
        classes: Number of classes.
        dropout: Probability, before the linear layer.

    Returns:
        Images, shape (n, channels, h, w), of any size, to logits, shape (n, classes).

    Raises:
        ValueError: If the depth is not 6k + 2.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth is {depth}; it is 6k + 2: 8, 14, 20, 32, 44, 56 …")
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    before = width
    for stage in range(3):
        for block in range(blocks):
            after = width * 2**stage
            layers.append(Block(before, after, stride=2 if stage and not block else 1))
            before = after
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(before, classes))
