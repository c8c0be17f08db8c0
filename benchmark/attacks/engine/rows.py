"""The state of many searches at once: one row a search, several rows a sample."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from benchmark.threat import Norm, norms_of
from benchmark.threat.rowwise import as_array, where

_OF_ROWS: Final = ("sample", "x", "y", "target", "delta", "best", "distance")


class Rows:
    """Searches that run side by side, each for one sample, from one start, for one target.

    Attributes:
        sample: Index of each row's sample, shape (m,), int64.
        shape: Shape of one image, (c, h, w).
        x: Clean images, shape (m, d).
        y: Labels, shape (m,).
        target: Target class of each row, -1 for the best other class, shape (m,).
        delta: Current perturbations, shape (m, d).
        best: Perturbation of the nearest adversarial example each row has met, shape (m, d).
        distance: Its norm, shape (m,), ``inf`` where none was met.
    """

    def __init__(
        self,
        sample: Tensor,
        images: Tensor,
        labels: Tensor,
        *,
        start: Tensor | None = None,
        target: Tensor | None = None,
    ) -> None:
        self.sample = sample
        self.shape = images.shape[1:]
        self.x = images.flatten(1)[sample]
        self.y = labels[sample]
        self.target = torch.full_like(sample, -1) if target is None else target
        self.delta = torch.zeros_like(self.x) if start is None else start.flatten(1) - self.x
        self.best = self.delta.clone()
        self.distance = torch.full((len(sample),), torch.inf, device=images.device)

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width of one image; of a vector (d,) one row of pixels."""
        return (self.shape[-2], self.shape[-1]) if len(self.shape) > 1 else (1, self.shape[-1])

    def nearest(self, count: int) -> Rows:
        """Of each sample's rows the ``count`` that have come nearest, going on from their best examples."""
        by_distance = self.distance.argsort(stable=True)
        order = by_distance[self.sample[by_distance].argsort(stable=True)]
        sample = self.sample[order]
        position = torch.arange(len(order), device=order.device)
        first = torch.ones_like(sample, dtype=torch.bool)
        first[1:] = sample[1:] != sample[:-1]
        rank = position - torch.where(first, position, 0).cummax(dim=0).values
        chosen = self[order[(rank < count) & torch.isfinite(self.distance[order])]]
        chosen.delta = chosen.best.clone()
        return chosen

    def __getitem__(self, these: Tensor) -> Rows:
        """Some of the rows, by a mask (m,) or their indices; all of them are the rows themselves."""
        if these.dtype == torch.bool and bool(these.all()):
            return self
        chosen = copy.copy(self)
        for name in _OF_ROWS:
            setattr(chosen, name, getattr(self, name)[these])
        return chosen

    def __add__(self, other: Rows) -> Rows:
        """The rows of both."""
        both = copy.copy(self)
        for name in _OF_ROWS:
            setattr(both, name, torch.cat([getattr(self, name), getattr(other, name)]))
        return both

    def images(self) -> Tensor:
        """The current images, clamped to the box; shape (m, c, h, w). `delta` is brought in line with them."""
        return self.clip_().view(-1, *self.shape)

    def clip_(self) -> Tensor:
        """Bring `delta` inside the box; returns the images, shape (m, d)."""
        flat = (self.x + self.delta).clamp_(0, 1)
        torch.sub(flat, self.x, out=self.delta)
        return flat

    def offer(self, margin: Tensor, norm: Norm) -> Tensor:
        """Keep the current perturbations where they are adversarial and nearer than the best so far.

        Args:
            margin: Margins of `images`, shape (m,).
            norm: The norm to compare in.

        Returns:
            The norm of each current perturbation, shape (m,).
        """
        size = norms_of(self.delta, norm)
        lead, length, distance = as_array(margin), as_array(size), as_array(self.distance)
        (nearer,) = where((lead > 0) & (length < distance))
        if len(nearer):
            distance[nearer] = length[nearer]
            as_array(self.best)[nearer] = as_array(self.delta)[nearer]
        return size


@dataclass
class Best:
    """The nearest adversarial example of each sample so far, and the family that found it.

    Attributes:
        x: Clean images, shape (n, d).
        delta: Perturbations, shape (n, d).
        distance: Their norms, shape (n,), ``inf`` where there is none.
        origin: Index into the families' names, shape (n,), -1 where there is none.
        norm: The norm of ``distance``.
    """

    x: Tensor
    delta: Tensor
    distance: Tensor
    origin: Tensor
    norm: Norm

    @classmethod
    def empty(cls, x: Tensor, norm: Norm) -> Best:
        """No example yet for images of shape (n, ...)."""
        flat = x.flatten(1)
        n = len(flat)
        return cls(
            flat,
            torch.zeros_like(flat),
            torch.full((n,), torch.inf, device=x.device),
            torch.full((n,), -1, dtype=torch.int64, device=x.device),
            norm,
        )

    def images(self, x: Tensor, sample: Tensor | None = None) -> Tensor:
        """All images (n, ...), with the examples in the place of the samples (m,) that they are of; of all if None."""
        found = torch.isfinite(self.distance)
        images = x.clone()
        images[found if sample is None else sample[found]] = (
            (self.x + self.delta).clamp_(0, 1).view(-1, *x.shape[1:])[found]
        )
        return images

    def absorb(self, other: Best) -> None:
        """Take over the examples of another search of the same samples that are nearer."""
        nearer = other.distance < self.distance
        self.delta[nearer], self.distance[nearer] = other.delta[nearer], other.distance[nearer]
        self.origin[nearer] = other.origin[nearer]

    def merge(self, rows: Rows, family: int) -> None:
        """Take over every row's best example that is nearer, in this norm, than what is known of its sample."""
        self.take(rows.sample, rows.best, torch.isfinite(rows.distance), family)

    def take(self, sample: Tensor, delta: Tensor, adversarial: Tensor, family: int) -> None:
        """Take over perturbations (m, d) of the samples (m,), where ``adversarial`` (m,) says they are."""
        size = norms_of(delta, self.norm)
        size = torch.where(adversarial, size, torch.inf)
        nearest = torch.full_like(self.distance, torch.inf).scatter_reduce_(0, sample, size, "amin")
        wins = ((size <= nearest[sample]) & (size < self.distance[sample])).nonzero().squeeze(1)
        # Two equally near rows of one sample: either will do, and the assignments below must agree on which.
        row = torch.full_like(self.origin, -1).scatter_reduce_(0, sample[wins], wins, "amax")
        improved = (row >= 0).nonzero().squeeze(1)
        chosen = row[improved]
        self.delta[improved] = delta[chosen]
        self.distance[improved] = size[chosen]
        self.origin[improved] = family
