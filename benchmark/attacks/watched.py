"""A model that notes when it is first shown an adversarial example of each sample within one ε, whoever attacks it.

So the strength of any attack, a plug-in's too, is known at every amount of work from one run: nothing is asked of the
attack, and it is not told that it is watched.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.errors import BenchmarkError
from benchmark.rejection import predicted, rejects
from benchmark.threat import Norm, get_norm, in_box
from benchmark.threat.budget import limit, within
from benchmark.twin import twin_of
from benchmark.verification import verify


class EnoughError(BenchmarkError):
    """Raised through an attack when there is nothing more to see: no failure."""

    def __init__(self) -> None:
        super().__init__("Every sample is broken, or the budget is spent.")


class Seen:
    """What a `WatchedModel` has noted.

    Attributes:
        shown: Images that the model was shown, all samples together.
        work: How many of them, a sample on average, until the first example of each sample, shape (n,), float64;
            ``inf`` where none was seen.
        examples: These examples, shape (n, c, h, w); the clean image where none was seen.
    """

    def __init__(self, x: Tensor) -> None:
        self.shown = 0
        self.work = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        self.examples = x.clone()


class WatchedModel(nn.Module):
    """A classifier that notes what it is shown.

    Work is counted for all samples together, as attacks work on all at once: a call is paid as a whole, whatever comes
    first in it. Images of the pool are not counted, which attacks look at once for all samples. An example counts for
    every sample that it is within ε of, when verification believes it; what that takes is not counted.

    Args:
        model: Images -> logits.
        x: Clean images that it classifies correctly, shape (n, c, h, w).
        y: Their labels, shape (n,).
        norm: The norm of the budget.
        eps: The budget.
        most: Images a sample on average after which `EnoughError` is raised, as it is when no sample is left.
        after: Whether work is what was shown before the example (gradient steps, which end there), or it too (queries).
        pool: Images that are not counted, shape (m, c, h, w).
    """

    def __init__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, norm: Norm, eps: float, most: int, after: bool, pool: Tensor
    ) -> None:
        super().__init__()
        self.model = model
        self.seen = Seen(x)  # an object of its own: an attack's changes of the model's attributes are put back
        self._x, self._y, self._norm, self._eps, self._most, self._after = x, y, norm, eps, most, after
        drawn = torch.Generator().manual_seed(0)
        self._factors = torch.randint(1 << 40, (x[0].numel(),), generator=drawn).to(x.device) * 2 + 1
        prints = self._prints(pool)
        self._pool = prints[~torch.isin(prints, self._prints(x))]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``x``, noted."""
        logits: Tensor = self.model(x)
        with torch.no_grad():
            self._note(x.detach(), logits.detach())
        return logits

    def double_twin(self) -> nn.Module | None:
        """The model's twin in float64; see `benchmark.twin.twin_of`. What it is shown is not noted: it is a check."""
        return twin_of(self.model)

    def _note(self, images: Tensor, logits: Tensor) -> None:
        seen, n = self.seen, len(self._x)
        before = seen.shown
        seen.shown += len(images) - int(torch.isin(self._prints(images), self._pool).sum())
        work = max(before // n if self._after else -(-seen.shown // n), 1)
        if work <= self._most:
            self._look(images.float(), logits.float(), work)
        if seen.shown >= n * self._most or not bool(torch.isinf(seen.work).any()):
            raise EnoughError

    def _look(self, images: Tensor, logits: Tensor, work: int) -> None:
        """Note the images that are examples of samples that have none: of each sample the one with the largest lead."""
        left = torch.isinf(self.seen.work).nonzero().squeeze(1)
        given = predicted(logits, reject=rejects(self.model))
        labels = self._y[left]
        wrong = (given[None, :] != labels[:, None]) & (given >= 0)[None, :] & in_box(images)[None, :]
        some = wrong.any(dim=0).nonzero().squeeze(1)
        if not len(some):
            return
        apart = get_norm(self._norm).pairwise(self._x[left], images[some])
        near = wrong[:, some] & (apart.double() <= limit(self._eps) * (1 + 1e-6))  # measured again below
        lead = logits[some].amax(dim=1)[None, :] - logits[some][:, labels].T
        best = lead.masked_fill_(~near, -torch.inf).max(dim=1)
        sample, image = left[near.any(dim=1)], images[some[best.indices[near.any(dim=1)]]]
        if not len(sample):
            return
        checked = verify(self.model, self._x[sample], self._y[sample], image)
        believed = torch.from_numpy(within(checked.distances[self._norm], self._eps) & checked.holds.numpy())
        mine = believed.to(sample.device).nonzero().squeeze(1)
        self.seen.work[sample[mine]] = float(work)
        self.seen.examples[sample[mine]] = image[mine]

    def _prints(self, images: Tensor) -> Tensor:
        """A number that images of the same bits share, and by all likelihood no others; shape (n,), int64."""
        return (images.flatten(1).float().contiguous().view(torch.int32).long() * self._factors).sum(dim=1)
