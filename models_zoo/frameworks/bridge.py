"""A function of another framework as a torch module: its forward pass, and its vector–Jacobian product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Pullback = Callable[[Tensor], Tensor]
"""Gradients of logits, shape (n, k), to gradients of images."""


class ForeignModel(nn.Module):
    """A classifier that is computed elsewhere, differentiable once in its images.

    Batches are filled up to one of few sizes, with copies of their first image, since other frameworks compile a
    program a shape; what is computed of the copies is dropped.

    Args:
        forward: Images, float32, contiguous -> logits (n, k), float32: tensors of their own.
        linearise: The same, and the pullback of the logits' gradients to the images.
        n_parameters: Number of its parameters.
        channels_last: Whether it takes images as (n, h, w, c).

    Attributes:
        n_parameters: Number of its parameters.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        linearise: Callable[[Tensor], tuple[Tensor, Pullback]],
        *,
        n_parameters: int,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self._plain, self._linearise = forward, linearise
        self.n_parameters, self.channels_last = n_parameters, channels_last

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, k) of images (n, c, h, w), on the images' device."""
        shown = x.permute(0, 2, 3, 1) if self.channels_last else x
        if torch.is_grad_enabled() and x.requires_grad:
            return cast("Tensor", _Foreign.apply(shown, self))  # type: ignore[no-untyped-call]
        return self._plain(filled(shown))[: len(x)].to(x.device)

    def linearised(self, x: Tensor) -> tuple[Tensor, Pullback]:
        """Logits of a filled batch, and their pullback."""
        return self._linearise(filled(x))

    def double_twin(self) -> nn.Module | None:
        """None: it computes in float32 (`benchmark.twin.twin_of`)."""
        return None


class _Foreign(torch.autograd.Function):
    """The forward and the backward pass in the other framework."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, model: ForeignModel) -> Tensor:
        logits, ctx.pullback = model.linearised(x)
        ctx.like, ctx.rows = logits[:0], len(logits)
        ctx.device = x.device
        return logits[: len(x)].to(x.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = torch.zeros((ctx.rows, *gradient.shape[1:]), dtype=torch.float32, device=gradient.device)
        whole[: len(gradient)] = gradient
        return ctx.pullback(whole)[: len(gradient)].to(ctx.device), None


def filled(x: Tensor) -> Tensor:
    """A batch of one of few sizes (1, 2, 3, 4, 6, 8, 12, 16 …), its first image repeated; float32, contiguous."""
    n, size = len(x), filled_size(len(x))
    batch = x.detach().to(torch.float32)
    if n and size > n:
        batch = torch.cat([batch, batch[:1].expand(size - n, *batch.shape[1:])])
    return batch.contiguous()


def filled_size(n: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, 16 … that is at least ``n``: never a half more than needed."""
    power = 1 << max(n - 1, 0).bit_length()
    return 3 * power // 4 if power >= 4 and n <= 3 * power // 4 else power
