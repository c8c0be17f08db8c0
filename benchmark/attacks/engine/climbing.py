"""Random searches that need forward passes alone: a proposal is kept where it raises the margin."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.attacks.engine.oracle import Oracle
from benchmark.attacks.engine.rows import Rows
from benchmark.threat import Norm


def climb(oracle: Oracle, rows: Rows, norm: Norm, *, steps: int, propose: Callable[[Tensor, float], Tensor]) -> None:
    """Leave the perturbation of the largest margin in `Rows.delta`, as it was proposed, before the box cuts it.

    Args:
        oracle: The model; only forward passes are made.
        rows: The searches; `Rows.delta` is where they start.
        norm: The norm to be small.
        steps: Forward passes, one more than proposals.
        propose: From what is kept, shape (m, d), and the part of the steps that is done, to new perturbations of as
            many rows, within the same radius, so that margins can be compared.
    """
    kept, score = rows.delta, None
    for k in range(steps):
        proposal = kept if score is None else propose(kept, k / steps)
        rows.delta = proposal.clone()
        margin = oracle.margins(rows.images(), rows.y)
        rows.offer(margin, norm)
        if score is None:
            score = margin
            continue
        better = margin > score
        score = torch.where(better, margin, score)
        kept = torch.where(better[:, None], proposal, kept)
    rows.delta = kept
