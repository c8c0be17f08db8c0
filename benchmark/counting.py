"""Counts the passes through a model, whatever calls it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.twin import twin_of


@dataclass
class Passes:
    """What was counted.

    Attributes:
        forward: Images passed forward so far.
        backward: Images passed backward so far; a gradient of one class's logit counts as one pass.
        seconds: Time inside the forward passes, in seconds (asynchronous devices: time to issue them).
    """

    forward: int = 0
    backward: int = 0
    seconds: float = 0.0


class CountingModel(nn.Module):
    """A classifier that counts its passes, in images.

    Attributes:
        module: The classifier itself.
        passes: The counts, in an object of their own: an attack's changes of the model's attributes are put back
            (`benchmark.isolation`), its passes stay counted.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.passes = Passes()

    @property
    def forward_passes(self) -> int:
        """Images passed forward so far."""
        return self.passes.forward

    @property
    def backward_passes(self) -> int:
        """Images passed backward so far."""
        return self.passes.backward

    @property
    def seconds(self) -> float:
        """Time inside the forward passes."""
        return self.passes.seconds

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``x``, counted."""
        self.passes.forward += len(x)
        begin = time.perf_counter()
        logits: Tensor = self.module(x)
        self.passes.seconds += time.perf_counter() - begin
        if logits.requires_grad and torch.is_grad_enabled():
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def double_twin(self) -> nn.Module | None:
        """The model's twin in float64, whose passes count here; see `benchmark.twin.twin_of`."""
        twin = twin_of(self.module)
        return None if twin is None else _CountedTwin(self, twin)

    def _count_backward(self, gradient: Tensor) -> None:
        self.passes.backward += len(gradient)


class _CountedTwin(nn.Module):
    def __init__(self, counter: CountingModel, twin: nn.Module) -> None:
        super().__init__()
        object.__setattr__(self, "counter", counter)  # no child: it is not a part of the twin
        self.counter: CountingModel
        self.twin = twin

    def forward(self, x: Tensor) -> Tensor:
        self.counter.passes.forward += len(x)
        logits: Tensor = self.twin(x)
        return logits
