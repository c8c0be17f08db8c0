"""The one place where adversarial examples are believed.

Nothing an attack, AutoAttack, a solver or a stranger claims enters a curve or the ledger before `verify` has
re-checked it: finite, in the box, label changed by the model in eval mode, distance measured again.

A model whose output differs between two identical calls is *randomised*: the classifier that is judged is then the one
of its expected logits, and an example holds when the mean lead over repeated calls exceeds zero by three standard
errors. One lucky draw proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from benchmark.errors import InputError
from benchmark.modes import eval_mode
from benchmark.threat import Norm, distances, in_box, norm_names
from benchmark.twin import is_randomised

SLACK: Final = 2.0**-18
"""How far, relative to the largest absolute logit, another class must lead the label's.

float32 logits of one image differ by about 1e-6 between batch sizes and machines. An example whose lead is
smaller than this could be refuted by re-checking it elsewhere, so it proves nothing.
"""

REPEATS: Final = 20
"""Calls an image when a randomised model is verified."""

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
        randomised: Whether the model's output differs between two identical calls.
    """

    distances: dict[Norm, Tensor]
    holds: Tensor
    reason: Tensor
    correct: Tensor
    randomised: bool = False


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
    finite = torch.isfinite(candidates.flatten(1)).all(dim=1)
    boxed = in_box(candidates)
    shown = torch.where(boxed.view(-1, *[1] * (x.ndim - 1)), candidates, x)
    changed, clear, correct = [], [], []
    with eval_mode(model), torch.no_grad(), same_draws(x.device), full_precision():
        randomised = is_randomised(model, x[:batch_size])
        repeats = REPEATS if randomised else 1
        for i in range(0, len(x), batch_size):
            labels = y[i : i + batch_size]
            clean = torch.stack([model(x[i : i + batch_size]) for _ in range(repeats)])
            refuse_non_finite(clean[0], first=i)
            logits = torch.stack([model(shown[i : i + batch_size]) for _ in range(repeats)])
            correct.append(clean.mean(dim=0).argmax(dim=1) == labels)
            lead = mean_lead(logits, labels)
            changed.append(lead > 0)
            clear.append(lead > SLACK * logits.mean(dim=0).abs().amax(dim=1))
    is_changed, is_clear, is_correct = torch.cat(changed), torch.cat(clear), torch.cat(correct)
    reason = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    reason[~is_clear] = 4
    reason[~is_changed] = 3
    reason[~boxed] = 2
    reason[~finite] = 1
    holds = (reason == 0) & is_correct
    measured = {}
    for norm in norm_names():
        d = distances(x, shown, norm)
        d[~holds] = torch.inf
        d[~is_correct] = 0.0
        measured[norm] = d.cpu()
    return Verification(measured, holds.cpu(), reason.cpu(), is_correct.cpu(), randomised)


@contextmanager
def same_draws(device: torch.device, seed: int = 0) -> Iterator[None]:
    """Draw torch's random numbers from a seed while the block runs; the global random state is then put back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 convolutions and products as such: on CUDA, TF32 errs by 1e-3, which another machine refutes."""
    cudnn, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = cudnn, products


def mean_lead(logits: Tensor, labels: Tensor, *, errors: float = 3) -> Tensor:
    """How far the best other class leads the label, in the mean of repeated calls less some standard errors.

    Args:
        logits: Logits of each call, shape (calls, n, k); NaN logits lead nowhere.
        labels: Shape (n,).
        errors: How many standard errors of the mean are taken off; none of a single call.

    Returns:
        Shape (n,).
    """
    mean = logits.mean(dim=0)
    rival = mean.scatter(1, labels[:, None], -torch.inf).argmax(dim=1, keepdim=True)
    lead = mean.gather(1, rival) - mean.gather(1, labels[:, None])
    if len(logits) > 1:
        at = torch.cat([rival, labels[:, None]], dim=1).expand(len(logits), -1, -1)
        best, own = logits.gather(2, at).unbind(dim=2)
        lead = lead - errors * (best - own).std(dim=0, keepdim=True).T / len(logits) ** 0.5
    return lead.squeeze(1)


def refuse_non_finite(logits: Tensor, *, first: int) -> None:
    """Raise `InputError` where the logits (n, k) of clean images, the first of index ``first``, are not finite."""
    bad = ~torch.isfinite(logits).all(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise InputError(
            f"The model gives logits that are not finite on {int(bad.sum())} clean images of this batch, "
            f"first on image {first + row}: {logits[row].tolist()}. Repair the model before evaluating it."
        )
