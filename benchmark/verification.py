"""The one place where adversarial examples are believed.

Nothing an attack, AutoAttack, a solver or a stranger claims enters a curve or the ledger before `verify` has
re-checked it: finite, in the box, label changed by the model in eval mode, distance measured again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.errors import InputError
from benchmark.threat import NORMS, Norm, distances, in_box

SLACK: Final = 2.0**-18
"""How far, relative to the largest absolute logit, another class must lead the label's.

float32 logits of one image differ by about 1e-6 between batch sizes and machines. An example whose lead is
smaller than this could be refuted by re-checking it elsewhere, so it proves nothing.
"""

REASONS: Final = (
    "holds",
    "not finite",
    "outside the box [0, 1]",
    "the label does not change",
    "the label changes only within floating-point slack",
)


@dataclass(frozen=True)
class Verification:
    """What re-checking found.

    Attributes:
        distances: For each norm the distance of each sample, shape (n,), float64, on the CPU: 0 where the clean image
            is misclassified, ``inf`` where the candidate does not hold.
        holds: Candidates that are adversarial examples, shape (n,), bool. A misclassified clean image needs none and
            has ``False``.
        reason: Index into `REASONS` for each candidate, shape (n,), int64.
        correct: Whether the clean image is classified correctly, shape (n,), bool.
    """

    distances: dict[Norm, Tensor]
    holds: Tensor
    reason: Tensor
    correct: Tensor


def verify(model: nn.Module, x: Tensor, y: Tensor, candidates: Tensor, *, batch_size: int = 500) -> Verification:
    """Re-check candidate adversarial examples with forward passes only.

    Args:
        model: Classifier of images in [0, 1]; it is put into eval mode for the check.
        x: Clean images, shape (n, c, h, w), float32.
        y: Labels, shape (n,), int64.
        candidates: Claimed adversarial examples, shape of ``x``; a row that is none is any row that does not hold.
        batch_size: Images a forward pass.

    Returns:
        The verdict for each sample.

    Raises:
        InputError: If the shapes or types do not fit together, or the model's logits on a clean image are not finite:
            a crash of the machinery is never read as robustness.
    """
    if candidates.shape != x.shape:
        raise InputError(
            f"Candidates have shape {tuple(candidates.shape)}, the images {tuple(x.shape)}; they must be equal."
        )
    if candidates.dtype != torch.float32:
        raise InputError(f"Candidates are {candidates.dtype}; adversarial examples are stored and checked as float32.")
    was_training = model.training
    model.eval()
    finite = torch.isfinite(candidates.flatten(1)).all(dim=1)
    boxed = in_box(candidates)
    shown = torch.where(boxed.view(-1, *[1] * (x.ndim - 1)), candidates, x)
    changed, clear, correct = [], [], []
    try:
        with torch.no_grad():
            for i in range(0, len(x), batch_size):
                labels = y[i : i + batch_size]
                clean = model(x[i : i + batch_size])
                _refuse_non_finite(clean, first=i)
                logits = model(shown[i : i + batch_size])
                correct.append(clean.argmax(dim=1) == labels)
                lead = _lead(logits, labels)
                changed.append(lead > 0)
                clear.append(lead > SLACK * logits.abs().amax(dim=1))
    finally:
        model.train(was_training)
    is_changed, is_clear, is_correct = torch.cat(changed), torch.cat(clear), torch.cat(correct)
    reason = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    reason[~is_clear] = 4
    reason[~is_changed] = 3
    reason[~boxed] = 2
    reason[~finite] = 1
    holds = (reason == 0) & is_correct
    measured = {}
    for norm in NORMS:
        d = distances(x, shown, norm)
        d[~holds] = torch.inf
        d[~is_correct] = 0.0
        measured[norm] = d.cpu()
    return Verification(measured, holds.cpu(), reason.cpu(), is_correct.cpu())


def _lead(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the best other class leads the label's logit; shape (n,). NaN logits lead nowhere."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


def _refuse_non_finite(logits: Tensor, *, first: int) -> None:
    bad = ~torch.isfinite(logits).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"The model gives logits that are not finite on {int(bad.sum())} clean images of this batch, "
            f"first on image {first + row}: {logits[row].tolist()}. Repair the model before evaluating it."
        )
