"""Counts passes by their batch size, and times bare passes of the same sizes: the physical limit of a search."""

from __future__ import annotations

import copy
import time
from collections import Counter, defaultdict
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.counting import CountingModel

Kind = Literal["forward", "graph", "backward"]
"""A forward pass without a graph, one that records it, and the pass back from the logits to the images."""

_EVERY: Final = 16
"""Calls of the model for each one beside which a bare pass is timed."""


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


class Meter(CountingModel):
    """A `CountingModel` that also remembers how large each pass was, and times bare passes in between.

    A machine's speed changes from second to second, by a fifth and more on shared ones, and bare passes timed after a
    search met another speed than the search did. So a copy of the model is passed bare beside every sixteenth call, on
    the same images, twice: what is timed is the second time, when the copy's weights are in the caches.

    Attributes:
        sizes: For each kind of pass, batch size -> passes.
        timings: For each kind of pass, batch size -> seconds of each bare pass that was timed.
        paused: Seconds spent on bare passes, by the clock; not the search's.
        paused_wall: The same in wall time.
    """

    def __init__(self, module: nn.Module, clock: Clock) -> None:
        super().__init__(module)
        # A method, not a module: what is done to this model's modules, as by the engine, is not done to the copy.
        self.bare = copy.deepcopy(module).requires_grad_(False).eval().__call__
        self.clock = clock
        self.sizes: dict[Kind, Counter[int]] = {"forward": Counter(), "graph": Counter(), "backward": Counter()}
        self.timings: dict[Kind, dict[int, list[float]]] = {kind: defaultdict(list) for kind in self.sizes}
        self.paused = self.paused_wall = 0.0
        self._calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``x``, counted."""
        graph = x.requires_grad and torch.is_grad_enabled()
        self._calls += 1
        if self._calls % _EVERY == 0:
            self._pause(x, graph=graph)
        logits = super().forward(x)
        self.sizes["graph" if graph else "forward"][len(x)] += 1
        return logits

    def bare_seconds(self, x: Tensor) -> float:
        """Seconds that the counted passes take if nothing but the model runs.

        Args:
            x: Images for bare passes of a kind that none was timed of, as there were few calls.
        """
        total = 0.0
        for kind, counted in self.sizes.items():
            if counted and not self.timings[kind]:
                most = max(counted)
                self._pause(x.repeat(-(-most // len(x)), *[1] * (x.ndim - 1))[:most], graph=kind != "forward")
            timed = sorted((size, float(np.mean(seconds))) for size, seconds in self.timings[kind].items())
            for size, number in counted.items():
                total += number * float(np.interp(size, *zip(*timed, strict=True)))
        return total

    def _count_backward(self, gradient: Tensor) -> None:
        super()._count_backward(gradient)
        self.sizes["backward"][len(gradient)] += 1

    def _pause(self, x: Tensor, *, graph: bool) -> None:
        begin, wall = self.clock.now(), time.perf_counter()
        images = x.detach().clone()
        for _ in range(2):
            timed = self._back_and_forth(images) if graph else self._forth(images)
        for kind, seconds in timed.items():
            self.timings[kind][len(x)].append(seconds)
        self.paused += self.clock.now() - begin
        self.paused_wall += time.perf_counter() - wall

    def _forth(self, images: Tensor) -> dict[Kind, float]:
        begin = self.clock.now()
        with torch.no_grad():
            self.bare(images)
        return {"forward": self.clock.now() - begin}

    def _back_and_forth(self, images: Tensor) -> dict[Kind, float]:
        leaf = images.requires_grad_()
        begin = self.clock.now()
        with torch.enable_grad():
            top = self.bare(leaf).sum()
        between = self.clock.now()
        torch.autograd.grad(top, leaf)
        return {"graph": between - begin, "backward": self.clock.now() - between}
