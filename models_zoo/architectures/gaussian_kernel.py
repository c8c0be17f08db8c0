"""Gaussian-kernel classifiers: a weighted sum of bumps around fixed images."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

VERSION: Final = 1


class GaussianKernelClassifier(nn.Module):
    """Logits ``f_k(x) = Σ_r weight_kr · exp(-gamma ‖x - centre_r‖²) + bias_k``.

    Attributes:
        centres: Flat images, shape (m, d).
        weight: Shape (k, m).
        bias: Shape (k,).
        gamma: Inverse squared width of the kernel, > 0; a buffer, so that it is stored with the weights.
    """

    def __init__(self, *, inputs: int, centres: int, outputs: int, gamma: float) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.rand(centres, inputs))
        self.weight = nn.Parameter(torch.zeros(outputs, centres))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("gamma", torch.tensor(float(gamma)))
        self.gamma: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, k) of images (n, c, h, w)."""
        flat = x.flatten(1)
        # Expanded, ‖x‖² + ‖c‖² - 2<x, c>: a difference for each pair of image and centre would not fit the memory.
        squared = flat.square().sum(dim=1, keepdim=True) + self.centres.square().sum(dim=1) - 2 * flat @ self.centres.T
        return torch.exp(-self.gamma * squared.clamp(min=0)) @ self.weight.T + self.bias


def build(*, inputs: int, centres: int, outputs: int, gamma: float) -> nn.Module:
    """A classifier by Gaussian kernels, for instance a kernel machine's solution.

    Args:
        inputs: Values an image, c·h·w.
        centres: Number of kernels.
        outputs: Number of classes.
        gamma: Inverse squared width of the kernel; the stored weights hold it too, and theirs counts.

    Returns:
        Images, shape (n, c, h, w), to logits, shape (n, outputs).

    Raises:
        ValueError: If gamma is not positive.
    """
    if not gamma > 0:
        raise ValueError(f"gamma is {gamma}; the kernel exp(-gamma ‖x - c‖²) needs a positive one")
    return GaussianKernelClassifier(inputs=inputs, centres=centres, outputs=outputs, gamma=gamma)


def initialise(network: nn.Module, x: Tensor) -> None:
    """Put the centres on the first training images, flat; the weights start at 0."""
    centres = network.get_parameter("centres")
    centres.data.copy_(x[: len(centres)].flatten(1))
