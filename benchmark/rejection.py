"""Models that may abstain: one logit more than there are classes, the last one, says «I reject this image».

How they are judged is Tramèr's robust risk with detection (2022, arXiv:2107.11630): a clean image that is
rejected is not classified correctly; of a perturbed image the attacker succeeds only where the model gives it a wrong
class and does *not* reject it. So the label is defended by two logits, its own and the last one, and a rival must lead
both of them. The last logit is never a target.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from benchmark.errors import UnsupportedModelError

ACCOUNTING: Final = (
    "A perturbed image is adversarial only where it is given a wrong class and not rejected, so its curve is no "
    "ordinary one: whatever withstands ε with rejection stands for an ordinary classifier that withstands ε/2 (Tramèr "
    "2022, arXiv:2107.11630)."
)
"""How a model that may reject is judged, in words."""


def rejects(model: nn.Module) -> bool:
    """Whether the last logit of a model rejects: it, or a module in it, says so by the attribute ``rejects = True``.

    A number or a tensor of one value says it as well; a method of that name says nothing.
    """
    said = (getattr(module, "rejects", False) for module in model.modules())
    return any(not callable(value) and bool(value) for value in said)


def without_rejection(logits: Tensor, *, reject: bool) -> Tensor:
    """The logits of the classes alone, of logits (n, k) or (n, k + 1)."""
    return logits[:, :-1] if reject else logits


def predicted(logits: Tensor, *, reject: bool) -> Tensor:
    """The class that logits (n, k), or (n, k + 1), give each image, -1 where it is rejected; shape (n,), int64."""
    best = logits.argmax(dim=1)
    return torch.where(best == logits.shape[1] - 1, -1, best) if reject else best


def defender(logits: Tensor, labels: Tensor, *, reject: bool) -> Tensor:
    """Which logit a rival of the label must lead: the label's, or the rejecting one where that is larger; shape (n,).

    Args:
        logits: Shape (n, k), or (n, k + 1) with the rejecting one last.
        labels: Shape (n,).
        reject: Whether there is a rejecting one.
    """
    if not reject:
        return labels
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return torch.where(logits[:, -1] > own, logits.shape[1] - 1, labels)


def rivals_only(leads: Tensor, labels: Tensor, *, reject: bool) -> Tensor:
    """Values of each class (n, k), or (n, k + 1), in place: ``-inf`` where it is no rival of the label (n,)."""
    leads.scatter_(1, labels[:, None], -torch.inf)
    if reject:
        leads[:, -1] = -torch.inf
    return leads


def seen_rejecting(logits: Tensor, labels: Tensor) -> tuple[float, str, str]:
    """The share of clean images, of logits (n, k + 1), that are rejected, its unit, and what that means."""
    given = predicted(logits, reject=True)
    rejected, right = int((given < 0).sum()), int((given == labels).sum())
    share = rejected / len(labels)
    message = (
        f"It rejects {share:.1%} of {len(labels)} clean images, which count as not correct, and is right on "
        f"{right / max(1, len(labels) - rejected):.1%} of the others. {ACCOUNTING}"
    )
    return share, "share", message


def refuse_rejection(model: nn.Module, what: str) -> None:
    """Refuse a model that may reject where no meaning of a figure is stated for it.

    Args:
        model: The classifier.
        what: The figure.

    Raises:
        UnsupportedModelError: Naming it.
    """
    if rejects(model):
        raise UnsupportedModelError(f"The model may reject images; what {what} would mean then is not stated.")
