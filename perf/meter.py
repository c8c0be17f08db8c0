"""Counts passes by their batch size, and times bare passes of the same sizes: the physical limit of a search."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.counting import CountingModel

_SIZES = 12
"""Batch sizes that are timed; the time at another one is interpolated."""

_BUDGET = 0.25
"""Seconds for the repetitions at one batch size."""


class Meter(CountingModel):
    """A `CountingModel` that also remembers how large each pass was.

    Attributes:
        forward_sizes: Batch size -> forward passes without a graph.
        graph_sizes: Batch size -> forward passes that recorded a graph.
        backward_sizes: Batch size -> backward passes.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.forward_sizes: Counter[int] = Counter()
        self.graph_sizes: Counter[int] = Counter()
        self.backward_sizes: Counter[int] = Counter()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``x``, counted."""
        logits = super().forward(x)
        recorded = logits.requires_grad and torch.is_grad_enabled()
        (self.graph_sizes if recorded else self.forward_sizes)[len(x)] += 1
        if recorded:
            logits.register_hook(self._count_size)  # type: ignore[no-untyped-call]
        return logits

    def _count_size(self, gradient: Tensor) -> None:
        self.backward_sizes[len(gradient)] += 1


class Clock:
    """Seconds of work: processor time on the CPU, which neighbours on the machine do not change; wall time on a GPU."""

    def __init__(self, device: str) -> None:
        self.device = device

    def now(self) -> float:
        """The time, after everything asked for has been done."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


def bare_seconds(meter: Meter, x: Tensor, clock: Clock) -> float:
    """Seconds that the counted passes take if nothing but the model runs.

    Args:
        meter: What was counted.
        x: Images to pass; repeated where a batch was larger.
        clock: How to time.
    """
    counts = (meter.forward_sizes, meter.graph_sizes, meter.backward_sizes)
    sizes = sorted(set().union(*counts))
    if not sizes:
        return 0.0
    if len(sizes) > _SIZES:
        sizes = sorted({int(size) for size in np.geomspace(sizes[0], sizes[-1], _SIZES)})
    times = np.array([_pass_seconds(meter.module, _batch(x, size), clock) for size in sizes])
    return float(
        sum(
            number * np.interp(size, sizes, times[:, kind])
            for kind, counted in enumerate(counts)
            for size, number in counted.items()
        )
    )


def _batch(x: Tensor, size: int) -> Tensor:
    return x.repeat(-(-size // len(x)), *[1] * (x.ndim - 1))[:size].clone()


def _pass_seconds(model: nn.Module, x: Tensor, clock: Clock) -> tuple[float, float, float]:
    """Median seconds of a forward pass, of one that records a graph, and of a backward pass to the input."""
    plain: list[float] = []
    graph: list[float] = []
    back: list[float] = []
    end = time.perf_counter() + _BUDGET
    while len(plain) < 5 or (time.perf_counter() < end and len(plain) < 200):
        begin = clock.now()
        with torch.no_grad():
            model(x)
        plain.append(clock.now() - begin)
        leaf = x.detach().requires_grad_()
        begin = clock.now()
        top = model(leaf).sum()
        graph.append(clock.now() - begin)
        begin = clock.now()
        torch.autograd.grad(top, leaf)
        back.append(clock.now() - begin)
    return float(np.median(plain)), float(np.median(graph)), float(np.median(back))
