"""ℓ₀, of values and of pixels: families of searches for the fewest changes, and what takes needless ones back.

A place is what counts as one: a value in ``l0``, a pixel with all its channels in ``l0_pixels``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.shrinking import cosine
from benchmark.threat import Norm, get_norm, norms_of

NORMS: Final[tuple[Norm, ...]] = ("l0", "l0_pixels")

_SMOOTH: Final = 1e-3
"""σ: a change is counted as δ² / (δ² + σ)."""
_THRESHOLD: Final = 0.3
"""First share of the largest change below which changes are set to 0; it follows success and failure."""
_PACE: Final = 0.01

_STEP: Final = (1.0, 0.01)
"""Length in l2 of a step of `project`, at the start and the end."""

_SHRINK: Final = (0.3, 0.01)
"""How fast its number of changes shrinks and grows, at the start and the end."""


_SWEPT: Final = 1024
"""Values that a sweep tries at most."""

_RIVALS: Final = 5
"""Classes that what it finds is followed for; of a batch of more values than `_LARGE`, one."""

_LARGE: Final = 10**7

_ERRORS: Final = 6.0
"""Of a randomised model: what verification asks for, and luck besides. Changes of whole places cannot be enlarged."""


class Fewest:
    """The example of each sample that changes the fewest places so far.

    Attributes:
        oracle: The model.
        x: Images, shape (n, c, h, w).
        y: Labels, shape (n,).
        norm: What counts as a place.
        best: The examples, shape of ``x``; the clean image where there is none.
        count: Changed places, shape (n,), ``inf`` where there is none.
        slopes: What single changes gain, shape of ``x``, where there is no gradient to rank them by (see `sweep`).
        first: The first example of each sample, shape of ``x``: of a randomised model the one with the fewest changes
            may be one by luck.
    """

    def __init__(self, oracle: Oracle, x: Tensor, y: Tensor, norm: Norm, *, start: Tensor | None = None) -> None:
        self.oracle, self.x, self.y, self.norm = oracle, x, y, norm
        oracle.errors = _ERRORS
        self.best, self.first = x.clone(), x.clone()
        self.count = torch.full((len(x),), torch.inf, device=x.device)
        self.slopes: Tensor | None = None
        if start is not None:
            self.offer(start, oracle.margins(start, y))

    @property
    def places(self) -> int:
        """Places of an image."""
        return self.x[0].numel() if self.norm == "l0" else self.x[0, 0].numel()

    def changed(self, images: Tensor) -> Tensor:
        """Which places of images differ from the clean ones, bool, shape (n, p)."""
        different = images != self.x
        return (different if self.norm == "l0" else different.any(dim=1)).flatten(1)

    def values(self, places: Tensor) -> Tensor:
        """Which values belong to places (m, p), bool, shape (m, c, h, w)."""
        return places.view(len(places), -1, *self.x.shape[2:]).expand(len(places), *self.x.shape[1:])

    def offer(self, images: Tensor, margin: Tensor) -> None:
        """Keep images, shape of ``x``, that are adversarial by their margins (n,) and change fewer places."""
        count = norms_of(images - self.x, self.norm)
        fewer = (margin > 0) & (count < self.count)
        if self.oracle.repeats > 1 and bool(fewer.any()):  # of so many trials some are lucky twice
            fewer &= self.oracle.margins(images, self.y) > 0
        new = fewer & torch.isinf(self.count)
        self.first[new] = images[new]
        self.best[fewer], self.count[fewer] = images[fewer], count[fewer]

    def size(self, images: Tensor) -> Tensor:
        """The largest change at each place, shape (n, 1 or c, h, w)."""
        delta = (images - self.x).abs()
        return delta if self.norm == "l0" else delta.amax(dim=1, keepdim=True)

    def sweep(self, generator: torch.Generator) -> Iterator[None]:
        """Try each value by itself, at 0 and at 1, of very many values some, and remember what that gains.

        So many passes are worth it where gradients are no guide.

        Yields:
            For each of the likeliest other classes, with `slopes` being what changes gain for that one.
        """
        rivals = self.oracle.ranked(self.x, self.y)[:, : _RIVALS if self.x.numel() < _LARGE else 1]
        before = self._leads(self.x, rivals)
        slopes = torch.zeros((rivals.shape[1], *self.x.shape), device=self.x.device)
        for place in torch.randperm(self.x[0].numel(), generator=generator, device=self.x.device)[:_SWEPT].tolist():
            mask = torch.zeros(self.x[0].numel(), dtype=torch.bool, device=self.x.device)
            mask[place] = True
            mask, rates = mask.view(self.x.shape[1:]), []
            for value in (0.0, 1.0):
                leads = self._leads(torch.where(mask, value, self.x), rivals)
                room = (value - self.x).abs().clamp(min=1e-3)
                rates.append((leads - before).T.view(-1, len(self.x), 1, 1, 1) / room)
            slopes = torch.where(mask, torch.where(rates[1] > rates[0], rates[1], -rates[0]), slopes)
        for self.slopes in slopes.unbind():
            yield

    def _leads(self, images: Tensor, rivals: Tensor) -> Tensor:
        """How far rivals (n, r) lead the label, shape (n, r); images whose class changes are offered."""
        logits = self.oracle.logits(images)
        leads = logits.gather(1, rivals) - logits.gather(1, self.y[:, None])
        if bool((leads > 0).any()):
            self.offer(images, self.oracle.margins(images, self.y))
        return leads

    def gradient(self, rows: Tensor, images: Tensor) -> Tensor:
        """What changes of images (m, c, h, w) of the samples ``rows`` (m,) promise to gain; the same shape."""
        if self.slopes is not None:
            return self.slopes[rows]
        return self.oracle.gradients(images, self.y[rows])[1].view_as(images)

    def take_back(self) -> None:
        """Undo one change after the other, the smallest first, where the example holds without it."""
        found = torch.isfinite(self.count)
        if not bool(found.any()):
            return
        size = self.size(self.best).flatten(1)
        order = torch.where(size > 0, size, torch.inf).argsort(dim=1)
        for k in range(int(self.count[found].max())):
            undone = torch.zeros_like(size, dtype=torch.bool).scatter_(1, order[:, k : k + 1], value=True)
            tried = torch.where(self.values(undone), self.x, self.best)
            self.offer(tried, self.oracle.margins(tried, self.y))

    def pushed(self) -> Tensor:
        """The examples with every change made as large as the box allows: then fewer may be enough."""
        return torch.where(self.best > self.x, 1.0, torch.where(self.best < self.x, 0.0, self.x))


def smooth(fewest: Fewest, *, steps: int) -> None:
    """σ-zero (Cinà et al. 2024, arXiv:2402.01879, algorithm 1): descent on the margin's hinge plus a smooth count.

    Normalised gradients, Adam, a cosine step, and a threshold that rises on success. In ``l0_pixels`` the count and the
    threshold are of a pixel's length over its channels, so that pixels, not values, become few.
    """
    x, norm = fewest.x, fewest.norm
    delta, mean, square = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
    threshold = torch.full((len(x), 1, 1, 1), _THRESHOLD, device=x.device)
    for k in range(steps):
        margin, gradient = fewest.oracle.gradients(x + delta, fewest.y)
        fewest.offer(x + delta, margin)
        adversarial = (margin > 0).view(-1, 1, 1, 1)
        rate = cosine((1.0, 0.0), k, steps + 1)
        slope = torch.where(adversarial, 0.0, -gradient.view_as(x)) + _count_slope(delta, norm)
        slope = slope / slope.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-30)
        mean.lerp_(slope, 0.1)
        square.lerp_(slope.square(), 0.001)
        step = (mean / (1 - 0.9 ** (k + 1))) / ((square / (1 - 0.999 ** (k + 1))).sqrt() + 1e-8)
        delta = (x + delta - rate * step).clamp_(0, 1) - x
        threshold = (threshold + torch.where(adversarial, 1.0, -1.0) * _PACE * rate).clamp(0, 1)
        delta = torch.where(fewest.size(x + delta) < threshold, 0.0, delta)
    fewest.offer(x + delta, fewest.oracle.margins(x + delta, fewest.y))


def _count_slope(delta: Tensor, norm: Norm) -> Tensor:
    """Gradient of the smooth count, divided by the number of values."""
    length = delta.square() if norm == "l0" else delta.square().sum(dim=1, keepdim=True)
    return 2 * delta * _SMOOTH / (length + _SMOOTH).square() / delta[0].numel()


def project(fewest: Fewest, *, steps: int) -> None:
    """FMN (Pintor et al. 2021, arXiv:2102.12827, algorithm 1, p = 0): gradient steps, only the largest changes kept.

    Their number follows success and failure, and is at least one less than the best.
    """
    x, delta = fewest.x, torch.zeros_like(fewest.x)
    places = fewest.places
    budget = torch.full((len(x),), float(places), device=x.device)
    for k in range(steps):
        margin, gradient = fewest.oracle.gradients(x + delta, fewest.y)
        fewest.offer(x + delta, margin)
        pace = cosine(_SHRINK, k, steps)
        fewer = torch.minimum(torch.minimum(budget - 1, (budget * (1 - pace)).floor()), fewest.count - 1)
        more = torch.minimum(torch.maximum(budget + 1, (budget * (1 + pace)).floor()), fewest.count - 1)
        budget = torch.where(margin > 0, fewer, more).clamp(1, places)
        step = normalize(gradient, eps=1e-30).view_as(x) * cosine(_STEP, k, steps)
        delta = get_norm(fewest.norm).project_((x + delta + step).clamp_(0, 1) - x, budget)
    fewest.offer(x + delta, fewest.oracle.margins(x + delta, fewest.y))


def greedy(fewest: Fewest, start: Tensor, most: Tensor, *, looked_at: int) -> None:
    """Change one place after the other until the class changes: of several, the one that really gains most.

    After JSMA (Papernot et al. 2016, arXiv:1511.07528). A value goes to 0 or 1; a pixel's channels where the gradient
    points, all to 0 or all to 1.

    Args:
        fewest: What is known.
        start: Images to start from, shape of ``x``.
        most: Places that may differ from the clean image in the end, shape (n,).
        looked_at: Places that are tried at each step, the most promising by the gradient first.
    """
    current, changed = start.clone(), fewest.changed(start)
    margin = fewest.oracle.margins(current, fewest.y)
    while len(open_ := ((margin <= 0) & (changed.sum(dim=1) < most)).nonzero().squeeze(1)):
        image, reached, place = _step(fewest, open_, current[open_], changed[open_], looked_at)
        current[open_], margin[open_] = image, reached
        changed[open_, place] = True
    fewest.offer(current, margin)


def give_back(fewest: Fewest, start: Tensor, *, looked_at: int) -> None:
    """Undo one change after the other while the class stays changed: of several, the one that really loses least.

    The other way round than `greedy`; it sees what `Fewest.take_back`, which goes by size, does not.

    Args:
        fewest: What is known.
        start: Adversarial images, shape of ``x``.
        looked_at: Changes whose loss is tried at each step, the least by the gradient first.
    """
    current = start.clone()
    margin = fewest.oracle.margins(current, fewest.y)
    fewest.offer(current, margin)
    going = (margin > 0).nonzero().squeeze(1)
    while len(going):
        image, reached = _undone(fewest, going, current[going], fewest.changed(current)[going], looked_at)
        current[going], margin[going] = image, reached
        fewest.offer(current, margin)
        going = going[reached > 0]


def _undone(fewest: Fewest, rows: Tensor, current: Tensor, changed: Tensor, looked_at: int) -> tuple[Tensor, Tensor]:
    """Images (m, c, h, w) less the change whose loss leaves the largest margin, and these margins (m,)."""
    x, y = fewest.x[rows], fewest.y[rows]
    worth = fewest.gradient(rows, current) * (current - x)
    worth = (worth if fewest.norm == "l0" else worth.sum(dim=1)).flatten(1).masked_fill(~changed, torch.inf)
    ranked = worth.topk(min(looked_at, int(changed.sum(dim=1).max())), dim=1, largest=False).indices
    best = torch.full((len(current),), -torch.inf, device=current.device)
    image = current.clone()
    for candidate in ranked.unbind(dim=1):
        undone = changed & torch.zeros_like(changed).scatter_(1, candidate[:, None], value=True)
        tried = torch.where(fewest.values(undone), x, current)
        margin = fewest.oracle.margins(tried, y).where(undone.any(dim=1), -torch.inf)
        better = margin > best
        best, image = torch.where(better, margin, best), torch.where(better.view(-1, 1, 1, 1), tried, image)
    return image, best


def _step(
    fewest: Fewest, rows: Tensor, current: Tensor, changed: Tensor, looked_at: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The change of one place that leaves the largest margin: images, margins (m,), places (m,)."""
    y, slope = fewest.y[rows], fewest.gradient(rows, current)
    gain = torch.where(slope > 0, slope * (1 - current), -slope * current)
    gain = (gain if fewest.norm == "l0" else gain.sum(dim=1)).flatten(1).masked_fill(changed, -1.0)
    ranked = gain.topk(min(looked_at, gain.shape[1]), dim=1).indices
    towards = (slope > 0).to(current.dtype)
    best = torch.full((len(current),), -torch.inf, device=current.device)
    image, place = current.clone(), ranked[:, 0].clone()
    for candidate in ranked.unbind(dim=1):
        mask = fewest.values(torch.zeros_like(changed).scatter_(1, candidate[:, None], value=True))
        for value in (towards, 1 - towards) if current.shape[1] == 1 else (towards, 0.0, 1.0):
            tried = torch.where(mask, value, current)
            margin = fewest.oracle.margins(tried, y)
            better = margin > best
            best, place = torch.where(better, margin, best), torch.where(better, candidate, place)
            image[better] = tried[better]
    return image, best, place
