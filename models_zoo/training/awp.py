"""Adversarial weight perturbation (Wu et al. 2020, arXiv:2004.05884)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

_TINY: Final = 1e-20


@contextmanager
def perturbed_weights(network: nn.Module, loss: Callable[[], Tensor], gamma: float) -> Iterator[None]:
    """The network's weights, while the block runs, where the loss is larger: each layer's moved by γ times its norm.

    The direction is the loss's gradient, normalised layer by layer, as in the published implementation; biases and
    parameters of normalisation stay.

    Args:
        network: In train mode; its running statistics are not touched by the extra pass.
        loss: The training loss at the network's present weights.
        gamma: Size of the perturbation relative to a layer's norm.
    """
    weights = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    statistics = [(b, b.clone()) for b in network.buffers()]
    gradients = torch.autograd.grad(loss(), weights, allow_unused=True)
    for buffer, before in statistics:
        buffer.copy_(before)
    moves = [
        None if g is None else gamma * w.detach().norm() * g / (g.norm() + _TINY)
        for w, g in zip(weights, gradients, strict=True)
    ]
    _move(weights, moves, 1)
    try:
        yield
    finally:
        _move(weights, moves, -1)


@torch.no_grad()
def _move(weights: list[nn.Parameter], moves: list[Tensor | None], sign: int) -> None:
    for weight, move in zip(weights, moves, strict=True):
        if move is not None:
            weight.add_(move, alpha=sign)
