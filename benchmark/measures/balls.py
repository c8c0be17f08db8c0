"""Parameters of measures that search a ball around each image by gradient steps, and the searches they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.errors import InputError
from benchmark.measures import Task
from benchmark.results import Work
from benchmark.threat.ascent import DenseNorm, ascend, noise


@dataclass(frozen=True)
class BallParameters:
    """A ball, and how it is searched.

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: Its radius.
        steps: Of the search, of size 2.5·eps / steps each.
    """

    norm: DenseNorm = "linf"
    eps: float = 8 / 255
    steps: int = 10

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise InputError(f"norm is {self.norm!r}; a ball is searched by gradient steps in linf or l2.")
        if not 0 < self.eps < math.inf or self.steps < 1:
            raise InputError(f"eps is {self.eps}, steps {self.steps}; needed are a finite eps > 0 and at least 1 step.")

    @property
    def work(self) -> Work:
        """A pass before, one after, and forward and backward passes for the steps between."""
        return Work(forward=self.steps + 2, backward=self.steps + 1, steps=self.steps + 2, operations=30)


def most_loss(model: nn.Module, task: Task, ball: BallParameters) -> Tensor:
    """Images in the ball with a large cross-entropy, shape of ``task.x``: PGD (arXiv:1706.06083), started at random."""
    return search(lambda x: functional.cross_entropy(model(x), task.y, reduction="sum"), task, ball)


def search(loss: Callable[[Tensor], Tensor], task: Task, ball: BallParameters) -> Tensor:
    """Images in the ball with a large loss; see `benchmark.threat.ascent.ascend`."""
    generator = torch.Generator().manual_seed(task.seed)
    start = noise(task.x, generator)
    step = 2.5 * ball.eps / ball.steps
    with torch.enable_grad():
        return ascend(loss, task.x, start, norm=ball.norm, eps=ball.eps, step=step, steps=ball.steps)
