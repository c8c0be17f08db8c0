"""Counts the passes through a model, whatever calls it."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from benchmark.twin import twin_of


class CountingModel(nn.Module):
    """A classifier that counts its passes, in images.

    Attributes:
        module: The classifier itself.
        forward_passes: Images passed forward so far.
        backward_passes: Images passed backward so far; a gradient of one class's logit counts as one pass.
        seconds: Time inside the forward passes, in seconds (asynchronous devices: time to issue them).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.forward_passes = 0
        self.backward_passes = 0
        self.seconds = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``x``, counted."""
        self.forward_passes += len(x)
        begin = time.perf_counter()
        logits: Tensor = self.module(x)
        self.seconds += time.perf_counter() - begin
        if logits.requires_grad and torch.is_grad_enabled():
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def double_twin(self) -> nn.Module | None:
        """The model's twin in float64, whose passes count here; see `benchmark.twin.twin_of`."""
        twin = twin_of(self.module)
        return None if twin is None else _CountedTwin(self, twin)

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)


class _CountedTwin(nn.Module):
    def __init__(self, counter: CountingModel, twin: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "counter", counter)  # no child: it is not a part of the twin
        self.counter: CountingModel
        self.twin = twin

    def forward(self, x: Tensor) -> Tensor:
        self.counter.forward_passes += len(x)
        logits: Tensor = self.twin(x)
        return logits
