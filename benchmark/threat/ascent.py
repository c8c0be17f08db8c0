"""Projected steepest ascent: the inner maximisation of adversarial training, and of measures of a loss in a ball."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.threat import project_ball_

DenseNorm = Literal["linf", "l2"]
"""The norms in which a steepest step changes every pixel, as training wants it."""


def ascend(
    loss: Callable[[Tensor], Tensor],
    x: Tensor,
    start: Tensor,
    *,
    norm: DenseNorm,
    eps: float,
    step: float,
    steps: int,
) -> Tensor:
    """Maximise a loss over images within a ball and the box.

    Args:
        loss: Of perturbed images, shape (n, c, h, w), to a scalar that sums or averages over the samples.
        x: Clean images, shape (n, c, h, w), in [0, 1].
        start: Perturbations to start from, the same shape.
        norm: Whose ball.
        eps: Its radius.
        step: Length of a step.
        steps: How many.

    Returns:
        Perturbed images in the ball and in [0, 1], detached.
    """
    delta = inside(start, norm, eps)
    for _ in range(steps):
        delta = ((x + delta).clamp(0, 1) - x).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x + delta), delta)
        delta = inside(delta.detach() + step * steepest(gradient, norm), norm, eps)
    return (x + delta.detach()).clamp(0, 1)


def steepest(gradient: Tensor, norm: DenseNorm) -> Tensor:
    """The direction of norm 1 in which a linear function rises most, shape of ``gradient``."""
    if norm == "linf":
        return gradient.sign()
    return gradient / _length(gradient).clamp(min=1e-12)


def inside(delta: Tensor, norm: DenseNorm, eps: float) -> Tensor:
    """The nearest perturbation within the ball, shape (n, c, h, w)."""
    flat = delta.flatten(1).clone()
    radius = torch.full((len(flat),), eps, dtype=flat.dtype, device=flat.device)
    return project_ball_(flat, norm, radius).view_as(delta)


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape and type of ``x``, drawn on the CPU: the same on every device."""
    return torch.randn(x.shape, dtype=x.dtype, generator=generator, device="cpu").to(x.device)


def uniform(x: Tensor, generator: torch.Generator, eps: float) -> Tensor:
    """Uniform noise in [−eps, eps], drawn as `noise` is."""
    return (2 * torch.rand(x.shape, dtype=x.dtype, generator=generator, device="cpu") - 1).mul_(eps).to(x.device)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode while an attack runs, as the published implementations do, so that it updates no running statistics."""
    was = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was)


def _length(delta: Tensor) -> Tensor:
    return delta.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
